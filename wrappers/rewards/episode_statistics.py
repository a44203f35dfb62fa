"""Returns, lengths and last rewards of episodes: what the reward wrappers of all kinds share."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorRecordEpisodeStatistics

from dqn_plugins.arguments import is_integer
from dqn_plugins.wrappers.environment_id import id_of
from dqn_plugins.wrappers.observing.observer import Observer
from dqn_plugins.wrappers.rewards.episode import (
    INTERVENTIONS,
    EpisodeHistory,
    EpisodeRecord,
    is_told,
)
from dqn_plugins.wrappers.rewards.episode_log import EpisodeLog, log_path

__all__ = ["EpisodeStatistics", "of_running"]


def mean(values: Sequence[float]) -> float:
    """Average over the window."""
    return math.fsum(values) / len(values) if values else math.nan


def told_above(env: Any, key: str) -> bool:
    """
    Find out whether a ``RecordEpisodeStatistics`` of Gymnasium's around the wrapper that takes a
    step will write the same entry into the info: it refuses an info that has it. A wrapper knows
    only what it wraps, so the callers tell.
    """
    frame: Any = sys._getframe(1)
    peers = (RecordEpisodeStatistics, VectorRecordEpisodeStatistics)
    while frame is not None:  # between two wrappers may be a decorator, or a checker
        above = frame.f_locals.get("self")
        if (
            isinstance(above, peers)
            and above._stats_key == key
            and above.unwrapped is env.unwrapped
        ):
            return True
        frame = frame.f_back
    return False


def of_running(name: str, doc: str) -> Any:
    """Make an attribute that shows a number of the running episode, of several an array of them."""

    def read(self: Observer) -> Any:
        numbers = [getattr(episode, name) for episode in self._episodes]
        return numbers[0] if isinstance(self, gym.Env) else np.array(numbers)

    def write(self: Observer, value: Any) -> None:
        for episode, number in zip(self._episodes, np.atleast_1d(value).tolist(), strict=True):
            setattr(episode, name, number)

    return property(read, write, doc=doc)


class EpisodeStatistics(Observer):
    """
    Keeps the last finished episodes of one or more environments with their means, writes the report
    line and the logs, and tells of each episode in the info of its last step. What is kept does not
    grow with the number of episodes.
    """

    _wants_every_step = False
    #: The last ``window`` complete episodes, oldest first.
    records: deque[EpisodeRecord]
    #: Complete episodes so far.
    episode_count: int
    #: Episodes given up so far: a reset or a close came before their end.
    incomplete_count: int
    #: The last episode that was given up, None if there was none.
    last_incomplete: EpisodeRecord | None
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`returns`, always up to date.
    return_queue: deque[float]
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`lengths`, always up to date.
    length_queue: deque[int]
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`durations`, rounded.
    time_queue: deque[float]

    # As others call them. Gymnasium has the plural for one environment, too.
    episode_returns = of_running("episode_return", "Sum of rewards so far, of several of each.")
    episode_lengths = of_running("length", "Steps of the episode so far, of several of each.")

    def __init__(
        self,
        env: Any,
        window: int = 500,
        report_every: int | None = None,
        gamma: float | None = None,
        log_file: str | os.PathLike[str] | None = None,
        *,
        append: bool = True,
        report: Callable[[str], object] | None = None,
        buffer_length: int | None = None,
        stats_key: str = "episode",
    ):
        arguments = dict(locals())
        del arguments["self"], arguments["env"], arguments["__class__"]
        super().__init__(env, **arguments)  # type: ignore[call-arg]
        counts: dict[str, Any] = {
            "window": window,
            "buffer_length": buffer_length,
            "report_every": report_every,
        }
        for name, value in counts.items():
            if value is None and name != "window":
                continue
            if not is_integer(value) or value < 1:
                raise ValueError(
                    f"{name}: received {value!r}, it must be a whole number of episodes of at "
                    f"least 1{', or None for no report' if name == 'report_every' else ''}. "
                    "Try 500."
                )
        if gamma is not None and not 0 <= gamma <= 1:
            raise ValueError(
                f"gamma: received {gamma!r}, it must be in [0, 1]. Pass the gamma of the "
                "algorithm, such as 0.99, or None for no discounted return."
            )
        self._observe(gamma)
        self._report_every, self._report = report_every, print if report is None else report
        self._stats_key = stats_key
        length = int(window if buffer_length is None else buffer_length)
        self.records = deque(maxlen=length)
        self.return_queue = deque(maxlen=length)
        self.length_queue = deque(maxlen=length)
        self.time_queue = deque(maxlen=length)
        self._history = EpisodeHistory()
        self.episode_count = self.incomplete_count = 0
        self.last_incomplete = None
        self._created = time.perf_counter()
        self._reported = [0.0, 0.0, 0.0]
        self._logs: list[EpisodeLog] = []
        if log_file is not None:
            indices = [None] if isinstance(self, gym.Env) else range(len(self._episodes))
            files = [log_path(log_file, index) for index in indices]
            self._logs = [EpisodeLog(file, id_of(env), append) for file in files]

    def _finish(self, index: int, interventions: str = "") -> EpisodeRecord:
        """
        Book the episode of one environment. One that has not ended is booked as incomplete: it is
        counted and logged, but does not enter the window, since its return is not an episode's.
        """
        now = time.perf_counter()
        episode = self._episodes[index]
        episode.over = True
        record = EpisodeRecord(
            episode_return=episode.episode_return,
            length=episode.length,
            last_reward=episode.last_reward,
            terminated=episode.terminated,
            truncated=episode.truncated,
            duration=now - episode.started,
            elapsed=now - self._created,
            discounted_return=None if episode.gamma is None else episode.discounted_return,
            environment=index,
            interventions=interventions,
        )
        if record.incomplete:
            self.incomplete_count += 1
            self.last_incomplete = record
        else:
            self.records.append(record)
            self.episode_count += 1
            info = record.info()
            self.return_queue.append(info["r"])
            self.length_queue.append(info["l"])
            self.time_queue.append(info["t"])
            self._history.add(record.episode_return, record.length, record.elapsed)
            self._add_to_report(record)
        if self._logs:
            self._logs[index].write(record)
        return record

    def _add_to_report(self, record: EpisodeRecord) -> None:
        episodes = self._report_every
        if episodes is None:
            return
        numbers = (record.episode_return, record.last_reward, record.length)
        self._reported = [a + b for a, b in zip(self._reported, numbers, strict=True)]
        if self.episode_count % episodes == 0:
            means = [number / episodes for number in self._reported]
            self._reported = [0.0, 0.0, 0.0]
            self._report(
                f"Episode {self.episode_count}: mean return {means[0]:.1f}, "
                f"mean last reward {means[1]:.1f}, mean length {means[2]:.1f} "
                f"(over {episodes} episode{'s' if episodes > 1 else ''})"
            )

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        if not ended:
            return
        key = self._stats_key
        others_tell = told_above(self, key)
        for index in ended:
            info = infos[index]
            found = info.get(INTERVENTIONS)
            # Under this name, an environment may have something of its own.
            record = self._finish(index, found if isinstance(found, str) else "")
            if others_tell:
                info.pop(key, None)
            elif not is_told(info, key):
                info[key] = record.info()

    def _as_number(self, reward: Any) -> float:
        number = super()._as_number(reward)
        if np.isnan(number) and not isinstance(reward, float):
            raise ValueError(
                f"reward: received {reward!r}, it must be one number, to be summed. Wrap the "
                "environment so that it gives one, below this wrapper."
            )
        return number

    def _before_reset(self, indices: Sequence[int]) -> None:
        for index in indices:
            if self._episodes[index].length and not self._episodes[index].over:
                self._finish(index)

    def _before_close(self) -> None:
        try:
            self._before_reset(range(len(self._episodes)))
        finally:
            for log in self._logs:
                log.close()

    @property
    def returns(self) -> list[float]:
        """Returns of the episodes in the window, oldest first."""
        return [record.episode_return for record in self.records]

    @property
    def lengths(self) -> list[int]:
        """Lengths of the episodes in the window, in steps, oldest first."""
        return [record.length for record in self.records]

    @property
    def last_rewards(self) -> list[float]:
        """Last reward of each episode in the window, oldest first."""
        return [record.last_reward for record in self.records]

    @property
    def durations(self) -> list[float]:
        """Seconds of wall-clock time of the episodes in the window, oldest first."""
        return [record.duration for record in self.records]

    @property
    def discounted_returns(self) -> list[float]:
        """Discounted returns of the episodes in the window; empty without ``gamma``."""
        found = (record.discounted_return for record in self.records)
        return [value for value in found if value is not None]

    @property
    def mean_return(self) -> float:
        """Mean return over the window, NaN before the first episode's end."""
        return mean(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean length over the window, NaN before the first episode's end."""
        return mean(self.lengths)

    @property
    def mean_last_reward(self) -> float:
        """Mean last reward over the window, NaN before the first episode's end."""
        return mean(self.last_rewards)

    @property
    def mean_discounted_return(self) -> float:
        """Mean discounted return over the window, NaN without ``gamma``."""
        return mean(self.discounted_returns)

    @property
    def log_paths(self) -> list[str]:
        """The log files, one per environment; empty if there are none."""
        return [str(log.path) for log in self._logs]

    # As in Stable-Baselines3's Monitor.

    def get_total_steps(self) -> int:
        """
        Count the steps, those of episodes that were given up as well.

        :return: Steps so far, over all environments.
        """
        return sum(episode.steps for episode in self._episodes)

    def get_episode_rewards(self) -> list[float]:
        """
        Return the returns of all complete episodes, as Stable-Baselines3's ``Monitor`` does; not
        of more than the last 100,000.

        :return: Returns, oldest first.
        """
        return self._history.told(self._history.returns)

    def get_episode_lengths(self) -> list[int]:
        """
        Return their lengths; see :meth:`get_episode_rewards`.

        :return: Numbers of steps, oldest first.
        """
        return self._history.told(self._history.lengths)

    def get_episode_times(self) -> list[float]:
        """
        Return when they ended; see :meth:`get_episode_rewards`.

        :return: Seconds from the wrapper's making to each episode's end.
        """
        return self._history.told(self._history.times)
