"""What the algorithms ask of a learner."""

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any

import numpy as np
import torch as th

from dqn_plugins.learning.rules import Rule
from dqn_plugins.learning.transition import Observation, Transition
from dqn_plugins.policies import QPolicy

__all__ = ["BackendLearner", "Learner"]


class Learner(ABC):
    """
    Turns transitions, one per environment, into a change of the policy's weights.

    Everything that a saved model needs (weights, optimiser state, statistics) stays in the policy;
    a learner only works on it. A copy of a learner, made by ``copy.deepcopy`` or ``pickle``, is a
    new one that works on the copy of the policy.

    :param policy: The policy, with its optimiser.
    :param rule: The update rule.
    :param n_envs: Number of environments.
    """

    def __init__(self, policy: QPolicy, rule: Rule, n_envs: int) -> None:
        self.policy = policy
        self.rule = rule
        self.n_envs = n_envs
        self._exploration_rate = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.policy, self.rule, self.n_envs)

    def set_rule(self, rule: Rule) -> None:
        """
        Learn by other numbers from now on.

        :param rule: A rule of the same kind.
        """
        self.rule = rule

    def set_exploration_rate(self, exploration_rate: float) -> None:
        """
        Tell by which ε actions are chosen, for rules whose target depends on it.

        :param exploration_rate: ε, in [0, 1].
        """
        self._exploration_rate = exploration_rate

    @abstractmethod
    def is_current(self, thorough: bool = True) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :param thorough: Whether to look at every tensor of the policy. Otherwise only at what a
            callback may do between two steps: load parameters or an optimiser's state, put another
            optimiser or other memory in place of the weights.
        :return: False if somebody replaced the weights, the optimiser or its state; then a new
            learner has to be made.
        """

    @abstractmethod
    def forget(self) -> None:
        """Forget what led here: what comes next is no continuation of what was learned last."""

    @abstractmethod
    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and take the first observations of new episodes into the statistics.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """

    def compile(self, masked: bool = False) -> None:  # noqa: B027 - for most there is nothing to do
        """
        Do beforehand what would keep the first update waiting. Nothing is changed.

        :param masked: Whether transitions will have masks of possible actions.
        """

    @abstractmethod
    def greedy_actions(
        self, obs: Observation, action_masks: np.ndarray | None = None
    ) -> np.ndarray:
        """
        Find the actions of the highest values, the first of them where several are.

        :param obs: Observations, shape (n_envs, ...).
        :param action_masks: Which actions are possible, shape (n_envs, n_actions), bool; None for
            all.
        :return: Actions, shape (n_envs,), int64.
        """

    @abstractmethod
    def learn(self, transition: Transition) -> np.ndarray:
        """
        Learn from one transition per environment, each by itself or all at once as the rule says.

        :param transition: The transitions.
        :return: TD errors before each change, in the units of the environment's rewards, shape
            (n_envs,), float32; 0 where there was no transition.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. All is as it was before
            the transition that it names, or the mean that it is a part of.
        :raises ValueError: If the optimiser's learning rate or eps is out of the range that can be
            learned with. Nothing was changed.
        """


class BackendLearner(Learner):
    """
    A learner that computes: with torch's automatic differentiation, or in compiled code.

    Besides applying a rule to transitions as they come, it takes steps on minibatches.
    """

    @abstractmethod
    def action_values(self, obs: Any) -> th.Tensor:
        """
        Compute the values of all actions, in the units that are learned in.

        :param obs: Observations, arrays or tensors, shape (n, ...), or a dictionary of them.
        :return: The values, shape (n, n_actions), float32.
        """

    @abstractmethod
    def fit(
        self, obs: Any, actions: th.Tensor, targets: th.Tensor, rows: np.ndarray, n_batches: int
    ) -> bool:
        """
        Take one step for each minibatch, on the mean squared error of the values of actions.

        :param obs: Observations, tensors of shape (n, ...), or a dictionary of them.
        :param actions: Actions, shape (n,), int64.
        :param targets: What their values are to become, shape (n,), float32.
        :param rows: Which of them to learn from, in which order, int64.
        :param n_batches: Into how many minibatches to divide them.
        :return: False if a gradient is too large or NaN; no step was taken along it.
        """

    def snapshot(self) -> Any:
        """
        Copy what learning changes.

        :return: Something for :meth:`restore`.
        """
        return deepcopy((self.policy.state_dict(), self.policy.optimizer.state_dict()))

    def restore(self, state: Any) -> None:
        """
        Return to an earlier state.

        :param state: What :meth:`snapshot` returned.
        """
        self.policy.load_state_dict(state[0])
        self.policy.optimizer.load_state_dict(state[1])
