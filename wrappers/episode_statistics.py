"""What the scalar and the vector reward wrapper share: sums, window, report line, log."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import RecordEpisodeStatistics

__all__ = ["EpisodeRecord", "EpisodeStatistics", "RunningEpisode"]


@dataclass(frozen=True)
class EpisodeRecord:
    """
    One episode that is over.

    :param episode_return: sum of the rewards.
    :param length: number of steps.
    :param last_reward: reward of the last step.
    :param terminated: whether the episode ended by itself.
    :param truncated: whether it was cut, as by a time limit.
    :param duration: its seconds of wall-clock time.
    :param elapsed: seconds of wall-clock time from the wrapper's making to the episode's end.
    :param discounted_return: the rewards' sum with the reward of step t multiplied by gamma**t;
        None if no ``gamma`` was given.
    :param environment: index of the sub-environment; 0 where there is only one.
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

    @property
    def incomplete(self) -> bool:
        """Whether it was given up: a reset or a close came before its end."""
        return not (self.terminated or self.truncated)


class RunningEpisode:
    """
    The sums of the episode that is running in one environment.

    :param gamma: discount factor of the discounted return, None for none.
    """

    __slots__ = (
        "discount",
        "discounted_return",
        "episode_return",
        "gamma",
        "last_reward",
        "length",
        "started",
    )

    def __init__(self, gamma: float | None):
        self.gamma = gamma
        self.clear()

    def clear(self) -> None:
        """Begin a new episode."""
        self.episode_return = 0.0
        self.discounted_return = 0.0
        self.discount = 1.0
        self.last_reward = 0.0
        self.length = 0
        self.started = time.perf_counter()

    def add(self, reward: float) -> None:
        """
        Count one step.

        :param reward: its reward.
        """
        self.episode_return += reward
        self.last_reward = reward
        self.length += 1
        if self.gamma is not None:
            self.discounted_return += self.discount * reward
            self.discount *= self.gamma


def checked_settings(window: int, report_every: int | None, gamma: float | None) -> None:
    """
    Check the arguments that both reward wrappers have.

    :param window: episodes in the running means, from 1.
    :param report_every: episodes between two report lines, from 1, or None.
    :param gamma: discount factor in [0, 1], or None.
    :raises ValueError: if one is out of its range.
    """
    for name, value in (("window", window), ("report_every", report_every)):
        if value is None and name == "report_every":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name}={value!r}: allowed are whole numbers of episodes from 1"
                f"{', and None for no report' if name == 'report_every' else ''}. "
                f"Fix: pass {name}=500."
            )
    if gamma is not None and not 0 <= gamma <= 1:
        raise ValueError(
            f"gamma={gamma!r}: the discount factor must lie in [0, 1]. Fix: pass the gamma of the "
            "algorithm, such as 0.99, or None for no discounted return."
        )


class EpisodeStatistics:
    """
    The last episodes, their means, and the report line. What is kept does not grow with the
    number of episodes.

    :param window: how many episodes are kept.
    :param report_every: episodes between two report lines, None for no report.
    :param gamma: discount factor of the discounted return, None for none.
    :param report: what a report line is handed to; None prints it.
    """

    def __init__(
        self,
        window: int,
        report_every: int | None,
        gamma: float | None,
        report: Callable[[str], object] | None = None,
    ):
        checked_settings(window, report_every, gamma)
        self.gamma = gamma
        self.report_every = report_every
        self.report = print if report is None else report
        self.records: deque[EpisodeRecord] = deque(maxlen=window)
        self.episode_count = 0
        self.incomplete_count = 0
        self.last_incomplete: EpisodeRecord | None = None
        self.created = time.perf_counter()
        self._clear_report()

    def _clear_report(self) -> None:
        self._reported_return = 0.0
        self._reported_length = 0
        self._reported_last_reward = 0.0

    def finish(
        self,
        running: RunningEpisode,
        terminated: bool = False,
        truncated: bool = False,
        environment: int = 0,
    ) -> EpisodeRecord:
        """
        Book an episode. One that neither terminated nor was truncated is booked as incomplete: it
        is counted, but does not enter the window, since its return is not an episode's.

        :param running: its sums; they are left as they are.
        :param terminated: whether it ended by itself.
        :param truncated: whether it was cut, as by a time limit.
        :param environment: index of the sub-environment.
        :return: its record.
        """
        now = time.perf_counter()
        record = EpisodeRecord(
            episode_return=running.episode_return,
            length=running.length,
            last_reward=running.last_reward,
            terminated=terminated,
            truncated=truncated,
            duration=now - running.started,
            elapsed=now - self.created,
            discounted_return=None if self.gamma is None else running.discounted_return,
            environment=environment,
        )
        if record.incomplete:
            self.incomplete_count += 1
            self.last_incomplete = record
            return record
        self.records.append(record)
        self.episode_count += 1
        if self.report_every is not None:
            self._reported_return += record.episode_return
            self._reported_length += record.length
            self._reported_last_reward += record.last_reward
            if self.episode_count % self.report_every == 0:
                self.report(self._report_line(self.report_every))
                self._clear_report()
        return record

    def _report_line(self, episodes: int) -> str:
        return (
            f"Episode {self.episode_count}: "
            f"mean return {self._reported_return / episodes:.1f}, "
            f"mean last reward {self._reported_last_reward / episodes:.1f}, "
            f"mean length {self._reported_length / episodes:.1f} "
            f"(over {episodes} episode{'s' if episodes > 1 else ''})"
        )

    def mean(self, values: Sequence[float]) -> float:
        """
        Average over the window.

        :param values: one per episode.
        :return: their mean, NaN if there is none yet.
        """
        return math.fsum(values) / len(values) if values else math.nan


class WindowProperties:
    """The numbers that both reward wrappers show; they have a ``statistics`` attribute."""

    statistics: EpisodeStatistics

    @property
    def records(self) -> deque[EpisodeRecord]:
        """The last ``window`` complete episodes, oldest first."""
        return self.statistics.records

    @property
    def episode_count(self) -> int:
        """Complete episodes so far."""
        return self.statistics.episode_count

    @property
    def incomplete_count(self) -> int:
        """Episodes given up so far: a reset or a close came before their end."""
        return self.statistics.incomplete_count

    @property
    def last_incomplete(self) -> EpisodeRecord | None:
        """The last episode that was given up, None if there was none."""
        return self.statistics.last_incomplete

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
        return [
            record.discounted_return
            for record in self.records
            if record.discounted_return is not None
        ]

    @property
    def mean_return(self) -> float:
        """Mean return over the window, NaN before the first episode's end."""
        return self.statistics.mean(self.returns)

    @property
    def mean_length(self) -> float:
        """Mean length over the window, NaN before the first episode's end."""
        return self.statistics.mean(self.lengths)

    @property
    def mean_last_reward(self) -> float:
        """Mean last reward over the window, NaN before the first episode's end."""
        return self.statistics.mean(self.last_rewards)

    @property
    def mean_discounted_return(self) -> float:
        """Mean discounted return over the window, NaN without ``gamma``."""
        return self.statistics.mean(self.discounted_returns)

    # The names under which Gymnasium's RecordEpisodeStatistics and Stable-Baselines3's Monitor
    # show the same numbers; here they cover the window.

    @property
    def return_queue(self) -> deque[float]:
        """As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`returns`."""
        return deque(self.returns)

    @property
    def length_queue(self) -> deque[int]:
        """As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`lengths`."""
        return deque(self.lengths)

    @property
    def time_queue(self) -> deque[float]:
        """As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`durations`."""
        return deque(self.durations)

    def get_episode_rewards(self) -> list[float]:
        """
        As in Stable-Baselines3's ``Monitor``, over the window.

        :return: :attr:`returns`.
        """
        return self.returns

    def get_episode_lengths(self) -> list[int]:
        """
        As in Stable-Baselines3's ``Monitor``, over the window.

        :return: :attr:`lengths`.
        """
        return self.lengths

    def get_episode_times(self) -> list[float]:
        """
        As in Stable-Baselines3's ``Monitor``, over the window.

        :return: seconds from the wrapper's making to each episode's end.
        """
        return [record.elapsed for record in self.records]


def episode_info(record: EpisodeRecord) -> dict[str, Any]:
    """
    Describe an episode the way ``info["episode"]`` does.

    :param record: the episode.
    :return: ``r`` its return, ``l`` its length, ``t`` its seconds of wall-clock time.
    """
    return {"r": record.episode_return, "l": record.length, "t": round(record.duration, 6)}


def claimed_from_above(wrapper: gym.Env[Any, Any], key: str) -> bool:
    """
    Find out whether a ``RecordEpisodeStatistics`` that wraps this wrapper is about to write the
    same entry into the info. It refuses an info that has the entry already, and a wrapper knows
    only what it wraps, so this asks who is calling. Meant for the ends of episodes only.

    :param wrapper: the wrapper that asks, from inside its ``step``.
    :param key: the entry, ``"episode"`` as a rule.
    :return: True if the entry must be left to the wrapper above.
    """
    inner: Any = wrapper
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if caller is not None and caller is not inner:
            if not isinstance(caller, gym.Wrapper) or caller.env is not inner:
                return False
            if isinstance(caller, RecordEpisodeStatistics) and caller._stats_key == key:
                return True
            inner = caller
        frame = frame.f_back
    return False
