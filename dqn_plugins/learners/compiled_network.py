"""A policy's network and optimiser as flat arrays that torch and compiled code both see."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from dqn_plugins.learners import kernels
from dqn_plugins.policies import KerasAdam, QPolicy

__all__ = ["CompiledNetwork", "reason_against_compiling"]

OPTIMIZER_KINDS: dict[type[th.optim.Optimizer], int] = {
    th.optim.SGD: kernels.SGD,
    th.optim.Adam: kernels.ADAM,
    KerasAdam: kernels.KERAS_ADAM,
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
        self.optimizer = policy.optimizer
        linear_layers = [layer for layer in policy.q_net.q_net if isinstance(layer, nn.Linear)]
        hidden = _hidden_layers(policy.q_net.q_net)
        assert isinstance(hidden, _Hidden)
        self.activation, self.slope = hidden.activation, hidden.slope
        self.layer_norm_eps = hidden.layer_norm_eps

        self._parameters = list(policy.q_net.parameters())
        self.weights, views = _make_contiguous([param.data for param in self._parameters])
        for param, view in zip(self._parameters, views, strict=True):
            param.data = view
        self._addresses = [param.data_ptr() for param in self._parameters]

        self.layers = np.zeros((len(linear_layers), 6), dtype=np.int64)
        weight = unit = 0
        for row, layer in zip(self.layers, linear_layers, strict=True):
            n_in, n_out = layer.in_features, layer.out_features
            row[:] = n_in, n_out, weight, weight + n_in * n_out, unit, unit + n_in
            weight += (n_in + 1) * n_out
            unit += n_in
        self.n_inputs, self.n_actions = int(self.layers[0, 0]), int(self.layers[-1, 1])
        self.n_units = unit + self.n_actions
        self._bind_optimizer()

    def _bind_optimizer(self) -> None:
        group = self.optimizer.param_groups[0]
        self.exp_avg = self.exp_avg_sq = np.zeros(0, np.float32)
        self.steps = np.zeros(0, np.float32)
        self.betas, self.eps = (0.0, 0.0), 0.0
        self._state_tensors: list[th.Tensor] = []
        self.optimizer_kind = OPTIMIZER_KINDS[type(self.optimizer)]
        if self.optimizer_kind == kernels.SGD:
            return
        self.betas, self.eps = group["betas"], group["eps"]
        states = [self.optimizer.state[param] for param in self._parameters]
        for param, state in zip(self._parameters, states, strict=True):
            if not state:
                state["step"] = th.tensor(0.0)
                state["exp_avg"] = th.zeros_like(param.data)
                state["exp_avg_sq"] = th.zeros_like(param.data)
        for name in ("step", "exp_avg", "exp_avg_sq"):
            flat, views = _make_contiguous([state[name] for state in states])
            for state, view in zip(states, views, strict=True):
                state[name] = view
                self._state_tensors.append(view)
            setattr(self, "steps" if name == "step" else name, flat)

    @property
    def learning_rate(self) -> float:
        """The optimiser's learning rate, which schedules and users change at any time."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def is_current(self) -> bool:
        """
        Tell whether the policy still uses the memory that compiled code works on.

        :return: False if somebody replaced a parameter's data or the optimiser's state.
        """
        addresses = [param.data_ptr() for param in self._parameters]
        if addresses != self._addresses:
            return False
        state = self.optimizer.state
        current = [
            state[param].get(name)
            for name in ("step", "exp_avg", "exp_avg_sq")
            for param in self._parameters
            if self.optimizer_kind != kernels.SGD
        ]
        return len(current) == len(self._state_tensors) and all(
            tensor is bound for tensor, bound in zip(current, self._state_tensors, strict=True)
        )


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
    if (
        type(q_net).forward is not SB3QNetwork.forward
        or type(q_net).extract_features is not SB3QNetwork.extract_features
    ):
        return f"{type(q_net).__name__} computes its outputs in a way of its own"
    hidden = _hidden_layers(q_net.q_net)
    if isinstance(hidden, str):
        return hidden
    if any(p.dtype != th.float32 or not p.requires_grad for p in q_net.parameters()):
        return "some weights are not float32 or do not require gradients"
    return _reason_against_optimizer(policy)


def _reason_against_optimizer(policy: QPolicy) -> str | None:
    optimizer = policy.optimizer
    required: dict[type, dict[str, Any]] = {
        th.optim.Adam: {"weight_decay": 0, "amsgrad": False, "maximize": False},
        KerasAdam: {},
        th.optim.SGD: {"weight_decay": 0, "momentum": 0, "nesterov": False, "maximize": False},
    }
    if type(optimizer) not in required:
        names = ", ".join(kind.__name__ for kind in required)
        return f"the optimiser is {type(optimizer).__name__}, it must be one of {names}"
    groups = optimizer.param_groups
    parameters = list(policy.q_net.parameters())
    if len(groups) != 1 or [id(p) for p in groups[0]["params"]] != [id(p) for p in parameters]:
        return "the optimiser does not hold the network's weights in one group"
    if isinstance(groups[0]["lr"], th.Tensor):
        return "the learning rate is a tensor, it must be a float"
    for name, value in required[type(optimizer)].items():
        if groups[0][name] != value:
            return f"the optimiser's {name} is {groups[0][name]!r}, it must be {value!r}"
    return None


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
