"""What the learners in torch share."""

import numpy as np
import torch as th
from stable_baselines3.common.utils import obs_as_tensor

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.learner import LARGEST_GRADIENT, Learner
from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import QPolicy

__all__ = ["AutogradLearner"]


class AutogradLearner(Learner):
    """
    Base of the learners in torch, which work with any policy on any device.

    :param policy: The policy whose weights are learned, with its optimiser.
    """

    def __init__(self, policy: QPolicy) -> None:
        self.policy = policy

    def is_current(self) -> bool:
        """
        Tell whether the learner still works on the memory that the policy uses.

        :return: True: torch itself is asked for the weights at every step.
        """
        return True

    def greedy_actions(self, obs: Observation) -> np.ndarray:
        """
        Find the actions of the highest values. See :meth:`Learner.greedy_actions`.

        :param obs: Observations, shape (n_envs, ...).
        :return: Actions, shape (n_envs,), int64.
        """
        actions: np.ndarray = self._q_values(obs).argmax(axis=1)
        return actions

    def _q_values(self, obs: Observation) -> np.ndarray:
        self.policy.set_training_mode(False)
        with th.no_grad():
            q_values: th.Tensor = self.policy.q_net(self._tensor(obs))
        return q_values.cpu().numpy()

    def _tensor(self, obs: Observation) -> th.Tensor | dict[str, th.Tensor]:
        return obs_as_tensor(obs, self.policy.device)

    @staticmethod
    def _td_errors(
        rewards: np.ndarray, gamma: float, next_values: np.ndarray, taken_values: np.ndarray
    ) -> np.ndarray:
        """
        Compute δ = r + γ·max Q(s′, ·) − Q(s, a).

        :param rewards: Rewards r, shape (n_envs,).
        :param gamma: Discount factor γ.
        :param next_values: Values of the next states, shape (n_envs,).
        :param taken_values: Values Q(s, a) of the actions taken, shape (n_envs,).
        :return: TD errors, shape (n_envs,), float32.
        :raises DivergenceError: If one overflows.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            td_errors: np.ndarray = rewards + gamma * next_values - taken_values
            td_errors = td_errors.astype(np.float32)
        if not np.isfinite(td_errors).all():
            env_index = int(np.flatnonzero(~np.isfinite(td_errors))[0])
            raise DivergenceError(env_index, td_errors[env_index])
        return td_errors

    @staticmethod
    def _refuse_overflow(
        gradients: list[th.Tensor], env_index: int, td_errors: np.ndarray, scale: float = 1.0
    ) -> None:
        """
        Refuse a gradient whose square would overflow.

        :param gradients: The gradient, one tensor per parameter.
        :param env_index: Index of the environment to name.
        :param td_errors: TD errors, shape (n_envs,).
        :param scale: What the gradient will be multiplied by, at least 0.
        :raises DivergenceError: If an entry is too large or NaN.
        """
        largest = th.stack([gradient.abs().max() for gradient in gradients]).max()
        if not largest.item() * scale < LARGEST_GRADIENT:
            raise DivergenceError(env_index, td_errors[env_index])
