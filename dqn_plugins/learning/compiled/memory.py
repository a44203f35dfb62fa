"""What a policy learns with, as flat arrays that torch and compiled code both see."""

import weakref
from collections.abc import Iterable
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import numpy as np
import torch as th
from torch import nn

from dqn_plugins.learning.compiled import optimizers, statistics
from dqn_plugins.learning.compiled.compilation import by_reference
from dqn_plugins.learning.compiled.inputs import Inputs
from dqn_plugins.learning.compiled.network import network_of
from dqn_plugins.learning.compiled.support import hooks_of, reason_against_optimizer
from dqn_plugins.learning.limits import LARGEST_LEARNING_RATE, check_optimizer
from dqn_plugins.policies import QPolicy, RunningStatistics, StreamQPolicy, TraceOptimizer

__all__ = ["Memory"]

NO_FLOATS, NO_DOUBLES = np.zeros(0, np.float32), np.zeros(0)
REQUIRES_GRAD = attrgetter("requires_grad")


class Memory:
    """
    A policy's weights, optimiser, statistics and traces in contiguous arrays.

    The policy's parameters and the tensors in the optimiser's state become views of these arrays:
    whoever changes one changes the other. Where they already lie one behind the other in memory,
    they stay where they are.
    """

    def __init__(self, policy: QPolicy, n_envs: int) -> None:
        self.policy = policy
        self._optimizer = policy.optimizer
        self._parameters = list(policy.q_net.parameters())
        self.weights = _bind(self._parameters)
        self.gradient = np.zeros_like(self.weights)
        self.changing = [self.weights]
        """The weights, and the state of an optimiser that is compiled."""
        self.rewards = self._bind_rewards(n_envs)
        self.inputs = Inputs(policy.q_net)
        network = network_of(policy, self.weights, self.rewards, self._bind_normalized())
        self.n_units = network.scratch.shape[1]
        self.network = by_reference(network)
        self.optimizer = self._bind_optimizer()
        self.average = self._bind_average()
        self.traces = self._bind_traces(n_envs)
        mean_square = getattr(policy, "td_errors", None)
        self.td_errors: tuple[np.ndarray, np.ndarray] = (
            (NO_DOUBLES, NO_DOUBLES)
            if mean_square is None
            else (mean_square.total.numpy(), mean_square.weight.numpy())
        )
        self._own_tensors = [*self._parameters, *self._average_parameters, *policy.buffers()]
        self._addresses = _addresses_of(self._own_tensors)
        # Looking up the state of a parameter that the optimiser does not hold would add it.
        stepped = [] if self.optimizer is None else self._parameters
        self._states = [self._optimizer.state[param] for param in stepped]
        self._states_seen = list(self._state_tensors())
        self._hooks = hooks_of(policy.q_net)
        held = [(each._modules, each._parameters) for each in policy.q_net.modules()]
        self._holders: list[Any] = [each for each in chain.from_iterable(held) if each]
        self._members = self._ids_of_members()
        self._is_stale = False
        self._watch_the_optimizer()

    def _bind_optimizer(self) -> Any:
        """Show the optimiser to compiled code, or let torch take its steps: None."""
        self._group = self._optimizer.param_groups[0]
        self._settings: dict[str, Any] = {}
        if reason_against_optimizer(self.policy) is not None:
            check_optimizer(self._optimizer)
            return None
        known = optimizers.OPTIMIZERS[type(self._optimizer)]
        state = dict.fromkeys(("steps", "squared_norm", "exp_avg", "exp_avg_sq"), NO_FLOATS)
        for key, name in (known.moments | known.scalars).items():
            for param in self._parameters:
                like = param.data if key in known.moments else th.tensor(0.0)
                self._optimizer.state[param].setdefault(key, th.zeros_like(like))
            state[name] = self._bind_state(key)
        self.changing += state.values()
        self.numbers = np.zeros(len(optimizers.numbers_of(self._group)))
        self.update_settings()
        update = np.zeros_like(self.weights)
        squares = np.zeros_like(self.weights) if known.squares else None
        return by_reference(known.kind(self.numbers, **state, update=update, squares=squares))

    def _bind_state(self, key: str) -> np.ndarray:
        """Put one number or tensor per parameter of the optimiser's state into a flat array."""
        states = [self._optimizer.state[param] for param in self._parameters]
        flat, views = _make_contiguous([state[key] for state in states])
        for state, view in zip(states, views, strict=True):
            state[key] = view
        return flat

    def _bind_average(self) -> Any:
        policy = self.policy
        self._average_parameters: list[nn.Parameter] = []
        if not isinstance(policy, StreamQPolicy) or policy.average_q_net is None:
            return None
        assert policy.averaging_window is not None
        self._average_parameters = list(policy.average_q_net.parameters())
        weights, window = _bind(self._average_parameters), float(policy.averaging_window)
        return by_reference(optimizers.Average(weights, policy.n_averaged.numpy(), window))

    def _bind_traces(self, n_envs: int) -> np.ndarray:
        """Put the eligibility traces into one array, a row for each environment."""
        optimizer = self._optimizer
        if not isinstance(optimizer, TraceOptimizer):
            return np.zeros((0, len(self.weights)), np.float32)
        optimizer.keep_traces_for(n_envs)
        states = [optimizer.state[param] for param in self._parameters]
        traces = th.cat([state["trace"].reshape(n_envs, -1) for state in states], dim=1)
        parts = self._parts(traces.numpy())
        for state, part in zip(states, parts, strict=True):
            state["trace"] = part
        return traces.numpy()

    def _bind_rewards(self, n_envs: int) -> Any:
        self._reward_normalizer = normalizer = getattr(self.policy.q_net, "reward_normalizer", None)
        if normalizer is None:
            self.returns = np.zeros(n_envs)
            nothing = (NO_DOUBLES,) * 6
            return by_reference(statistics.Rewards(statistics.NO_SCALE, self.returns, *nothing))
        normalizer.keep_returns_for(n_envs)
        self.returns = normalizer.returns.numpy()
        return by_reference(
            statistics.Rewards(
                statistics.SCALES[normalizer.scale_by],
                self.returns,
                *_arrays_of(normalizer.return_statistics),
                *_arrays_of(normalizer.reward_statistics),
            )
        )

    def _bind_normalized(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Tell what is normalised: places, means, squared deviations and counts, an array each."""
        normalizer = getattr(self.policy.q_net, "observation_normalizer", None)
        parts = [] if normalizer is None else list(normalizer.statistics.values())
        arrays = {}
        for name in ("mean", "squared_deviations", "count"):
            arrays[name], views = _make_contiguous(
                [getattr(part, name) for part in parts], th.float64
            )
            for part, view in zip(parts, views, strict=True):
                setattr(part, name, view)
        mean, squared_deviations, count = arrays.values()
        return self.inputs.normalized, mean, squared_deviations, count

    def _parts(self, flat: np.ndarray) -> list[th.Tensor]:
        """Divide what is laid out as the weights, shape (..., n_weights), among the parameters."""
        sizes = [param.numel() for param in self._parameters]
        parts = th.split(th.from_numpy(flat), sizes, dim=-1)
        return [
            part.view(*flat.shape[:-1], *param.shape)
            for part, param in zip(parts, self._parameters, strict=True)
        ]

    def _watch_the_optimizer(self) -> None:
        """Notice when a state is loaded into the optimiser, which then has other tensors."""
        reference = weakref.ref(self)

        def loaded(_optimizer: th.optim.Optimizer) -> None:
            memory = reference()
            if memory is not None:
                memory._is_stale = True

        hook = self._optimizer.register_load_state_dict_post_hook(loaded)
        weakref.finalize(self, hook.remove)

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether compiled code still works with what the policy holds. See :class:`Learner`.

        Without a thorough look, what is noticed is another optimiser, a state that was loaded into
        it, options of it that compiled code leaves out, frozen parameters, hooks, and other memory
        of the parameters.
        """
        if self._is_stale or self.policy.optimizer is not self._optimizer:
            return False
        if any(self._hooks) or not all(map(REQUIRES_GRAD, self._parameters)):
            return False
        if (self.optimizer is None) != (
            self._has_other_options() and reason_against_optimizer(self.policy) is not None
        ):
            return False
        if not thorough:
            return _addresses_of(self._parameters) == self._addresses[: len(self._parameters)]
        # What was loaded may be of another number of environments.
        fits = self._reward_normalizer is None or (
            len(self._reward_normalizer.returns) == len(self.returns)
        )
        return (
            fits
            and self._ids_of_members() == self._members
            and _addresses_of(self._own_tensors) == self._addresses
            and all(map(is_, self._state_tensors(), self._states_seen))
        )

    def _ids_of_members(self) -> list[int]:
        """Tell which layers and parameters the network consists of."""
        return list(map(id, chain.from_iterable(map(dict.values, self._holders))))

    def _state_tensors(self) -> Iterable[th.Tensor]:
        return chain.from_iterable(map(dict.values, self._states))

    def _has_other_options(self) -> bool:
        """Whether more than the learning rate differs from what compiled code works with."""
        if self._settings and type(self._group["lr"]) is float:
            self._settings["lr"] = self._group["lr"]
        return self._group != self._settings

    def update_settings(self) -> None:
        """Take over the optimiser's numbers, which may change at any time; refuse bad ones."""
        if self._settings and not self._has_other_options():  # a schedule changes it at every step
            rate = self._group["lr"]
            if 0.0 <= rate <= LARGEST_LEARNING_RATE:
                self.numbers[optimizers.LEARNING_RATE] = rate
                return
        check_optimizer(self._optimizer)
        reason = reason_against_optimizer(self.policy)
        if reason is not None:
            raise ValueError(
                f"backend: the compiled learner is at work, but {reason}. Pass backend='torch'."
            )
        self.numbers[:] = optimizers.numbers_of(self._group)
        self._settings = dict(self._group)

    def step_in_torch(self) -> None:
        """Have torch's optimiser go along :attr:`gradient`."""
        for param, part in zip(self._parameters, self._parts(self.gradient), strict=True):
            param.grad = part
        self._optimizer.step()


def _arrays_of(statistics: RunningStatistics) -> tuple[np.ndarray, ...]:
    mean, squared_deviations = statistics.mean.view(1), statistics.squared_deviations.view(1)
    return mean.numpy(), squared_deviations.numpy(), statistics.count.numpy()


def _addresses_of(tensors: Iterable[th.Tensor]) -> list[int]:
    return list(map(th.Tensor.data_ptr, tensors))


def _bind(parameters: list[nn.Parameter]) -> np.ndarray:
    """Put parameters one behind the other in memory: their data become views of a flat array."""
    flat, views = _make_contiguous([param.data for param in parameters])
    for param, view in zip(parameters, views, strict=True):
        param.data = view
    return flat


def _make_contiguous(
    tensors: list[th.Tensor], dtype: th.dtype = th.float32
) -> tuple[np.ndarray, list[th.Tensor]]:
    """
    Put tensors of a type one behind the other in memory: a flat array over all of them, and the
    tensors as views of it, the given ones where they already lay like this.
    """
    if not tensors:
        return th.zeros(0, dtype=dtype).numpy(), tensors
    sizes = [tensor.numel() for tensor in tensors]
    first = tensors[0]
    ends = np.cumsum(sizes)
    expected = first.data_ptr() + first.element_size() * (ends - sizes)
    if (
        all(tensor.is_contiguous() and tensor.dtype == dtype for tensor in tensors)
        and [tensor.data_ptr() for tensor in tensors] == expected.tolist()
        and len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    ):
        return first.as_strided((int(ends[-1]),), (1,)).numpy(), tensors
    flat = th.cat([tensor.detach().reshape(-1).to(dtype) for tensor in tensors])
    views = [part.view(t.shape) for part, t in zip(th.split(flat, sizes), tensors, strict=True)]
    return flat.numpy(), views
