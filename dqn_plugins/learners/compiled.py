"""What the compiled learners share."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learners import kernels
from dqn_plugins.learners.base import Learner
from dqn_plugins.learners.compiled_network import CompiledNetwork
from dqn_plugins.transitions import Observation

__all__ = ["Buffers", "CompiledLearner", "as_rows"]


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
    :return: The same numbers, shape (n_envs, n_inputs), float32.
    """
    rows = np.ascontiguousarray(obs, np.float32)
    if rows.ndim != 2:
        rows = rows.reshape(len(rows), -1)
    # Compiled code for read-only arrays would be compiled anew.
    return rows if rows.flags.writeable else rows.copy()
