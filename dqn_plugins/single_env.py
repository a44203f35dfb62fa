"""One environment as a ``VecEnv``, without the copies that several environments need."""

import time
from collections import deque
from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.core import ActType, ObsType
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

__all__ = ["ConstantMemoryMonitor", "SingleVecEnv"]


class ConstantMemoryMonitor(Monitor[ObsType, ActType]):
    """
    Stable-Baselines3's ``Monitor`` in constant memory, however long an episode or a run is.

    ``Monitor`` keeps every reward of the running episode and a history of all episodes. This one
    keeps the running sum and the last episodes.

    :param env: The environment.
    :param history: Number of episodes that ``get_episode_rewards`` and its siblings remember.
    """

    def __init__(self, env: gym.Env[ObsType, ActType], history: int = 1_000) -> None:
        super().__init__(env)
        self.episode_returns = deque(maxlen=history)  # type: ignore[assignment]
        self.episode_lengths = deque(maxlen=history)  # type: ignore[assignment]
        self.episode_times = deque(maxlen=history)  # type: ignore[assignment]
        self._return = 0.0
        self._length = 0

    def reset(self, **kwargs: Any) -> tuple[ObsType, dict[str, Any]]:
        """
        Start an episode.

        :param kwargs: What the environment's own ``reset`` takes: ``seed`` and ``options``.
        :return: The first observation, and information about it.
        """
        self._return, self._length = 0.0, 0
        return super().reset(**kwargs)

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step the environment.

        :param action: The action.
        :return: Observation, reward, terminated, truncated and information, which holds
            ``"episode"`` with the return ``r``, length ``l`` and time ``t`` at an episode's end.
        :raises RuntimeError: If the episode is over.
        """
        if self.needs_reset:
            raise RuntimeError("Tried to step environment that needs reset")
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._return += float(reward)
        self._length += 1
        self.total_steps += 1
        if terminated or truncated:
            self.needs_reset = True
            elapsed = time.time() - self.t_start
            self.episode_returns.append(self._return)
            self.episode_lengths.append(self._length)
            self.episode_times.append(elapsed)
            info["episode"] = {
                "r": round(self._return, 6),
                "l": self._length,
                "t": round(elapsed, 6),
            }
        return observation, reward, terminated, truncated, info

    def get_episode_rewards(self) -> list[float]:
        """
        Return the returns of the remembered episodes.

        :return: Returns, oldest first.
        """
        return list(self.episode_returns)

    def get_episode_lengths(self) -> list[int]:
        """
        Return the lengths of the remembered episodes.

        :return: Numbers of steps, oldest first.
        """
        return list(self.episode_lengths)

    def get_episode_times(self) -> list[float]:
        """
        Return when the remembered episodes ended.

        :return: Seconds since the monitor was made, oldest first.
        """
        return list(self.episode_times)


class SingleVecEnv(DummyVecEnv):
    """
    ``DummyVecEnv`` for exactly one environment.

    What it returns is the caller's to keep, as with ``DummyVecEnv``: nothing handed out changes
    later. It copies each observation once, and an information dictionary only when the environment
    put something into it, where ``DummyVecEnv`` deep-copies both at every step.

    :param env: The environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__([lambda: env])
        space = self.observation_space
        self._is_array = not isinstance(space, (spaces.Dict, spaces.Tuple))
        self._obs_shape = (1, *(space.shape or ()))

    def step_wait(self) -> VecEnvStepReturn:
        """
        Take the step, and begin a new episode if this one ended.

        :return: Observations, rewards, dones and infos, each for one environment.
        """
        obs, reward, terminated, truncated, info = self.envs[0].step(self.actions[0])
        info = deepcopy(info) if info else {}
        info["TimeLimit.truncated"] = truncated and not terminated
        done = bool(terminated or truncated)
        if done:
            info["terminal_observation"] = deepcopy(obs)
            obs, self.reset_infos[0] = self.envs[0].reset()
        if self._is_array:
            new_obs = np.empty(self._obs_shape, self.observation_space.dtype)
            new_obs[0] = obs
        else:
            self._save_obs(0, obs)
            new_obs = self._obs_from_buf()  # type: ignore[assignment]
        rewards = np.empty(1, np.float32)
        rewards[0] = reward
        dones = np.empty(1, np.bool_)
        dones[0] = done
        return new_obs, rewards, dones, [info]
