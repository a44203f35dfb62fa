"""One episode: the sums while it runs, and the record when it is over."""

from __future__ import annotations

import time
import warnings
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["INTERVENTIONS", "EpisodeHistory", "EpisodeRecord", "RunningEpisode", "is_told"]

Number = TypeVar("Number", int, float)

#: Key in the info of an episode's last step: what the controls of a live page changed in it.
INTERVENTIONS = "interventions"


@dataclass(frozen=True)
class EpisodeRecord:
    """
    One episode that is over.

    :param episode_return: Sum of the rewards.
    :param length: Number of steps.
    :param last_reward: Reward of the last step.
    :param terminated: Whether the episode ended by itself.
    :param truncated: Whether it was cut, as by a time limit.
    :param duration: Its seconds of wall-clock time.
    :param elapsed: Seconds of wall-clock time from the wrapper's making to the episode's end.
    :param discounted_return: The rewards' sum with the reward of step t multiplied by gamma**t;
        None if no ``gamma`` was given.
    :param environment: Index of the sub-environment; 0 where there is only one.
    :param interventions: What the controls of a live page changed in it, in a few words; "" for
        nothing. See :class:`dqn_plugins.wrappers.LiveView`.
    """

    episode_return: float
    length: int
    last_reward: float
    terminated: bool
    truncated: bool
    duration: float
    elapsed: float
    discounted_return: float | None = None
    environment: int = 0
    interventions: str = ""

    def info(self) -> dict[str, Any]:
        """
        Describe the episode the way ``info["episode"]`` does.

        :return: ``r`` its return, ``l`` its length, ``t`` its seconds of wall-clock time.
        """
        return {"r": self.episode_return, "l": self.length, "t": round(self.duration, 6)}

    @property
    def incomplete(self) -> bool:
        """Whether it was given up: a reset or a close came before its end."""
        return not (self.terminated or self.truncated)


@dataclass(slots=True, eq=False)
class RunningEpisode:
    """The running episode of one environment. Here, and nowhere else, rewards are summed."""

    gamma: float | None = None
    environment: int = 0
    number: int = -1
    seed: int | None = None
    episodes_since_seed: int = -1
    #: Of the episodes before.
    finished_steps: int = 0
    length: int = 0
    episode_return: float = 0.0
    discounted_return: float = 0.0
    discount: float = 1.0
    last_reward: float = 0.0
    over: bool = True
    terminated: bool = False
    truncated: bool = False
    started: float = field(default_factory=time.perf_counter)

    def begin(self, seed: int | None = None) -> None:
        """Begin the next episode."""
        self.number += 1
        self.episodes_since_seed += 1
        if seed is not None:
            self.seed, self.episodes_since_seed = seed, 0
        self.episode_return = 0.0
        self.discounted_return = 0.0
        self.discount = 1.0
        self.last_reward = 0.0
        self.finished_steps += self.length
        self.length = 0
        self.over = self.terminated = self.truncated = False
        self.started = time.perf_counter()

    def add(self, reward: float) -> None:
        """Count one step."""
        if self.over:  # an environment that resets itself
            self.begin()
        self.episode_return += reward
        self.last_reward = reward
        self.length += 1
        if self.gamma is not None:
            self.discounted_return += self.discount * reward
            self.discount *= self.gamma

    @property
    def steps(self) -> int:
        """All steps so far, those of the episodes before as well."""
        return self.finished_steps + self.length

    def end(self, terminated: bool, truncated: bool) -> None:
        """Say that the step before was the last."""
        self.terminated, self.truncated, self.over = terminated, truncated, True

    def summary(self) -> dict[str, Any]:
        """Describe the episode for a file beside a video."""
        return {
            "environment": self.environment,
            "episode": self.number,
            "seed": self.seed,
            "episodes_since_seed": self.episodes_since_seed,
            "return": self.episode_return,
            "length": self.length,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }


class EpisodeHistory:
    """
    What Stable-Baselines3's ``Monitor`` remembers of episodes, in constant memory: 24 bytes each of
    the last ones.
    """

    def __init__(self, most: int = 100_000):
        self.most = most
        self.returns = array("d")
        self.lengths = array("q")
        self.times = array("d")
        self._has_forgotten = False

    def add(self, episode_return: float, length: int, elapsed: float) -> None:
        """Remember an episode."""
        self.returns.append(episode_return)
        self.lengths.append(length)
        self.times.append(elapsed)
        if len(self.returns) > self.most:
            self._has_forgotten = True
            del self.returns[0], self.lengths[0], self.times[0]

    def told(self, values: array[Number]) -> list[Number]:
        """Give one of the three as a list, and warn if there were more episodes."""
        if self._has_forgotten:
            warnings.warn(
                f"Only the last {self.most:,} episodes are remembered. For all of them, "
                "write a log: EpisodeReward(env, log_file=...).",
                stacklevel=3,
            )
        return values.tolist()


def is_told(info: Mapping[str, Any], key: str) -> bool:
    """Look whether a wrapper below has told of an episode that is over."""
    entry = info.get(key)
    return isinstance(entry, Mapping) and "r" in entry and "l" in entry
