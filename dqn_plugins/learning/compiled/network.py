"""A policy's network and optimiser as flat arrays that torch and compiled code both see."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from dqn_plugins.learning.compiled import kernels
from dqn_plugins.policies import (
    AdaptiveObGD,
    KerasAdam,
    NormalizingQNetwork,
    ObGD,
    ObservationNormalizer,
    QNetwork,
    QPolicy,
    RewardNormalizer,
    RunningStatistics,
    StreamQPolicy,
    TraceAdam,
    TraceOptimizer,
)

__all__ = ["CompiledNetwork", "reason_against_compiling"]


@dataclass(frozen=True)
class _Optimizer:
    """An optimiser that compiled code can stand in for."""

    kind: int
    moments: tuple[str, ...] = ()
    required: tuple[tuple[str, Any], ...] = ()
    """Options that compiled code leaves out, with the value that turns each off."""


OPTIMIZERS: dict[type[th.optim.Optimizer], _Optimizer] = {
    th.optim.SGD: _Optimizer(
        kernels.SGD,
        required=(("weight_decay", 0), ("momentum", 0), ("nesterov", False), ("maximize", False)),
    ),
    th.optim.Adam: _Optimizer(
        kernels.ADAM,
        moments=("exp_avg", "exp_avg_sq"),
        required=(("weight_decay", 0), ("amsgrad", False), ("maximize", False)),
    ),
    KerasAdam: _Optimizer(kernels.KERAS_ADAM, moments=("exp_avg", "exp_avg_sq")),
    TraceAdam: _Optimizer(kernels.ADAM, moments=("exp_avg", "exp_avg_sq")),
    ObGD: _Optimizer(kernels.OBGD),
    AdaptiveObGD: _Optimizer(kernels.ADAPTIVE_OBGD, moments=("exp_avg_sq",)),
}


@dataclass(frozen=True)
class _Hidden:
    """What stands between two linear layers."""

    activation: int
    slope: float
    layer_norm_eps: float


class CompiledNetwork:
    """
    The weights and the optimiser's state of a policy in contiguous arrays.

    The policy's parameters and the tensors in the optimiser's state become views of these arrays:
    whoever changes one changes the other. Where they already lie one behind the other in memory,
    they stay where they are.

    :param policy: A policy that :func:`reason_against_compiling` has nothing against.
    """

    def __init__(self, policy: QPolicy) -> None:
        self.policy = policy
        self._parameters = list(policy.q_net.parameters())
        self._sizes = [param.numel() for param in self._parameters]
        self.weights = _bind_weights(self._parameters)
        self._bind_average()

        linear_layers = [layer for layer in policy.q_net.q_net if isinstance(layer, nn.Linear)]
        self.layers = np.zeros((len(linear_layers), 6), dtype=np.int64)
        weight = unit = 0
        for row, layer in zip(self.layers, linear_layers, strict=True):
            n_in, n_out = layer.in_features, layer.out_features
            row[:] = n_in, n_out, weight, weight + n_in * n_out, unit, unit + n_in
            weight += (n_in + 1) * n_out
            unit += n_in
        self.n_units = unit + linear_layers[-1].out_features

        hidden = _hidden_layers(policy.q_net.q_net)
        assert isinstance(hidden, _Hidden)
        self.arrays = (
            self.weights,
            self.layers,
            hidden.activation,
            float(hidden.slope),
            float(hidden.layer_norm_eps),
            *_statistics(policy),
        )
        self._normalizers = [
            module
            for module in policy.modules()
            if isinstance(module, (ObservationNormalizer, RewardNormalizer))
        ]
        self.traces = np.zeros((0, len(self.weights)), np.float32)
        self._bind_optimizer()
        self._remember()

    def _bind_average(self) -> None:
        policy = self.policy
        self.average, self.n_averaged, self.averaging_window = np.zeros(0, np.float32), _NONE, 0.0
        self._averages: list[th.Tensor] = []
        if isinstance(policy, StreamQPolicy) and policy.average_q_net is not None:
            assert policy.averaging_window is not None
            parameters = list(policy.average_q_net.parameters())
            self.average = _bind_weights(parameters)
            self.n_averaged = policy.n_averaged.numpy()
            self._averages = [*parameters, policy.n_averaged]
            self.averaging_window = float(policy.averaging_window)

    def _bind_optimizer(self) -> None:
        optimizer = self.policy.optimizer
        group, known = optimizer.param_groups[0], OPTIMIZERS[type(optimizer)]
        self.optimizer_kind = known.kind
        beta1, beta2 = group.get("betas", (0.0, group.get("beta2", 0.0)))
        self.betas = float(beta1), float(beta2)
        self.eps = float(group.get("eps", 0.0))
        self.overshoot_factor = float(group.get("overshoot_factor", 0.0))
        self.steps = self.exp_avg = self.exp_avg_sq = np.zeros(0, np.float32)
        if not known.moments:
            return
        states = [optimizer.state[param] for param in self._parameters]
        for param, state in zip(self._parameters, states, strict=True):
            state.setdefault("step", th.tensor(0.0))
            for name in known.moments:
                if name not in state:
                    state[name] = th.zeros_like(param.data)
        self.steps = self._bind_state("step")
        if "exp_avg" in known.moments:
            self.exp_avg = self._bind_state("exp_avg")
        self.exp_avg_sq = self._bind_state("exp_avg_sq")

    def _bind_state(self, name: str) -> np.ndarray:
        """
        Put one number or tensor per parameter of the optimiser's state into a contiguous array.

        :param name: Its key in the state.
        :return: The flat array.
        """
        states = [self.policy.optimizer.state[param] for param in self._parameters]
        flat, views = _make_contiguous([state[name] for state in states])
        for state, view in zip(states, views, strict=True):
            state[name] = view
        return flat

    def bind_traces(self, n_envs: int) -> None:
        """
        Put the eligibility traces of a :class:`TraceOptimizer` into one array, a row each.

        :param n_envs: Number of environments. Traces of another number are replaced by zeros.
        """
        optimizer = self.policy.optimizer
        assert isinstance(optimizer, TraceOptimizer)
        optimizer.keep_traces_for(n_envs)
        states = [optimizer.state[param] for param in self._parameters]
        traces = th.cat([state["trace"].reshape(n_envs, -1) for state in states], dim=1)
        for param, state, part in zip(
            self._parameters, states, th.split(traces, self._sizes, dim=1), strict=True
        ):
            state["trace"] = part.view(n_envs, *param.shape)
        self.traces = traces.numpy()
        self._remember()

    @property
    def learning_rate(self) -> float:
        """The optimiser's learning rate, which schedules and users change at any time."""
        return float(self.policy.optimizer.param_groups[0]["lr"])

    def is_current(self) -> bool:
        """
        Tell whether compiled code still works with what the policy holds.

        :return: False if somebody replaced the memory of a parameter, of the optimiser's state or
            of the running statistics, or changed one of the optimiser's numbers other than the
            learning rate.
        """
        return self._seen == self._look()

    def _remember(self) -> None:
        self._seen = self._look()

    def _look(self) -> tuple[list[int], list[Any]]:
        optimizer = self.policy.optimizer
        group = optimizer.param_groups[0]
        tensors = [
            *self._parameters,
            *self._averages,
            *(buffer for module in self._normalizers for buffer in module.buffers()),
            *(
                value
                for param in self._parameters
                for value in optimizer.state.get(param, {}).values()
                if isinstance(value, th.Tensor)
            ),
        ]
        return [tensor.data_ptr() for tensor in tensors], [
            group.get(name) for name in ("betas", "beta2", "eps", "overshoot_factor")
        ]


def reason_against_compiling(policy: QPolicy) -> str | None:
    """
    Tell why the compiled learner cannot work on a policy.

    :param policy: The policy.
    :return: The reason, with what would be needed instead; None if there is none.
    """
    if policy.device.type != "cpu":
        return f"the policy is on {policy.device}, it must be on the CPU"
    space = policy.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space):
        return f"observations are {space}, they must be a Box that is not an image"
    q_net = policy.q_net
    if type(q_net.features_extractor) is not FlattenExtractor:
        name = type(q_net.features_extractor).__name__
        return f"the features extractor is {name}, it must be FlattenExtractor"
    if type(q_net) not in (QNetwork, NormalizingQNetwork):
        return f"{type(q_net).__name__} computes its outputs in a way of its own"
    hidden = _hidden_layers(q_net.q_net)
    if isinstance(hidden, str):
        return hidden
    if any(p.dtype != th.float32 or not p.requires_grad for p in q_net.parameters()):
        return "some weights are not float32 or do not require gradients"
    return _reason_against_optimizer(policy)


def _reason_against_optimizer(policy: QPolicy) -> str | None:
    optimizer = policy.optimizer
    known = OPTIMIZERS.get(type(optimizer))
    if known is None:
        names = ", ".join(sorted({kind.__name__ for kind in OPTIMIZERS}))
        return f"the optimiser is {type(optimizer).__name__}, it must be one of {names}"
    groups = optimizer.param_groups
    parameters = list(policy.q_net.parameters())
    if len(groups) != 1 or [id(p) for p in groups[0]["params"]] != [id(p) for p in parameters]:
        return "the optimiser does not hold the network's weights in one group"
    if isinstance(groups[0]["lr"], th.Tensor):
        return "the learning rate is a tensor, it must be a float"
    for name, value in known.required:
        if groups[0][name] != value:
            return f"the optimiser's {name} is {groups[0][name]!r}, it must be {value!r}"
    return None


def _statistics(policy: QPolicy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Find the running statistics by which a policy normalises its observations.

    :param policy: The policy.
    :return: Views of their mean, squared deviations and count; empty if there are none.
    """
    if isinstance(policy, StreamQPolicy) and policy.q_net.observation_normalizer is not None:
        (statistics,) = policy.q_net.observation_normalizer.statistics.values()
        assert isinstance(statistics, RunningStatistics)
        return statistics_arrays(statistics)
    return _NONE, _NONE, _NONE


def statistics_arrays(statistics: RunningStatistics) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Show running statistics to compiled code.

    :param statistics: The statistics.
    :return: Flat float64 views of their mean, squared deviations and count.
    """
    return (
        statistics.mean.view(-1).numpy(),
        statistics.squared_deviations.view(-1).numpy(),
        statistics.count.numpy(),
    )


def _hidden_layers(network: nn.Sequential) -> _Hidden | str:
    """
    Read off what stands between the linear layers of a network.

    :param network: The network.
    :return: What stands there, or why it cannot be compiled.
    """
    modules = list(network)
    positions = [i for i, module in enumerate(modules) if isinstance(module, nn.Linear)]
    if not positions or positions[0] != 0 or positions[-1] != len(modules) - 1:
        return "the network does not begin and end with a linear layer"
    found = set()
    for start, end in pairwise(positions):
        between = modules[start + 1 : end]
        layer_norm_eps = -1.0
        if between and isinstance(norm := between[0], nn.LayerNorm):
            del between[0]
            if norm.elementwise_affine or len(norm.normalized_shape) != 1:
                return "layer normalisation has weights of its own, it must have none"
            layer_norm_eps = norm.eps
        if len(between) != 1:
            names = [type(module).__name__ for module in modules[start + 1 : end]]
            return f"between two linear layers there are {names}, not one activation function"
        if type(between[0]) is nn.Tanh:
            found.add(_Hidden(kernels.TANH, 0.0, layer_norm_eps))
        elif type(between[0]) is nn.ReLU:
            found.add(_Hidden(kernels.RECTIFIER, 0.0, layer_norm_eps))
        elif type(between[0]) is nn.LeakyReLU:
            found.add(_Hidden(kernels.RECTIFIER, between[0].negative_slope, layer_norm_eps))
        else:
            name = type(between[0]).__name__
            return f"the activation function is {name}, it must be ReLU, LeakyReLU or Tanh"
    if any(modules[position].bias is None for position in positions):
        return "a linear layer has no bias"
    if len(found) > 1:
        return "the hidden layers are not all alike"
    return found.pop() if found else _Hidden(kernels.RECTIFIER, 0.0, -1.0)


_NONE = np.zeros(0)


def _bind_weights(parameters: list[nn.Parameter]) -> np.ndarray:
    """
    Put parameters one behind the other in memory.

    :param parameters: The parameters, whose data become views of one array.
    :return: The flat array.
    """
    flat, views = _make_contiguous([param.data for param in parameters])
    for param, view in zip(parameters, views, strict=True):
        param.data = view
    return flat


def _make_contiguous(tensors: list[th.Tensor]) -> tuple[np.ndarray, list[th.Tensor]]:
    """
    Put tensors one behind the other in memory.

    :param tensors: Float32 tensors on the CPU.
    :return: A flat array over all of them, and the tensors as views of it: the given ones where
        they already lay like this.
    """
    sizes = [tensor.numel() for tensor in tensors]
    first = tensors[0]
    ends = np.cumsum(sizes)
    expected = first.data_ptr() + first.element_size() * (ends - sizes)
    if (
        all(tensor.is_contiguous() and tensor.dtype == th.float32 for tensor in tensors)
        and [tensor.data_ptr() for tensor in tensors] == expected.tolist()
        and len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    ):
        return first.as_strided((int(ends[-1]),), (1,)).numpy(), tensors
    flat = th.cat([tensor.detach().reshape(-1).to(th.float32) for tensor in tensors])
    views = [part.view(t.shape) for part, t in zip(th.split(flat, sizes), tensors, strict=True)]
    return flat.numpy(), views
