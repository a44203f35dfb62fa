"""The part of an algorithm that hands transitions to a learner, and keeps the learner current."""

from dataclasses import fields
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from stable_baselines3.common.utils import update_learning_rate

from dqn_plugins.algorithms.exploration import EpsilonGreedy
from dqn_plugins.environments import raise_if_malformed
from dqn_plugins.errors import DivergenceError, NonFiniteTransitionError
from dqn_plugins.learning import (
    AutogradLearner,
    CompiledLearner,
    Learner,
    Observation,
    Rule,
    Transition,
    Update,
    is_faster_in_torch,
    raise_if_not_finite,
    reason_against_compiling,
)

__all__ = ["Backend", "Updates"]

Backend: TypeAlias = Literal["auto", "torch", "compiled"]
"""Which learner to use."""


class Updates(EpsilonGreedy):
    """Makes the learner, renews it where somebody changed what it works on, and feeds it."""

    rule_class: ClassVar[type[Rule]]
    """The update rule. The algorithm has an attribute for each of its numbers."""
    _rule_numbers: ClassVar[Any]
    _learner: Learner
    _last_td_error: float
    _reason_against_compiling = staticmethod(reason_against_compiling)
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
        """
        Choose between the two learners.

        :return: Whether to use the compiled one.
        :raises ValueError: If it was asked for and cannot work on the policy.
        """
        if self.backend == "torch":
            return False
        reason = self._reason_against_compiling(self.policy)
        if reason is not None and self.backend == "compiled":
            raise ValueError(
                f"backend: received 'compiled', but {reason}. Pass backend='torch', or 'auto' to "
                "have the compiled learner wherever it can be."
            )
        if reason is not None:
            return False
        return self.backend == "compiled" or not is_faster_in_torch(self.policy)

    def _replace_learner(self, n_envs: int) -> None:
        learner = CompiledLearner if self._is_compiled() else AutogradLearner
        self._learner = learner(self.policy, self._make_rule(), n_envs)
        self._learner.set_exploration_rate(self.exploration_rate)
        self._rule_in_force = self._rule_numbers(self)

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
