"""The naive update rule in compiled code: for multilayer perceptrons on the CPU. The fast one."""

import numpy as np

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learners import kernels
from dqn_plugins.learners.base import Learner
from dqn_plugins.learners.compiled_network import CompiledNetwork
from dqn_plugins.policies import QPolicy
from dqn_plugins.transitions import Observation, raise_if_not_finite

__all__ = ["NaiveCompiledLearner"]


class NaiveCompiledLearner(Learner):
    """
    The same update as :class:`NaiveAutogradLearner`'s, in one call of compiled code.

    :param policy: The policy whose weights are learned, with its optimiser.
    :param gamma: Discount factor γ.
    :param q_step_size: Step size α of the target.
    :param bootstrap_at_terminal: Whether to bootstrap from terminal states, as the notebook does.
    :param max_grad_norm: Largest norm of the gradient; None for any.
    """

    def __init__(
        self,
        policy: QPolicy,
        gamma: float,
        q_step_size: float,
        bootstrap_at_terminal: bool,
        max_grad_norm: float | None,
    ) -> None:
        kernels.announce_compilation()
        self.network = network = CompiledNetwork(policy)
        self._architecture = (
            network.weights,
            network.layers,
            network.activation,
            network.slope,
            network.layer_norm_eps,
        )
        self._moments = (network.exp_avg, network.exp_avg_sq, network.steps)
        self.gamma = gamma
        self.q_step_size = q_step_size
        self.bootstrap_at_terminal = bootstrap_at_terminal
        self.max_grad_norm = max_grad_norm or 0.0
        self._gradient = np.zeros_like(network.weights)
        self._buffers: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

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
        rows = _as_rows(obs)
        scratch, _, actions = self._buffers_for(len(rows))
        kernels.greedy_actions(*self._architecture, rows, scratch, actions)
        return actions

    def learn(
        self,
        obs: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_obs: Observation,
        terminated: np.ndarray,
        new_obs: Observation,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param obs: Observations before the step, shape (n_envs, ...).
        :param actions: Actions taken, shape (n_envs,), int.
        :param rewards: Rewards, shape (n_envs,), float.
        :param next_obs: Observations that the step led to, shape (n_envs, ...).
        :param terminated: Whether these are terminal states, shape (n_envs,), bool.
        :param new_obs: Observations to act on next, shape (n_envs, ...).
        :return: TD errors, shape (n_envs,), and greedy actions of ``new_obs``. The next call writes
            both arrays again.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
        network = self.network
        scratch, td_errors, new_actions = self._buffers_for(len(actions))
        new_rows = _as_rows(new_obs)
        result = kernels.learn_naive(
            *self._architecture,
            network.optimizer_kind,
            network.learning_rate,
            *network.betas,
            network.eps,
            *self._moments,
            self.gamma,
            self.q_step_size,
            self.bootstrap_at_terminal,
            self.max_grad_norm,
            _as_rows(obs),
            np.ascontiguousarray(actions, np.int64),
            np.ascontiguousarray(rewards, np.float32),
            new_rows if next_obs is new_obs else _as_rows(next_obs),
            np.ascontiguousarray(terminated, np.bool_),
            new_rows,
            scratch,
            self._gradient,
            td_errors,
            new_actions,
        )
        if result == kernels.NOT_FINITE:
            raise_if_not_finite(obs, rewards, next_obs)
        if result >= kernels.DIVERGED:
            raise DivergenceError(result, td_errors[result])
        return td_errors, new_actions

    def _buffers_for(self, n_envs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Look up the working memory for a number of environments.

        :param n_envs: Number of environments.
        :return: Scratch memory of the compiled code, TD errors and greedy actions.
        """
        if n_envs not in self._buffers:
            self._buffers[n_envs] = (
                np.zeros((n_envs + 1, 4, self.network.n_units), np.float32),
                np.zeros(n_envs, np.float32),
                np.zeros(n_envs, np.int64),
            )
        return self._buffers[n_envs]


def _as_rows(obs: Observation) -> np.ndarray:
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
