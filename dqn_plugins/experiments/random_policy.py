"""Random actions as an algorithm: what any learning has to beat."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = ["RandomPolicy"]


class RandomPolicy:
    """
    Takes every action with the same probability and learns nothing.

    :param policy: Without effect; where Stable-Baselines3's algorithms have their policy.
    :param env: The environment, with discrete actions.
    :param seed: Seed of the actions and of the environment.
    """

    def __init__(self, policy: str, env: gym.Env[Any, Any], seed: int | None = None) -> None:
        assert isinstance(env.action_space, spaces.Discrete)
        self.env = env
        self.seed = seed
        self.num_timesteps = 0
        self._first_action = int(env.action_space.start)
        self._n_actions = int(env.action_space.n)
        acting, predicting = np.random.SeedSequence(seed).spawn(2)
        # Evaluating must not change which episodes are played while "training".
        self._rng = np.random.default_rng(acting)
        self._predict_rng = np.random.default_rng(predicting)

    def learn(self, total_timesteps: int) -> "RandomPolicy":
        """
        Play without learning.

        :param total_timesteps: Environment steps to do.
        :return: This policy.
        """
        self.env.reset(seed=self.seed)
        while self.num_timesteps < total_timesteps:
            action = self._first_action + int(self._rng.integers(self._n_actions))
            _, _, terminated, truncated, _ = self.env.step(action)
            self.num_timesteps += 1
            if terminated or truncated:
                self.env.reset()
        return self

    def predict(
        self, observation: Any, deterministic: bool = False
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Choose actions.

        :param observation: One observation, or one per environment, shape (n, ...).
        :param deterministic: Without effect.
        :return: The actions, shape () or (n,), int64, and None.
        """
        space = self.env.observation_space
        if isinstance(space, spaces.Dict):
            key = next(iter(space))
            space, observation = space[key], observation[key]
        n_dimensions = len(space.shape or ())
        batch_shape = np.shape(observation)[: np.ndim(observation) - n_dimensions]
        actions = self._predict_rng.integers(self._n_actions, size=batch_shape)
        return np.asarray(self._first_action + actions), None
