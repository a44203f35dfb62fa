"""The naive update rule in compiled code: for multilayer perceptrons on the CPU. The fast one."""

import numpy as np

from dqn_plugins.learning.compiled import kernels
from dqn_plugins.learning.compiled.base import (
    BOOL,
    FLOAT32,
    INT64,
    CompiledLearner,
    as_column,
    as_rows,
)
from dqn_plugins.learning.compiled.network import CompiledNetwork
from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import QPolicy

__all__ = ["NaiveCompiledLearner"]


class NaiveCompiledLearner(CompiledLearner):
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
        super().__init__(CompiledNetwork(policy))
        # Compiled code for numbers of other types would be compiled anew.
        self.gamma = float(gamma)
        self.q_step_size = float(q_step_size)
        self.bootstrap_at_terminal = bool(bootstrap_at_terminal)
        self.max_grad_norm = float(max_grad_norm or 0.0)
        self._gradient = np.zeros_like(self.network.weights)

    def forget(self) -> None:
        """See :meth:`Learner.forget`. The naive rule remembers nothing between transitions."""

    def start_episodes(self, obs: Observation) -> None:
        """
        See :meth:`Learner.start_episodes`. The naive rule remembers nothing between transitions.

        :param obs: The first observations, shape (n_envs, ...).
        """

    def learn(
        self,
        obs: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        next_obs: Observation,
        terminated: np.ndarray,
        dones: np.ndarray,
        new_obs: Observation,
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param obs: Observations before the step, shape (n_envs, ...).
        :param actions: Actions taken, shape (n_envs,), int.
        :param rewards: Rewards, shape (n_envs,), float.
        :param next_obs: Observations that the step led to, shape (n_envs, ...).
        :param terminated: Whether these are terminal states, shape (n_envs,), bool.
        :param dones: Whether the episodes ended; without effect.
        :param new_obs: Observations to act on next, shape (n_envs, ...).
        :return: TD errors, shape (n_envs,), and greedy actions of ``new_obs``. The next call writes
            both arrays again.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
        network, buffers = self.network, self._buffers_for(len(actions))
        new_rows = as_rows(new_obs)
        result = kernels.learn_naive(
            *network.arrays,
            network.optimizer_kind,
            network.learning_rate,
            *network.betas,
            network.eps,
            network.exp_avg,
            network.exp_avg_sq,
            network.steps,
            self.gamma,
            self.q_step_size,
            self.bootstrap_at_terminal,
            self.max_grad_norm,
            as_rows(obs),
            as_column(actions, INT64),
            as_column(rewards, FLOAT32),
            new_rows if next_obs is new_obs else as_rows(next_obs),
            as_column(terminated, BOOL),
            new_rows,
            buffers.scratch,
            self._gradient,
            buffers.td_errors,
            buffers.actions,
        )
        if result != kernels.LEARNED:
            self._refuse(result, buffers, obs, rewards, next_obs, new_obs)
        return buffers.td_errors, buffers.actions
