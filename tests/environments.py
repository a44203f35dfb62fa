"""Small environments that play known numbers, and remember what they played."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

__all__ = [
    "BadReset",
    "DriftEnv",
    "FaultyEnv",
    "RecordingEnv",
    "SampledEnv",
    "ScriptedEnv",
    "SpacesEnv",
    "Transition",
    "observing",
    "raising",
    "rewarding",
]


class Transition(NamedTuple):
    """What ``learn_one`` takes."""

    obs: Any
    action: int
    reward: float
    next_obs: Any
    terminated: bool


class SpacesEnv(gym.Env[Any, Any]):
    """
    The spaces of a problem; nothing steps it.

    :param observation_space: Observation space.
    :param action_space: Action space, or the number of actions.
    """

    def __init__(self, observation_space: Any, action_space: Any = 2) -> None:
        is_number = isinstance(action_space, int)
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(action_space) if is_number else action_space


class NumberedEnv(SpacesEnv):
    """Numbers its states: a step adds 1, a reset goes to the next thousand after 6 steps."""

    def __init__(self, dtype: Any = np.float32, first: float = 0) -> None:
        super().__init__(spaces.Box(0, 2**40, (1,), dtype))
        self.number, self.dtype = first, dtype

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.number, self.n_steps = self.number + 1000 - self.number % 1000, 0
        return np.array([self.number], self.dtype), {}

    def step(self, action: Any) -> Any:
        self.number, self.n_steps = self.number + 1, self.n_steps + 1
        reward = float(self.number % 2)
        return np.array([self.number], self.dtype), reward, False, self.n_steps == 6, {}


class SampledEnv(SpacesEnv):
    """
    Observations drawn from a space, rewards of another size than 1, and episodes of six steps.

    :param observation_space: The space.
    :param n_actions: Number of actions.
    :param info: What it tells at every step and reset.
    """

    def __init__(self, observation_space: Any, n_actions: int = 3, info: Any = None) -> None:
        super().__init__(observation_space, n_actions)
        observation_space.seed(0)
        self.info = info or {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.n_steps = 0
        return self.observation_space.sample(), self.info

    def step(self, action: Any) -> Any:
        self.n_steps += 1
        obs, reward = self.observation_space.sample(), float(self.np_random.normal(30.0, 50.0))
        return obs, reward, False, self.n_steps == 6, self.info


class ScriptedEnv(gym.Env[np.ndarray, np.int64]):
    """
    Plays episodes given as ``(rewards, end)``, over and over.

    Observation: (episode, step) counted from 0; the last observation of an episode is (-1, -1),
    which no reset ever returns.

    :param episodes: Rewards of each episode, and "terminated" or "truncated".
    :param n_actions: Number of actions.
    """

    observation_space = spaces.Box(-1.0, np.inf, (2,), np.float32)

    def __init__(self, episodes: list[tuple[list[float], str]], n_actions: int = 2) -> None:
        self.action_space = spaces.Discrete(n_actions)
        self.episodes = episodes
        self.episode, self.step_in_episode = -1, 0
        self.n_resets = self.n_steps = 0
        self.actions: list[list[int]] = []  # of each episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_resets += 1
        self.actions.append([])
        self.episode, self.step_in_episode = self.episode + 1, 0
        return self._obs(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        rewards, end = self.episodes[self.episode % len(self.episodes)]
        reward = rewards[self.step_in_episode]
        self.actions[-1].append(int(action))
        self.n_steps += 1
        self.step_in_episode += 1
        done = self.step_in_episode == len(rewards)
        obs = np.array([-1.0, -1.0], np.float32) if done else self._obs()
        return obs, reward, done and end == "terminated", done and end == "truncated", {}

    def _obs(self) -> np.ndarray:
        return np.array([self.episode, self.step_in_episode], np.float32)


class RecordingEnv(gym.Env[np.ndarray, np.int64]):
    """
    Random observations and rewards, of which every transition is remembered.

    Episodes end in turn by termination, by truncation and by both at once, also after one step.

    :param n_features: Number of observed numbers.
    :param n_actions: Number of actions.
    """

    ends = ((3, True, False), (4, False, True), (1, True, False), (1, False, True), (2, True, True))

    def __init__(self, n_features: int = 3, n_actions: int = 3) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (n_features,), np.float32)
        self.action_space = spaces.Discrete(n_actions)
        self.transitions: list[Transition] = []
        self.seeds: list[int | None] = []
        self.episode, self.step_in_episode = -1, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.step_in_episode = self.episode + 1, 0
        self.obs = self._draw()
        return self.obs.copy(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_in_episode += 1
        length, terminates, truncates = self.ends[self.episode % len(self.ends)]
        done = self.step_in_episode == length
        terminated, truncated = done and terminates, done and truncates
        reward = float(np.float32(self.np_random.normal()))
        next_obs = self._draw()
        self.transitions.append(Transition(self.obs, int(action), reward, next_obs, terminated))
        self.obs = next_obs
        return next_obs.copy(), reward, terminated, truncated, {}

    def _draw(self) -> np.ndarray:
        return self.np_random.normal(size=self.observation_space.shape).astype(np.float32)


class BadReset(RecordingEnv):
    """
    A :class:`RecordingEnv` of which one episode does not begin as it should.

    :param first: What ``reset`` returns as observation; an exception is raised.
    :param bad_episode: Which episode, counted from 0.
    """

    def __init__(self, first: Any, bad_episode: int = 0) -> None:
        super().__init__()
        self.first, self.bad_episode = first, bad_episode

    def reset(self, **kwargs: Any) -> Any:
        obs, info = super().reset(**kwargs)
        if self.episode != self.bad_episode:
            return obs, info
        if isinstance(self.first, Exception):
            raise self.first
        return self.first, info


class DriftEnv(gym.Env[np.ndarray, np.int64]):
    """A walk whose whole state, its random numbers included, can be copied."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.n_steps = self.np_random.normal(size=3), 0
        return self.position.astype(np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.position = 0.9 * self.position + 0.1 * self.np_random.normal(size=3)
        self.position[action] += 0.3
        self.n_steps += 1
        reward = -float(np.abs(self.position).sum())
        terminated = bool(np.abs(self.position).max() > 2.0)
        return self.position.astype(np.float32), reward, terminated, self.n_steps >= 17, {}


Spoil = Callable[["FaultyEnv", tuple[Any, ...]], tuple[Any, ...]]


class FaultyEnv(RecordingEnv):
    """
    A :class:`RecordingEnv` that does something else once.

    :param spoil: Turns what ``step`` would return into what it returns.
    :param at_step: Step that it does so at, counted from 1. The sixth is the second of an episode.
    """

    def __init__(self, spoil: Spoil, at_step: int = 6) -> None:
        super().__init__()
        self.spoil, self.at_step = spoil, at_step

    def step(self, action: np.int64) -> Any:
        result = super().step(action)
        return self.spoil(self, result) if len(self.transitions) == self.at_step else result


def raising(error: BaseException) -> Spoil:
    """Have a :class:`FaultyEnv` raise."""

    def spoil(*_: Any) -> tuple[Any, ...]:
        raise error

    return spoil


def observing(value: Any) -> Spoil:
    """Have it return another observation."""
    return lambda env, result: (value, *result[1:])


def rewarding(value: Any) -> Spoil:
    """Have it return another reward."""
    return lambda env, result: (result[0], value, *result[2:])
