"""The compiled backend: for perceptrons and small convolutions on the CPU. The fast one."""

from typing import NoReturn

import numpy as np

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.compiled.acting import greedy_actions, observe
from dqn_plugins.learning.compiled.binding import Binding
from dqn_plugins.learning.compiled.checks import LEARNED, NOT_FINITE
from dqn_plugins.learning.compiled.compilation import announce_compilation, by_reference
from dqn_plugins.learning.compiled.naive import NAIVE
from dqn_plugins.learning.compiled.rule import EXPLORATION_RATE, CompiledRule
from dqn_plugins.learning.compiled.stream import STREAM
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.rules import NaiveRule, Rule, StreamRule
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite
from dqn_plugins.policies import QPolicy

__all__ = ["CompiledLearner"]

RULES: dict[type[Rule], CompiledRule] = {NaiveRule: NAIVE, StreamRule: STREAM}

FLOAT32 = np.dtype(np.float32)


class CompiledLearner(Learner):
    """
    Applies a rule in one call of compiled code. See :class:`Learner`.

    :param policy: A policy that ``reason_against_compiling`` has nothing against.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    """

    def __init__(self, policy: QPolicy, rule: Rule, n_envs: int) -> None:
        announce_compilation()
        super().__init__(policy, rule, n_envs)
        self._compiled_rule = RULES[type(rule)]
        self._binding = binding = Binding(policy, n_envs)
        self._td_errors = np.zeros(n_envs, np.float32)
        self._numbers = np.zeros(len(self._compiled_rule.numbers(rule)))
        self._network = binding.network
        self._structure = by_reference(
            self._compiled_rule.bind(binding, self._numbers, self._td_errors)
        )
        self._learn = self._compiled_rule.learn
        self.set_rule(rule)

    def set_rule(self, rule: Rule) -> None:
        """
        Learn by other numbers from now on. See :meth:`Learner.set_rule`.

        :param rule: A rule of the same kind.
        """
        super().set_rule(rule)
        self._numbers[:] = self._compiled_rule.numbers(rule)
        self.set_exploration_rate(self._exploration_rate)

    def set_exploration_rate(self, exploration_rate: float) -> None:
        """
        Tell by which ε actions are chosen. See :meth:`Learner.set_exploration_rate`.

        :param exploration_rate: ε, in [0, 1].
        """
        super().set_exploration_rate(exploration_rate)
        self._numbers[EXPLORATION_RATE] = exploration_rate

    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner works on the memory that the policy uses.

        :param thorough: Whether to look at every tensor, see :meth:`Learner.is_current`.
        :return: False if a new learner has to be made.
        """
        return self._binding.is_current(thorough)

    def forget(self) -> None:
        """See :meth:`Learner.forget`."""
        self._binding.traces[:] = 0
        self._binding.returns[:] = 0

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and look at the first observations. See :meth:`Learner`.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """
        self.forget()
        observe(self._network, as_rows(obs))

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        rows = as_rows(obs)
        actions = np.empty(len(rows), np.int64)
        greedy_actions(self._network, rows, actions)
        return actions

    def learn(self, transition: Transition) -> np.ndarray:
        """
        Learn from one transition per environment. See :meth:`Learner.learn`.

        :param transition: The transitions.
        :return: TD errors, shape (n_envs,), float32. The next call writes the array again.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
        self._binding.update_settings()
        obs, actions, rewards, next_obs, terminated, dones, new_obs, valid, begun, first = (
            transition
        )
        if begun is not None:
            raise_if_not_finite(new_obs, rewards, new_obs, first)
        result = self._learn(
            self._structure,
            as_rows(obs),
            actions,
            rewards,
            as_rows(next_obs),
            terminated,
            dones,
            valid,
            first,
        )
        if result != LEARNED:
            self._refuse(result, transition)
        if begun is not None:
            observe(self._network, as_rows(new_obs)[begun])
        return self._td_errors[: len(actions)]

    def _refuse(self, result: int, transition: Transition) -> NoReturn:
        """
        Say why compiled code refused a batch.

        :param result: What it returned, other than ``LEARNED``.
        :param transition: The transitions.
        :raises NonFiniteTransitionError: If a number is not finite.
        :raises DivergenceError: If a TD error or the gradient overflows.
        """
        first = transition.first_env_index
        if result == NOT_FINITE:
            raise_if_not_finite(transition.obs, transition.rewards, transition.next_obs, first)
        raise DivergenceError(first + result, float(self._td_errors[result]))


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
    if obs.dtype != FLOAT32:
        return obs.astype(np.float32, order="C").reshape(len(obs), -1)
    return np.require(obs, np.float32, ["C", "W"]).reshape(len(obs), -1)
