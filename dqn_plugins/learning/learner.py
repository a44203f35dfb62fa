"""What the algorithms ask of a learner."""

from typing import Protocol

import numpy as np

from dqn_plugins.learning.transition import Observation

__all__ = ["LARGEST_GRADIENT", "LARGE_TD_ERROR", "Learner"]

LARGEST_GRADIENT = 1e18
"""A gradient with a larger entry is refused: its square, which Adam takes, would overflow."""
LARGE_TD_ERROR = 1e6
"""With a larger TD error, not only the gradient is looked at but the traces that it is added to."""


class Learner(Protocol):
    """
    Turns one batch of transitions, one per environment, into a change of the policy's weights.

    Everything that a saved model needs (weights, optimiser state, statistics) stays in the policy;
    a learner only works on it.
    """

    def is_current(self) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :return: False if somebody replaced the weights or the optimiser's state, as
            ``optimizer.load_state_dict`` does; then a new learner has to be made.
        """

    def forget(self) -> None:
        """Forget what led here: what comes next is no continuation of what was learned last."""

    def start_episodes(self, obs: Observation) -> None:
        """
        Forget what led here, and look at the first observations of new episodes.

        :param obs: The first observations in all environments, shape (n_envs, ...).
        """

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values, the first of them where several are.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
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
        Learn from one transition per environment, in one change of the weights.

        :param obs: Observations before the step, shape (n_envs, ...).
        :param actions: Actions taken, shape (n_envs,), int.
        :param rewards: Rewards, shape (n_envs,), float.
        :param next_obs: Observations that the step led to, shape (n_envs, ...).
        :param terminated: Whether these are terminal states, shape (n_envs,), bool.
        :param dones: Whether the episodes ended, terminated or truncated, shape (n_envs,), bool.
        :param new_obs: Observations to act on next: ``next_obs``, or the first ones of new
            episodes.
        :return: TD errors before the change, shape (n_envs,), float32, and the greedy actions of
            ``new_obs`` after it, shape (n_envs,), int64. The next call may write both arrays again.
        :raises NonFiniteTransitionError: If a number is not finite. Nothing was changed.
        :raises DivergenceError: If a TD error or the gradient overflows. Nothing was changed.
        """
