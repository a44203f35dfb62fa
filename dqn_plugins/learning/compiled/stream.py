"""Stream Q(λ)'s update rule in compiled code: for perceptrons on the CPU. The fast one."""

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
from dqn_plugins.learning.compiled.network import CompiledNetwork, statistics_arrays
from dqn_plugins.learning.rules import StreamRule
from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import StreamQPolicy

__all__ = ["StreamCompiledLearner"]

TRACE_CUTS = {
    "never": kernels.CUT_NEVER,
    "after": kernels.CUT_AFTER,
    "watkins": kernels.CUT_WATKINS,
}


class StreamCompiledLearner(CompiledLearner):
    """
    The same update as :class:`StreamAutogradLearner`'s, in one call of compiled code.

    :param policy: The policy whose weights are learned, with its optimiser, which holds the traces.
    :param rule: The numbers of the update rule.
    :param n_envs: Number of environments.
    """

    def __init__(self, policy: StreamQPolicy, rule: StreamRule, n_envs: int) -> None:
        super().__init__(CompiledNetwork(policy))
        self.policy = policy
        # Compiled code for numbers of other types would be compiled anew.
        self._rule = float(rule.gamma), float(rule.trace_decay)
        self._trace_cut = TRACE_CUTS[rule.trace_cut]
        self._td_error_clip = float(rule.td_error_clip)
        self._update = np.zeros_like(self.network.weights)
        self._keep_traces_for(n_envs)

    def forget(self) -> None:
        """Forget the traces and the discounted returns. See :meth:`Learner.forget`."""
        self.network.traces[:] = 0
        self._returns[:] = 0

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and take the first observations of new episodes into the statistics.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        rows = as_rows(obs)
        if len(rows) != len(self.network.traces):
            self._keep_traces_for(len(rows))
        self.forget()
        mean, squared_deviations, count = self.network.arrays[-3:]
        if mean.size > 0:
            for row in rows.astype(np.float64):
                kernels.update_statistics(row, mean, squared_deviations, count)

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
        :param dones: Whether the episodes ended, shape (n_envs,), bool.
        :param new_obs: Observations to act on next, shape (n_envs, ...).
        :return: TD errors, shape (n_envs,), and greedy actions of ``new_obs``. The next call writes
            both arrays again.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. No weight or trace was
            changed.
        """
        network, buffers = self.network, self._buffers_for(len(actions))
        if len(actions) != len(network.traces):
            self._keep_traces_for(len(actions))
        new_rows = as_rows(new_obs)
        result = kernels.learn_stream(
            *network.arrays,
            network.optimizer_kind,
            network.learning_rate,
            network.overshoot_factor,
            *network.betas,
            network.eps,
            network.exp_avg,
            network.exp_avg_sq,
            network.steps,
            network.traces,
            network.average,
            network.n_averaged,
            network.averaging_window,
            *self._reward_statistics,
            self._returns,
            *self._rule,
            self._trace_cut,
            self._td_error_clip,
            as_rows(obs),
            as_column(actions, INT64),
            as_column(rewards, FLOAT32),
            new_rows if next_obs is new_obs else as_rows(next_obs),
            as_column(terminated, BOOL),
            as_column(dones, BOOL),
            new_rows,
            next_obs is not new_obs,
            buffers.scratch,
            self._update,
            buffers.td_errors,
            self._clipped_td_errors,
            buffers.actions,
        )
        if result != kernels.LEARNED:
            self._refuse(result, buffers, obs, rewards, next_obs, new_obs)
        return buffers.td_errors, buffers.actions

    def _keep_traces_for(self, n_envs: int) -> None:
        normalizer = self.policy.reward_normalizer
        if normalizer is None:
            self._reward_statistics = (np.zeros(0), np.zeros(0), np.zeros(0))
            self._returns = np.zeros(n_envs)
        else:
            normalizer.keep_returns_for(n_envs)
            self._reward_statistics = statistics_arrays(normalizer.statistics)
            self._returns = normalizer.returns.numpy()
        self._clipped_td_errors = np.zeros(n_envs, np.float32)
        self.network.bind_traces(n_envs)
