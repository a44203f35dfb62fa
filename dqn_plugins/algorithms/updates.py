"""The part of an algorithm that hands transitions to a learner, and keeps the learner current."""

from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np
from stable_baselines3.common.utils import update_learning_rate

from dqn_plugins.algorithms.exploration import EpsilonGreedy
from dqn_plugins.environments import raise_if_malformed
from dqn_plugins.errors import DivergenceError, NonFiniteTransitionError
from dqn_plugins.learning import (
    Backend,
    BackendLearner,
    CompiledLearner,
    Learner,
    Observation,
    Rule,
    Transition,
    Update,
    choose_backend,
    raise_if_not_finite,
)

__all__ = ["Backend", "Updates"]


class Updates(EpsilonGreedy):
    """Makes the learner, renews it where somebody changed what it works on, and feeds it."""

    rule_class: ClassVar[type[Rule]]
    """The update rule. The algorithm has an attribute for each of its numbers."""
    _rule_numbers: ClassVar[Any]
    _learner: Learner
    _last_td_error: float
    backend: Backend
    update: Update

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # The algorithm's attributes that make its rule, in the order of the rule's fields
        if hasattr(cls, "rule_class"):  # this part of an algorithm has none
            cls._rule_numbers = attrgetter(*(field.name for field in fields(cls.rule_class)))

    def _make_rule(self) -> Rule:
        return self.rule_class(*self._rule_numbers(self))

    def _is_compiled(self) -> bool:
        """Whether compiled code learns, or would."""
        learner, _ = choose_backend(self.policy, self._make_rule(), self.backend)
        return learner is CompiledLearner

    def _replace_learner(self, n_envs: int) -> None:
        rule = self._make_rule()
        learner, reason = choose_backend(self.policy, rule, self.backend)
        if reason is not None and self.verbose >= 1:
            print(f"Learning in torch, which is slower than compiled code: {reason}.")
        self._learner = self._make_learner(learner(self.policy, rule, n_envs))
        self._learner.set_exploration_rate(self.exploration_rate)
        self._rule_in_force = self._rule_numbers(self)

    def _make_learner(self, backend: BackendLearner) -> Learner:
        """
        Make what transitions are handed to.

        :param backend: What computes.
        :return: Here, the same.
        """
        return backend

    def _renew_learner(self, n_envs: int | None = None, thorough: bool = True) -> None:
        """
        Make a new learner if somebody replaced what the old one works on.

        :param n_envs: Number of environments to learn from; None for as many as now.
        :param thorough: See :meth:`Learner.is_current`.
        """
        learner = self._learner
        if n_envs is None:
            n_envs = learner.n_envs
        if n_envs != learner.n_envs or not learner.is_current(thorough):
            self._replace_learner(n_envs)
        elif self._rule_in_force != self._rule_numbers(self):
            learner.set_rule(self._make_rule())
            self._rule_in_force = self._rule_numbers(self)

    def _notice_changes(self) -> None:
        """Take note of what a callback did: it may set numbers, or load."""
        self._renew_learner(self.n_envs, thorough=False)

    def _forget_own_episode(self) -> None:
        """Keep ``learn`` from continuing what another loop learned last: here, there is none."""

    def _start_episodes(self, obs: Observation) -> None:
        """
        Tell the learner that new episodes begin in all environments.

        :param obs: The first observations, shape (n_envs, ...).
        """
        raise_if_malformed(obs, None, None, self.observation_space)
        raise_if_not_finite(obs, np.zeros(0), obs)
        self._learner.start_episodes(obs)
        self._begin_exploring(self._learner.n_envs)

    def _learn_from(self, transition: Transition) -> None:
        try:
            td_errors = self._learner.learn(transition)
        except (NonFiniteTransitionError, DivergenceError) as error:
            error.step = self.num_timesteps
            raise
        self._explore_on(transition)
        self._count_updates(transition.n_transitions, td_errors)

    def _count_updates(self, count: int, td_errors: np.ndarray) -> None:
        """
        Take note of what was learned.

        :param count: How many transitions there were.
        :param td_errors: What the learner returned.
        """
        errors = td_errors.tolist()
        self._n_updates += count if self.update == "each" else min(count, 1)
        self._td_error_count += count
        self._last_td_error = errors[-1]
        self._squared_td_error_sum += sum(error * error for error in errors)

    def _follow_schedules(self, total_timesteps: int) -> None:
        """Bring the exploration rate and the learning rate up to the current progress."""
        done = min(self.num_timesteps, total_timesteps)  # the last steps may be more than asked for
        self._update_current_progress_remaining(done, max(total_timesteps, 1))
        progress = self._current_progress_remaining
        self._set_exploration_rate(
            max(self.exploration_schedule(progress), self._smallest_exploration_rate)
        )
        if callable(self.learning_rate):
            self._set_learning_rate(self.lr_schedule(progress))

    def _set_learning_rate(self, learning_rate: float) -> None:
        update_learning_rate(self.policy.optimizer, learning_rate)

    def _reset_training_statistics(self) -> None:
        self._last_td_error = 0.0
        self._td_error_count = 0
        self._squared_td_error_sum = 0.0
