"""What the compiled learners share."""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.compiled import kernels
from dqn_plugins.learning.compiled.network import CompiledNetwork
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.transition import Observation, raise_if_not_finite

__all__ = ["BOOL", "FLOAT32", "INT64", "Buffers", "CompiledLearner", "as_column", "as_rows"]

FLOAT32, INT64, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)


class Buffers(NamedTuple):
    """
    Working memory of the compiled code for a number of environments.

    :param scratch: What the network computes, shape (n_envs + 1, 4, n_units), float32.
    :param td_errors: TD errors, shape (n_envs,), float32.
    :param actions: Greedy actions, shape (n_envs,), int64.
    """

    scratch: np.ndarray
    td_errors: np.ndarray
    actions: np.ndarray


class CompiledLearner(Learner):
    """
    Base of the compiled learners, which work on multilayer perceptrons on the CPU.

    :param network: The policy's network and optimiser.
    """

    def __init__(self, network: CompiledNetwork) -> None:
        kernels.announce_compilation()
        self.network = network
        self._buffers: dict[int, Buffers] = {}

    def is_current(self) -> bool:
        """
        Tell whether the policy still uses the memory that this learner works on.

        :return: False if somebody replaced a parameter's data or the optimiser's state.
        """
        return self.network.is_current()

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64. The next call writes the array again.
        """
        rows = as_rows(obs)
        buffers = self._buffers_for(len(rows))
        kernels.greedy_actions(*self.network.arrays, rows, buffers.scratch, buffers.actions)
        return buffers.actions

    @staticmethod
    def _refuse(
        result: int,
        buffers: Buffers,
        obs: Observation,
        rewards: np.ndarray,
        next_obs: Observation,
        new_obs: Observation,
    ) -> NoReturn:
        """
        Say why compiled code refused a batch.

        :param result: What it returned, other than ``LEARNED``.
        :param buffers: Its working memory.
        :raises NonFiniteTransitionError: If a number is not finite.
        :raises DivergenceError: If a TD error or the gradient overflows.
        """
        if result == kernels.NOT_FINITE:
            raise_if_not_finite(obs, rewards, next_obs)
            raise_if_not_finite(new_obs, rewards, next_obs)
        raise DivergenceError(result, buffers.td_errors[result])

    def _buffers_for(self, n_envs: int) -> Buffers:
        if n_envs not in self._buffers:
            self._buffers[n_envs] = Buffers(
                np.zeros((n_envs + 1, 4, self.network.n_units), np.float32),
                np.zeros(n_envs, np.float32),
                np.zeros(n_envs, np.int64),
            )
        return self._buffers[n_envs]


def as_rows(obs: Observation) -> np.ndarray:
    """
    Prepare observations for compiled code.

    :param obs: Observations, shape (n_envs, ...).
    :return: The same numbers, shape (n_envs, n_inputs), float32, in memory of the usual layout.
    """
    assert isinstance(obs, np.ndarray)
    # Compiled code would be compiled anew for another layout or for read-only memory.
    if obs.dtype is FLOAT32 and obs.ndim == 2 and obs.flags.carray:
        return obs
    return np.require(obs, np.float32, ["C", "W"]).reshape(len(obs), -1)


def as_column(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """
    Prepare one number per environment for compiled code.

    :param values: The numbers, shape (n_envs,).
    :param dtype: What compiled code takes.
    :return: The same numbers, shape (n_envs,), of that type.
    """
    if values.dtype is dtype:
        return values
    return np.require(values, dtype, ["C", "W"])
