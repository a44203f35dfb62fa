"""Environments of this process as a ``VecEnv``, without copies that nobody needs."""

import time
from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.core import ActType, ObsType
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from dqn_plugins.errors import MalformedTransitionError
from dqn_plugins.wrappers.rewards.episode import EpisodeHistory

__all__ = ["NUMBERS", "ConstantMemoryMonitor", "SingleVecEnv", "SyncVecEnv"]

NUMBERS = "biuf"
"""Kinds of NumPy's types that hold real numbers: Booleans, integers, floats."""


class ConstantMemoryMonitor(Monitor[ObsType, ActType]):
    """
    Stable-Baselines3's ``Monitor`` in constant memory, however long an episode or a run is.

    ``Monitor`` keeps every reward of the running episode and a history of all episodes. This one
    keeps the running sum and the last episodes; ``get_episode_rewards`` and its siblings warn when
    they have forgotten some.

    :param env: The environment.
    :param history: Number of episodes that are remembered.
    """

    def __init__(self, env: gym.Env[ObsType, ActType], history: int = 100_000) -> None:
        super().__init__(env)
        self._history = EpisodeHistory(history)
        self.episode_returns = self._history.returns  # type: ignore[assignment]
        self.episode_lengths = self._history.lengths  # type: ignore[assignment]
        self.episode_times = self._history.times  # type: ignore[assignment]
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
        :raises MalformedTransitionError: If the reward is no number.
        """
        if self.needs_reset:
            raise RuntimeError("Tried to step environment that needs reset")
        observation, reward, terminated, truncated, info = self.env.step(action)
        try:
            self._return += float(reward)
        except (TypeError, ValueError) as error:
            raise MalformedTransitionError("reward", 0, repr(reward), "one real number") from error
        self._length += 1
        self.total_steps += 1
        if terminated or truncated:
            self.needs_reset = True
            elapsed = time.time() - self.t_start
            self._history.add(self._return, self._length, elapsed)
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
        return self._history.told(self._history.returns)

    def get_episode_lengths(self) -> list[int]:
        """
        Return the lengths of the remembered episodes.

        :return: Numbers of steps, oldest first.
        """
        return self._history.told(self._history.lengths)

    def get_episode_times(self) -> list[float]:
        """
        Return when the remembered episodes ended.

        :return: Seconds since the monitor was made, oldest first.
        """
        return self._history.told(self._history.times)


class SingleVecEnv(DummyVecEnv):
    """
    ``DummyVecEnv`` for exactly one environment.

    What it returns is the caller's to keep, as with ``DummyVecEnv``: nothing handed out changes
    later. It copies each observation once, and an information dictionary only when the environment
    put something into it, where ``DummyVecEnv`` deep-copies both at every step.

    It also looks at the form of what the environment gives, where ``DummyVecEnv`` would repeat a
    single number until it fits and cut fractions off where it expects integers.

    :param env: The environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__([lambda: env])
        space = self.observation_space
        self._is_array = not isinstance(space, (spaces.Dict, spaces.Tuple))
        self._obs_shape = (1, *(space.shape or ()))
        self._shape, self._dtype = self._obs_shape[1:], space.dtype

    def step(self, actions: np.ndarray) -> VecEnvStepReturn:
        """
        Take a step.

        :param actions: The action, shape (1,).
        :return: Observations, rewards, dones and infos, each for one environment.
        """
        self.actions = actions
        return self.step_wait()

    def step_wait(self) -> VecEnvStepReturn:
        """
        Take the step, and begin a new episode if this one ended.

        :return: Observations, rewards, dones and infos, each for one environment.
        :raises MalformedTransitionError: If the observation does not have the form that the space
            tells, or the environment changed its observation space.
        """
        obs, reward, terminated, truncated, info = self.envs[0].step(self.actions[0])
        info = deepcopy(info) if info else {}
        info["TimeLimit.truncated"] = truncated and not terminated
        done = bool(terminated or truncated)
        if done:
            self._check(obs)
            info["terminal_observation"] = deepcopy(obs)
            obs, self.reset_infos[0] = self.envs[0].reset()
            self._raise_if_space_changed()
        if self._is_array:
            as_agreed = isinstance(obs, np.ndarray) and obs.dtype == self._dtype
            if not (as_agreed and obs.shape == self._shape):
                self._check(obs)
            new_obs = np.empty(self._obs_shape, self._dtype)
            new_obs[0] = obs
        else:
            self._save_obs(0, obs)
            new_obs = self._obs_from_buf()  # type: ignore[assignment]
        rewards = np.empty(1, np.float32)
        rewards[0] = reward
        dones = np.empty(1, np.bool_)
        dones[0] = done
        return new_obs, rewards, dones, [info]

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        self._check(obs)
        super()._save_obs(env_idx, obs)

    def _check(self, obs: Any) -> None:
        """
        Refuse an observation of another form than the space tells.

        :param obs: What the environment gave.
        :raises MalformedTransitionError: If its shape is another one, or its numbers would not
            survive being cast to the space's type.
        """
        space = self.observation_space
        if not isinstance(space, (spaces.Dict, spaces.Tuple)):
            self._check_array("observation", obs, space)
            return
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            try:
                value = obs[key]
            except (TypeError, KeyError, IndexError):
                raise MalformedTransitionError(
                    "observation", 0, f"{obs!r} without {key!r}", f"an element of {space}"
                ) from None
            self._check_array(f"observation {key!r}", value, part)

    def _check_array(self, name: str, obs: Any, space: spaces.Space[Any]) -> None:
        try:
            array = np.asarray(obs)
        except ValueError:  # rows of different lengths
            array = np.asarray(obs, dtype=object)
        shape, dtype = space.shape or (), np.dtype(space.dtype)
        if array.shape != shape:
            self._raise_if_space_changed()
            raise MalformedTransitionError(name, 0, f"shape {array.shape}", f"of shape {shape}")
        if array.dtype == dtype:
            return
        fits = array.dtype.kind in NUMBERS
        if fits and dtype.kind != "f":
            # Floats may be of another precision, but whole numbers have to stay what they are.
            fits = bool(np.isfinite(array).all()) and np.array_equal(array.astype(dtype), array)
        if not fits:
            raise MalformedTransitionError(
                name, 0, f"{obs!r} of type {array.dtype}", f"an element of {space}, type {dtype}"
            )

    def _raise_if_space_changed(self) -> None:
        space = self.envs[0].observation_space
        if space is not self.observation_space and space != self.observation_space:
            raise MalformedTransitionError(
                "observation space", 0, str(space), f"{self.observation_space} throughout a run"
            )


class SyncVecEnv(DummyVecEnv):
    """
    ``DummyVecEnv`` without its deep copies of what was made for this step alone.

    What it returns is the caller's to keep. An information dictionary is copied only when the
    environment put something into it.

    :param env_fns: Functions that make the environments.
    """

    def step_wait(self) -> VecEnvStepReturn:
        """
        Step one environment after the other, and begin a new episode where one ended.

        :return: Observations, rewards, dones and infos.
        """
        if self.keys != [None]:
            return super().step_wait()
        (buffer,) = self.buf_obs.values()
        new_obs = np.empty(buffer.shape, buffer.dtype)
        rewards = np.empty(self.num_envs, np.float32)
        dones = np.empty(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = []
        for env_idx, env in enumerate(self.envs):
            obs, reward, terminated, truncated, info = env.step(self.actions[env_idx])
            info = deepcopy(info) if info else {}
            info["TimeLimit.truncated"] = not terminated and truncated
            if terminated or truncated:
                info["terminal_observation"] = deepcopy(obs)
                obs, self.reset_infos[env_idx] = env.reset()
            new_obs[env_idx], rewards[env_idx] = obs, reward
            dones[env_idx] = terminated or truncated
            infos.append(info)
        return new_obs, rewards, dones, infos
