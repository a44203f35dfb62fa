"""A policy's network, optimiser and statistics as arrays that torch and compiled code both see."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from operator import is_
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from dqn_plugins.learning.compiled import layers, optimizers, rewards
from dqn_plugins.learning.compiled.compilation import by_reference
from dqn_plugins.learning.compiled.convolution import GEOMETRY
from dqn_plugins.learning.limits import LARGEST_LEARNING_RATE, check_optimizer
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    ImageExtractor,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    NormalizingQNetwork,
    ObGD,
    ObservationNormalizer,
    QNetwork,
    QPolicy,
    RunningStatistics,
    StreamQPolicy,
    TraceAdam,
    TraceOptimizer,
)

__all__ = [
    "Binding",
    "is_faster_in_torch",
    "reason_against_compiling",
    "reason_against_kinds",
]

MOST_PRODUCTS = 20_000_000
"""
Where convolutions multiply more often for one image, torch is faster, on one thread. Measured:
compiled code is 1.3 to 4 times as fast with 3 million products (84×84 pixels in the paper's
network; 20×20 in two layers of 32 filters of 3×3), twice with 13 million (210×160), 1.3 times with
14 million (40×40), and 0.7 times with 67 million (84×84 in those two layers).
"""

Statistics: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean, squared deviations and count of a stream of numbers, or three empty arrays."""


@dataclass(frozen=True)
class _Optimizer:
    """An optimiser that compiled code can stand in for."""

    kind: int
    moments: tuple[str, ...] = ()
    """Keys of its state that are laid out as the weights."""
    scalars: tuple[str, ...] = ()
    """Keys of its state that are one number for each parameter."""
    required: tuple[tuple[str, Any], ...] = ()
    """Options that compiled code leaves out, with the value that turns each off."""


_PLAIN = (("weight_decay", 0), ("maximize", False))

OPTIMIZERS: dict[type[th.optim.Optimizer], _Optimizer] = {
    th.optim.SGD: _Optimizer(
        optimizers.SGD, required=(*_PLAIN, ("momentum", 0), ("nesterov", False))
    ),
    th.optim.Adam: _Optimizer(
        optimizers.ADAM, ("exp_avg", "exp_avg_sq"), ("step",), (*_PLAIN, ("amsgrad", False))
    ),
    th.optim.RMSprop: _Optimizer(
        optimizers.RMSPROP,
        ("square_avg",),
        ("step",),
        (*_PLAIN, ("momentum", 0), ("centered", False)),
    ),
    KerasAdam: _Optimizer(optimizers.KERAS_ADAM, ("exp_avg", "exp_avg_sq"), ("step",)),
    TraceAdam: _Optimizer(optimizers.ADAM, ("exp_avg", "exp_avg_sq"), ("step",)),
    ObGD: _Optimizer(optimizers.OBGD),
    AdaptiveObGD: _Optimizer(optimizers.ADAPTIVE_OBGD, ("exp_avg_sq",), ("step",)),
    AdaptiveQOptimizer: _Optimizer(optimizers.ADAPTIVE_Q, ("exp_avg_sq",)),
    IntentionalOptimizer: _Optimizer(
        optimizers.INTENTIONAL, ("exp_avg_sq",), ("step", "squared_norm")
    ),
    MaxScaledOptimizer: _Optimizer(optimizers.MAX_SCALED, ("exp_inf",)),
}
"""The optimisers that are compiled. A new one needs a line here and a step in ``optimizers.py``."""

PLACES = {"step": "steps", "square_avg": "exp_avg_sq", "exp_inf": "exp_avg_sq"}
"""Where compiled code has parts of the state that it has another name for."""


class Binding:
    """
    What a policy learns with, in contiguous arrays.

    The policy's parameters and the tensors in the optimiser's state become views of these arrays:
    whoever changes one changes the other. Where they already lie one behind the other in memory,
    they stay where they are.

    :param policy: A policy that :func:`reason_against_compiling` has nothing against.
    :param n_envs: Number of environments.
    """

    def __init__(self, policy: QPolicy, n_envs: int) -> None:
        self.policy = policy
        self._optimizer = policy.optimizer
        self._parameters = list(policy.q_net.parameters())
        self.weights = _bind_weights(self._parameters)
        self.network = self._bind_network()
        self.optimizer = self._bind_optimizer()
        self.average = self._bind_average()
        self.traces = self._bind_traces(n_envs)
        self.rewards = self._bind_rewards(n_envs)
        self.td_errors = self._bind_td_errors()
        self._own_tensors = [*self._parameters, *self._average_parameters, *policy.buffers()]
        self._addresses = _addresses_of(self._own_tensors)
        self._states = [self._optimizer.state[param] for param in self._parameters]
        self._states_seen = list(self._state_tensors())
        self._group = self._optimizer.param_groups[0]
        self._settings: list[Any] = []
        self._rate_place = list(self._group).index("lr")
        self.update_settings()
        self._is_stale = False
        self._watch_the_optimizer()

    def _bind_rewards(self, n_envs: int) -> Any:
        self._reward_normalizer = normalizer = getattr(self.policy.q_net, "reward_normalizer", None)
        if normalizer is None:
            self.returns = np.zeros(n_envs)
            nothing = (NO_DOUBLES,) * 6
            return by_reference(rewards.Rewards(rewards.NO_SCALE, self.returns, *nothing))
        normalizer.keep_returns_for(n_envs)
        self.returns = normalizer.returns.numpy()
        return by_reference(
            rewards.Rewards(
                rewards.SCALES[normalizer.scale_by],
                self.returns,
                *statistics_arrays(normalizer.return_statistics),
                *statistics_arrays(normalizer.reward_statistics),
            )
        )

    def _bind_td_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Find the mean square of the TD errors."""
        td_errors = getattr(self.policy, "td_errors", None)
        if td_errors is None:
            return NO_DOUBLES, NO_DOUBLES
        return td_errors.total.numpy(), td_errors.weight.numpy()

    def _watch_the_optimizer(self) -> None:
        """Notice when a state is loaded into the optimiser, which then has other tensors."""
        reference = weakref.ref(self)

        def loaded(_optimizer: th.optim.Optimizer) -> None:
            binding = reference()
            if binding is not None:
                binding._is_stale = True

        hook = self._optimizer.register_load_state_dict_post_hook(loaded)
        weakref.finalize(self, hook.remove)

    def _bind_network(self) -> Any:
        q_net = self.policy.q_net
        modules = _modules_of(q_net)
        rows, constants = np.zeros((len(modules), layers.N_COLUMNS), np.int64), []
        weight = unit = n_patches = 0
        self.n_inputs = n_out = get_flattened_obs_dim(self.policy.observation_space)
        image = _ImageShape.of_observations(q_net)
        for row, module in zip(rows, modules, strict=True):
            kind, constant = _as_layer(module)
            n_in, n_weights, n_biases = n_out, 0, 0
            if isinstance(module, nn.Linear):
                n_out = n_biases = module.out_features
                n_weights = n_in * n_out
            elif isinstance(module, nn.Conv2d):
                assert image is not None
                row[-GEOMETRY:], image = image.convolved(module)
                n_out, n_biases = image.size, module.out_channels
                n_weights = module.weight.numel()
                n_patches = max(n_patches, n_weights * image.height * image.width // n_biases)
            bias = weight + n_weights
            row[:-GEOMETRY] = kind, n_in, n_out, weight, bias, unit, unit + n_in
            unit += n_in
            weight = bias + n_biases
            constants.append(constant)
        self.n_units = unit + n_out
        is_divided = q_net.normalize_images and is_image_space(self.policy.observation_space)
        return by_reference(
            layers.Network(
                self.weights,
                rows,
                np.array(constants, np.float64),
                *_observation_statistics(self.policy),
                255.0 if is_divided else 1.0,
                np.zeros((3, self.n_units), np.float32),
                np.zeros(n_patches, np.float32),
            )
        )

    def _bind_optimizer(self) -> Any:
        known = OPTIMIZERS[type(self._optimizer)]
        parts = dict.fromkeys(("steps", "squared_norm", "exp_avg", "exp_avg_sq"), NO_FLOATS)
        for name in (*known.scalars, *known.moments):
            for param in self._parameters:
                like = param.data if name in known.moments else th.tensor(0.0)
                self._optimizer.state[param].setdefault(name, th.zeros_like(like))
            parts[PLACES.get(name, name)] = self._bind_state(name)
        self.optimizer_numbers = np.zeros(optimizers.N_NUMBERS)
        return by_reference(
            optimizers.Optimizer(
                known.kind,
                self.optimizer_numbers,
                **parts,
                update=np.zeros_like(self.weights),
                squares=np.zeros_like(self.weights),
            )
        )

    def _bind_state(self, name: str) -> np.ndarray:
        """
        Put one number or tensor per parameter of the optimiser's state into a contiguous array.

        :param name: Its key in the state.
        :return: The flat array.
        """
        states = [self._optimizer.state[param] for param in self._parameters]
        flat, views = _make_contiguous([state[name] for state in states])
        for state, view in zip(states, views, strict=True):
            state[name] = view
        return flat

    def _bind_average(self) -> Any:
        average = optimizers.Average(NO_FLOATS, NO_DOUBLES, 1.0)
        policy = self.policy
        self._average_parameters: list[nn.Parameter] = []
        if isinstance(policy, StreamQPolicy) and policy.average_q_net is not None:
            assert policy.averaging_window is not None
            self._average_parameters = list(policy.average_q_net.parameters())
            average = optimizers.Average(
                _bind_weights(self._average_parameters),
                policy.n_averaged.numpy(),
                float(policy.averaging_window),
            )
        return by_reference(average)

    def _bind_traces(self, n_envs: int) -> np.ndarray:
        """Put the eligibility traces into one array, a row for each environment."""
        optimizer = self._optimizer
        if not isinstance(optimizer, TraceOptimizer):
            return np.zeros((0, len(self.weights)), np.float32)
        optimizer.keep_traces_for(n_envs)
        states = [optimizer.state[param] for param in self._parameters]
        traces = th.cat([state["trace"].reshape(n_envs, -1) for state in states], dim=1)
        sizes = [param.numel() for param in self._parameters]
        parts = th.split(traces, sizes, dim=1)
        for param, state, part in zip(self._parameters, states, parts, strict=True):
            state["trace"] = part.view(n_envs, *param.shape)
        return traces.numpy()

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether compiled code still works with what the policy holds.

        :param thorough: Whether to look at every tensor. Otherwise what is noticed is another
            optimiser, a state that was loaded into it, options of it that compiled code leaves out,
            and other memory of the parameters.
        :return: False if somebody replaced the optimiser, or the memory of a parameter, of the
            optimiser's state or of the running statistics, or turned such an option on.
        """
        if self._is_stale or self.policy.optimizer is not self._optimizer:
            return False
        if self._has_new_settings() and _reason_against_optimizer(self.policy):
            return False
        if not thorough:
            return _addresses_of(self._parameters) == self._addresses[: len(self._parameters)]
        # What was loaded may be of another number of environments.
        fits = self._reward_normalizer is None or (
            len(self._reward_normalizer.returns) == len(self.returns)
        )
        return (
            fits
            and _addresses_of(self._own_tensors) == self._addresses
            and all(map(is_, self._state_tensors(), self._states_seen))
        )

    def _state_tensors(self) -> Iterable[th.Tensor]:
        return chain.from_iterable(map(dict.values, self._states))

    def update_settings(self) -> None:
        """
        Take over the optimiser's numbers, which schedules and users change at any time.

        :raises ValueError: If one is out of the range that can be learned with.
        """
        if self._has_new_settings():
            check_optimizer(self._optimizer)
            reason = _reason_against_optimizer(self.policy)
            if reason is not None:
                raise ValueError(
                    f"backend: the compiled learner is at work, but {reason}. Pass backend='torch'."
                )
            self.optimizer_numbers[:] = _numbers(self._group)
            self._settings = list(self._group.values())

    def _has_new_settings(self) -> bool:
        """Take over the learning rate, which a schedule changes at every step; look at the rest."""
        settings = list(self._group.values())
        if settings == self._settings:
            return False
        rate = self._group["lr"]
        if self._settings and type(rate) is float and 0.0 <= rate <= LARGEST_LEARNING_RATE:
            self.optimizer_numbers[optimizers.LEARNING_RATE] = rate
            self._settings[self._rate_place] = rate
        return settings != self._settings


def _addresses_of(tensors: Iterable[th.Tensor]) -> list[int]:
    return list(map(th.Tensor.data_ptr, tensors))


def _numbers(group: dict[str, Any]) -> list[float]:
    """Read an optimiser's numbers out of its group, in the order of ``Optimizer.numbers``."""
    beta1, beta2 = group.get("betas", (0.0, group.get("beta2", group.get("alpha", 0.0))))
    eps, overshoot_factor = group.get("eps", 0.0), group.get("overshoot_factor", 0.0)
    return [float(group["lr"]), float(beta1), float(beta2), float(eps), float(overshoot_factor)]


def reason_against_compiling(policy: QPolicy) -> str | None:
    """
    Tell why the compiled learner cannot work on a policy.

    :param policy: The policy.
    :return: The reason, with what would be needed instead; None if there is none.
    """
    reason = reason_against_kinds(
        policy, (FlattenExtractor, ImageExtractor), (QNetwork, NormalizingQNetwork)
    )
    if reason is not None:
        return reason
    q_net = policy.q_net
    try:
        for module in _modules_of(q_net):
            _as_layer(module)
    except NotCompiledError as error:
        return str(error)
    if isinstance(q_net.features_extractor, ImageExtractor) and any(
        type(module) is nn.LayerNorm and len(module.normalized_shape) != 3
        for module in q_net.features_extractor.layers
    ):
        return "layer normalisation is of a part of an image, it must be of the whole"
    if not len(q_net.q_net) or type(q_net.q_net[-1]) is not nn.Linear:
        return "the network does not end with a linear layer"
    return _reason_against_optimizer(policy)


def reason_against_kinds(
    policy: QPolicy, extractors: tuple[type[nn.Module], ...], networks: tuple[type[QNetwork], ...]
) -> str | None:
    """
    Tell why compiled code of whatever kind cannot work on a policy, before a look at its layers.

    :param policy: The policy.
    :param extractors: Features extractors that it knows.
    :param networks: Networks that it knows.
    :return: The reason, with what would be needed instead; None if there is none.
    """
    if policy.device.type != "cpu":
        return f"the policy is on {policy.device}, it must be on the CPU"
    if not isinstance(policy.observation_space, spaces.Box):
        return f"observations are {policy.observation_space}, they must be a Box"
    q_net = policy.q_net
    if type(q_net.features_extractor) not in extractors:
        name = type(q_net.features_extractor).__name__
        known = " or ".join(kind.__name__ for kind in extractors)
        return f"the features extractor is {name}, it must be {known}"
    if type(q_net) not in networks:
        return f"{type(q_net).__name__} computes its outputs in a way of its own"
    if any(each.dtype != th.float32 or not each.requires_grad for each in q_net.parameters()):
        return "some weights are not float32 or do not require gradients"
    return None


def is_faster_in_torch(policy: QPolicy) -> bool:
    """
    Tell whether a policy's convolutions are so large that torch computes them faster.

    :param policy: A policy that :func:`reason_against_compiling` has nothing against.
    :return: Whether they are.
    """
    image, products = _ImageShape.of_observations(policy.q_net), 0
    for module in _modules_of(policy.q_net):
        if isinstance(module, nn.Conv2d):
            assert image is not None
            _, image = image.convolved(module)
            products += module.weight.numel() * image.height * image.width
    return products > MOST_PRODUCTS


def _reason_against_optimizer(policy: QPolicy) -> str | None:
    optimizer = policy.optimizer
    known = OPTIMIZERS.get(type(optimizer))
    if known is None:
        names = ", ".join(sorted(kind.__name__ for kind in OPTIMIZERS))
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


class NotCompiledError(Exception):
    """Why a layer cannot be compiled."""


def _as_layer(module: nn.Module) -> tuple[int, float]:
    """
    Translate one layer. A subclass may compute something else, so it is none of the known ones.

    :param module: The layer.
    :return: Its kind, and its one number.
    :raises NotCompiledError: If there is none like it in ``layers.py``.
    """
    if type(module) is nn.Linear:
        if module.bias is None:
            raise NotCompiledError("a linear layer has no bias")
        return layers.LINEAR, 0.0
    if type(module) is nn.Conv2d:
        if module.bias is None:
            raise NotCompiledError("a convolution has no bias")
        if module.dilation != (1, 1) or module.groups != 1 or module.padding_mode != "zeros":
            raise NotCompiledError("a convolution is dilated, in groups, or padded by other than 0")
        return layers.CONVOLUTION, 0.0
    if type(module) is nn.LayerNorm:
        if module.elementwise_affine or len(module.normalized_shape) not in (1, 3):
            raise NotCompiledError("layer normalisation has weights of its own, it must have none")
        return layers.LAYER_NORM, module.eps
    if type(module) is nn.ReLU:
        return layers.RECTIFIER, 0.0
    if type(module) is nn.LeakyReLU:
        return layers.RECTIFIER, module.negative_slope
    if type(module) is nn.Tanh:
        return layers.TANH, 0.0
    raise NotCompiledError(
        f"the network has a layer {type(module).__name__}, it must be Linear, Conv2d, LayerNorm, "
        "ReLU, LeakyReLU or Tanh"
    )


def _modules_of(q_net: QNetwork) -> list[nn.Module]:
    """List a network's layers in the order of its weights, without those that only reshape."""
    modules = list(q_net.q_net)
    if isinstance(q_net.features_extractor, ImageExtractor):
        modules = [*q_net.features_extractor.layers, *modules]
    return [module for module in modules if type(module) is not nn.Flatten]


class _ImageShape(NamedTuple):
    """
    The shape of an image, and its layout in memory: steps from one number to the next.

    :param channels: Number of channels.
    :param height: Number of rows.
    :param width: Number of columns.
    :param steps: From one channel, row and column to the next.
    """

    channels: int
    height: int
    width: int
    steps: tuple[int, int, int]

    @classmethod
    def of_observations(cls, q_net: QNetwork) -> "_ImageShape | None":
        """
        Find the shape of the observations.

        :param q_net: The network.
        :return: The shape; None if the network does not take them as images.
        """
        extractor = q_net.features_extractor
        if not isinstance(extractor, ImageExtractor):
            return None
        shape = q_net.observation_space.shape
        assert shape is not None
        if not extractor.channels_last:
            return cls.in_order(*shape)
        height, width, channels = shape
        return cls(channels, height, width, (1, width * channels, channels))

    @classmethod
    def in_order(cls, channels: int, height: int, width: int) -> "_ImageShape":
        """Tell the layout of torch's images, channel by channel and row by row."""
        return cls(channels, height, width, (height * width, width, 1))

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.channels * self.height * self.width

    def convolved(self, module: nn.Conv2d) -> tuple[tuple[int, ...], "_ImageShape"]:
        """
        Describe a convolution.

        :param module: The convolution.
        :return: Its geometry, in the order of the columns in ``convolution.py``, and the shape of
            its outputs.
        """
        kernel, stride = module.kernel_size, module.stride
        # torch's own: left, right, top and bottom, which differ where "same" is uneven
        left, right, top, bottom = module._reversed_padding_repeated_twice
        out = self.in_order(
            module.out_channels,
            (self.height + top + bottom - kernel[0]) // stride[0] + 1,
            (self.width + left + right - kernel[1]) // stride[1] + 1,
        )
        geometry = (*self[:3], *out[1:3], *kernel, *stride, top, left, *self.steps)
        return geometry, out


NO_FLOATS, NO_DOUBLES = np.zeros(0, np.float32), np.zeros(0)


def _observation_statistics(policy: QPolicy) -> Statistics:
    """
    Find the running statistics by which a policy normalises its observations.

    :param policy: The policy.
    :return: Views of their mean, squared deviations and count; empty if there are none.
    """
    normalizer = getattr(policy.q_net, "observation_normalizer", None)
    if normalizer is None or not len(normalizer.statistics):  # it leaves images of bytes alone
        return NO_DOUBLES, NO_DOUBLES, NO_DOUBLES
    assert isinstance(normalizer, ObservationNormalizer)
    (statistics,) = normalizer.statistics.values()
    assert isinstance(statistics, RunningStatistics)
    return statistics_arrays(statistics)


def statistics_arrays(statistics: RunningStatistics) -> Statistics:
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
