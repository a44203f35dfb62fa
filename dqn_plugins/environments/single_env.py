"""Environments of this process as a ``VecEnv``, without copies that nobody needs."""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.core import ActType, ObsType
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.errors import MalformedTransitionError
from dqn_plugins.policies.action_masks import NUMBERS
from dqn_plugins.wrappers.rewards.episode import EpisodeHistory

__all__ = ["ConstantMemoryMonitor", "SingleVecEnv", "SyncVecEnv"]

COUNTED = (spaces.Discrete, spaces.MultiDiscrete)
UNCHANGING = (bool, int, float, str, np.number, np.bool_)


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

    @override
    def reset(self, **kwargs: Any) -> tuple[ObsType, dict[str, Any]]:
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

    @override
    def get_episode_rewards(self) -> list[float]:
        return self._history.told(self._history.returns)

    @override
    def get_episode_lengths(self) -> list[int]:
        return self._history.told(self._history.lengths)

    @override
    def get_episode_times(self) -> list[float]:
        return self._history.told(self._history.times)


class SyncVecEnv(DummyVecEnv):
    """
    ``DummyVecEnv`` without copies that nobody needs.

    What it returns is the caller's to keep, as with ``DummyVecEnv``: nothing handed out changes
    later. It copies each observation once, and an information dictionary only when the environment
    put something into it, where ``DummyVecEnv`` deep-copies both at every step.

    It also looks at the form of what the environments give, where ``DummyVecEnv`` would repeat a
    single number until it fits and cut fractions off where it expects integers.

    :param env_fns: Functions that make the environments.
    """

    def __init__(self, env_fns: list[Callable[[], gym.Env[Any, Any]]]) -> None:
        super().__init__(env_fns)
        space = self.observation_space
        self._is_array = not isinstance(space, (spaces.Dict, spaces.Tuple))
        self._is_counted = isinstance(space, COUNTED)
        self._shape, self._dtype = space.shape or (), space.dtype
        self._obs_shape = (self.num_envs, *self._shape)
        # Of each environment the last that was compared: to compare them takes microseconds.
        self._equal_spaces = [space] * self.num_envs

    @override
    def step(self, actions: np.ndarray) -> VecEnvStepReturn:
        self.actions = actions
        return self.step_wait()

    def step_wait(self) -> VecEnvStepReturn:
        """
        Step one environment after the other, and begin a new episode where one ended.

        :return: Observations, rewards, dones and infos.
        :raises MalformedTransitionError: If an observation does not have the form that the space
            tells, or an environment changed its observation space.
        """
        new_obs = np.empty(self._obs_shape, self._dtype) if self._is_array else None
        rewards, dones = np.empty(self.num_envs, np.float32), np.empty(self.num_envs, np.bool_)
        infos: list[dict[str, Any]] = []
        is_counted, dtype, shape = self._is_counted, self._dtype, self._shape
        for env_idx, env in enumerate(self.envs):
            try:
                obs, reward, terminated, truncated, info = env.step(self.actions[env_idx])
            except MalformedTransitionError as error:  # a monitor does not know which it is
                error.env_index = env_idx
                raise
            info = {key: _copied(value) for key, value in info.items()} if info else {}
            info["TimeLimit.truncated"] = truncated and not terminated
            done = bool(terminated or truncated)
            if done:
                self._check(env_idx, obs)
                info["terminal_observation"] = deepcopy(obs)
                obs, self.reset_infos[env_idx] = env.reset()
                self._raise_if_space_changed(env_idx)
            if new_obs is None:
                self._save_obs(env_idx, obs)
            else:
                is_array = type(obs) is np.ndarray and obs.dtype is dtype
                if is_counted or not is_array or obs.shape != shape:
                    self._check(env_idx, obs)
                new_obs[env_idx] = obs
            rewards[env_idx], dones[env_idx] = reward, done
            infos.append(info)
        return self._obs_from_buf() if new_obs is None else new_obs, rewards, dones, infos

    def _save_obs(self, env_idx: int, obs: Any) -> None:
        self._check(env_idx, obs)
        super()._save_obs(env_idx, obs)

    def _check(self, env_idx: int, obs: Any) -> None:
        """Refuse what has another shape than the space tells, or would not survive its type."""
        space = self.observation_space
        if not isinstance(space, (spaces.Dict, spaces.Tuple)):
            self._check_array("observation", env_idx, obs, space)
            return
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            try:
                value = obs[key]
            except (TypeError, KeyError, IndexError):
                raise MalformedTransitionError(
                    "observation", env_idx, f"{obs!r} without {key!r}", f"an element of {space}"
                ) from None
            self._check_array(f"observation {key!r}", env_idx, value, part)

    def _check_array(self, name: str, env_idx: int, obs: Any, space: spaces.Space[Any]) -> None:
        try:
            array = np.asarray(obs)
        except ValueError:  # rows of different lengths
            array = np.asarray(obs, dtype=object)
        shape, dtype = space.shape or (), np.dtype(space.dtype)
        if array.shape != shape:
            self._raise_if_space_changed(env_idx)
            raise MalformedTransitionError(
                name, env_idx, f"shape {array.shape}", f"of shape {shape}"
            )
        fits = array.dtype.kind in NUMBERS and are_counted(array, space)
        if fits and array.dtype != dtype and dtype.kind != "f":
            # Floats may be of another precision, but whole numbers have to stay what they are.
            fits = bool(np.isfinite(array).all()) and np.array_equal(array.astype(dtype), array)
        if not fits:
            raise MalformedTransitionError(
                name,
                env_idx,
                f"{obs!r} of type {array.dtype}",
                f"an element of {space}, type {dtype}",
            )

    def _raise_if_space_changed(self, env_idx: int) -> None:
        space = self.envs[env_idx].observation_space
        if space is self._equal_spaces[env_idx]:
            return
        if space != self.observation_space:
            raise MalformedTransitionError(
                "observation space",
                env_idx,
                str(space),
                f"{self.observation_space} throughout a run",
            )
        self._equal_spaces[env_idx] = space


class SingleVecEnv(SyncVecEnv):
    """
    :class:`SyncVecEnv` of one environment that is made already.

    :param env: The environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__([lambda: env])


def are_counted(values: np.ndarray, space: spaces.Space[Any]) -> bool:
    """Tell whether a space that counts from 0 has these numbers. Other spaces have any."""
    if not isinstance(space, COUNTED):
        return True
    sizes = space.n if isinstance(space, spaces.Discrete) else space.nvec
    return bool(((values >= 0) & (values < sizes)).all())


def _copied(value: Any) -> Any:
    """Copy what an environment tells, by the shortest way for what most tell."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.copy()
    return value if isinstance(value, UNCHANGING) else deepcopy(value)
