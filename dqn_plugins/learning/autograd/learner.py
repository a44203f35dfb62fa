"""The backend in torch: for any policy, on any device. The reference."""

from collections.abc import Callable
from typing import Any

import numpy as np

from dqn_plugins.learning.autograd.naive import learn_naive
from dqn_plugins.learning.autograd.stream import learn_stream
from dqn_plugins.learning.autograd.values import as_tensor, q_values, rows_of
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.limits import check_optimizer
from dqn_plugins.learning.rules import NaiveRule, Rule, StreamRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies import QPolicy, TraceOptimizer

__all__ = ["AutogradLearner"]

RULES: dict[type[Rule], Callable[..., np.ndarray]] = {
    NaiveRule: learn_naive,
    StreamRule: learn_stream,
}
"""How each rule is applied: functions of the policy, the rule, the transitions and ε."""


class AutogradLearner(Learner):
    """
    Applies a rule through torch's automatic differentiation. See :class:`Learner`.

    :param policy: The policy, with its optimiser.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    """

    rule: NaiveRule | StreamRule

    def __init__(self, policy: QPolicy, rule: Rule, n_envs: int) -> None:
        super().__init__(policy, rule, n_envs)
        check_optimizer(policy.optimizer)
        self._keep_traces()

    def _keep_traces(self) -> None:
        """Have a trace and a return for each environment, also after others were loaded."""
        if isinstance(self.policy.optimizer, TraceOptimizer):
            self.policy.optimizer.keep_traces_for(self.n_envs)
        if self._reward_normalizer is not None:
            self._reward_normalizer.keep_returns_for(self.n_envs)

    @property
    def _reward_normalizer(self) -> Any:
        return getattr(self.policy.q_net, "reward_normalizer", None)

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :param thorough: Without effect.
        :return: True: torch itself is asked for the weights at every step.
        """
        return True

    def forget(self) -> None:
        """See :meth:`Learner.forget`."""
        self._keep_traces()
        optimizer = self.policy.optimizer
        for env_index in range(self.n_envs):
            if isinstance(optimizer, TraceOptimizer):
                optimizer.clear(env_index)
            if self._reward_normalizer is not None:
                self._reward_normalizer.returns[env_index] = 0.0

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and look at the first observations. See :meth:`Learner`.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        self.forget()
        self._observe(obs)

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        actions: np.ndarray = q_values(self.policy, obs).argmax(axis=1)
        return actions

    def learn(self, transition: Transition) -> np.ndarray:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param transition: The transitions.
        :return: TD errors, shape (n_envs,), float32.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
        check_optimizer(self.policy.optimizer)
        self._keep_traces()
        obs, rewards, next_obs = transition.obs, transition.rewards, transition.next_obs
        new_obs, begun, first = transition.new_obs, transition.begun, transition.first_env_index
        raise_if_not_finite(obs, rewards, next_obs, first)
        if begun is not None:
            raise_if_not_finite(new_obs, rewards, new_obs, first)
        td_errors = np.zeros(len(rewards), np.float32)
        rows = np.flatnonzero(transition.valid)
        apply = RULES[type(self.rule)]
        for group in rows[:, np.newaxis] if self.rule.update == "each" else [rows]:
            if len(group):
                td_errors[group] = apply(
                    self.policy, self.rule, transition, group, self._exploration_rate
                )
        if begun is not None:
            self._observe(rows_of(new_obs, np.flatnonzero(begun)))
        return td_errors

    def _observe(self, obs: Observation) -> None:
        """Take observations into the running statistics."""
        normalizer = getattr(self.policy.q_net, "observation_normalizer", None)
        if normalizer is not None:
            normalizer.update(as_tensor(self.policy, obs))
