"""What the scalar and the vector reward wrapper share: sums, window, report line, log."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, overload

from dqn_plugins.wrappers.rewards.episode import (
    INTERVENTIONS,
    EpisodeHistory,
    EpisodeRecord,
    RunningEpisode,
    is_told,
)
from dqn_plugins.wrappers.rewards.episode_log import EpisodeLog

__all__ = ["EpisodeStatistics"]


def checked_settings(
    window: int, buffer_length: int | None, report_every: int | None, gamma: float | None
) -> int:
    """
    Check the arguments that both reward wrappers have.

    :param window: Episodes in the running means, from 1.
    :param buffer_length: Another name for ``window``, which counts if it is given.
    :param report_every: Episodes between two report lines, from 1, or None.
    :param gamma: Discount factor in [0, 1], or None.
    :return: The window.
    :raises ValueError: If one is out of its range.
    """
    counts = {"window": window, "buffer_length": buffer_length, "report_every": report_every}
    for name, value in counts.items():
        if value is None and name != "window":
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name}: received {value!r}, it must be a whole number of episodes of at least 1"
                f"{', or None for no report' if name == 'report_every' else ''}. Try 500."
            )
    if gamma is not None and not 0 <= gamma <= 1:
        raise ValueError(
            f"gamma: received {gamma!r}, it must be in [0, 1]. Pass the gamma of the algorithm, "
            "such as 0.99, or None for no discounted return."
        )
    return window if buffer_length is None else buffer_length


class EpisodeStatistics:
    """
    The running episodes of one or more environments, the last finished ones with their means, the
    report line, and the logs. What is kept does not grow with the number of episodes.

    :param environments: How many environments there are.
    :param window: How many episodes are kept.
    :param report_every: Episodes between two report lines, None for no report.
    :param gamma: Discount factor of the discounted return, None for none.
    :param report: What a report line is handed to; None prints it.
    :param logs: One per environment, or none.
    """

    def __init__(
        self,
        environments: int,
        window: int,
        report_every: int | None,
        gamma: float | None,
        report: Callable[[str], object] | None,
        logs: Sequence[EpisodeLog] = (),
    ):
        self.gamma = gamma
        self.report_every = report_every
        self.report = print if report is None else report
        self.logs = logs
        self.running = [RunningEpisode(gamma) for _ in range(environments)]
        self.records: deque[EpisodeRecord] = deque(maxlen=window)
        self.return_queue: deque[float] = deque(maxlen=window)
        self.length_queue: deque[int] = deque(maxlen=window)
        self.time_queue: deque[float] = deque(maxlen=window)
        self.history = EpisodeHistory()
        self.finished_steps = 0
        self.episode_count = 0
        self.incomplete_count = 0
        self.last_incomplete: EpisodeRecord | None = None
        self._created = time.perf_counter()
        self._clear_report()

    def _clear_report(self) -> None:
        self._reported_return = 0.0
        self._reported_length = 0
        self._reported_last_reward = 0.0

    def finish(
        self,
        environment: int,
        terminated: bool = False,
        truncated: bool = False,
        interventions: str = "",
    ) -> EpisodeRecord:
        """
        Book the running episode of one environment. One that neither terminated nor was truncated
        is booked as incomplete: it is counted and logged, but does not enter the window, since
        its return is not an episode's.

        :param environment: Index of the environment.
        :param terminated: Whether the episode ended by itself.
        :param truncated: Whether it was cut, as by a time limit.
        :param interventions: What the controls of a live page changed in it.
        :return: Its record.
        """
        now = time.perf_counter()
        running = self.running[environment]
        running.over = True
        self.finished_steps += running.length
        record = EpisodeRecord(
            episode_return=running.episode_return,
            length=running.length,
            last_reward=running.last_reward,
            terminated=terminated,
            truncated=truncated,
            duration=now - running.started,
            elapsed=now - self._created,
            discounted_return=None if self.gamma is None else running.discounted_return,
            environment=environment,
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
            self.history.add(record.episode_return, record.length, record.elapsed)
            self._report(record)
        if self.logs:
            self.logs[environment].write(record)
        return record

    def finish_and_tell(
        self,
        environment: int,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
        key: str,
    ) -> None:
        """
        Book the episode that is over in one environment, and tell of it if no wrapper below has.

        :param environment: Index of the environment.
        :param terminated: Whether the episode ended by itself.
        :param truncated: Whether it was cut, as by a time limit.
        :param info: The info of its last step.
        :param key: Of the entry that tells of it.
        """
        found = info.get(INTERVENTIONS)
        interventions = found if isinstance(found, str) else ""  # or it is an environment's own
        record = self.finish(environment, terminated, truncated, interventions)
        if not is_told(info, key):
            info[key] = record.info()

    def give_up(self) -> None:
        """Book whatever is running as incomplete: a reset or a close came before its end."""
        for environment, running in enumerate(self.running):
            if running.length and not running.over:
                self.finish(environment)

    def close(self) -> None:
        """Book whatever is running as incomplete, and close the logs."""
        try:
            self.give_up()
        finally:
            for log in self.logs:
                log.close()

    def _report(self, record: EpisodeRecord) -> None:
        if self.report_every is None:
            return
        self._reported_return += record.episode_return
        self._reported_length += record.length
        self._reported_last_reward += record.last_reward
        if self.episode_count % self.report_every == 0:
            line = self._report_line(self.report_every)
            self._clear_report()
            self.report(line)

    def _report_line(self, episodes: int) -> str:
        return (
            f"Episode {self.episode_count}: "
            f"mean return {self._reported_return / episodes:.1f}, "
            f"mean last reward {self._reported_last_reward / episodes:.1f}, "
            f"mean length {self._reported_length / episodes:.1f} "
            f"(over {episodes} episode{'s' if episodes > 1 else ''})"
        )


def mean(values: Sequence[float]) -> float:
    """
    Average over the window.

    :param values: One per episode.
    :return: Their mean, NaN if there is none yet.
    """
    return math.fsum(values) / len(values) if values else math.nan


Value = TypeVar("Value")


class StatisticsAttribute(Generic[Value]):
    """An attribute of ``statistics`` under the same name in the wrapper, where it can be set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, wrapper: None, owner: type) -> StatisticsAttribute[Value]: ...

    @overload
    def __get__(self, wrapper: WindowProperties, owner: type) -> Value: ...

    def __get__(self, wrapper: WindowProperties | None, owner: type) -> Any:
        return self if wrapper is None else getattr(wrapper.statistics, self.name)

    def __set__(self, wrapper: WindowProperties, value: Value) -> None:
        setattr(wrapper.statistics, self.name, value)


class WindowProperties:
    """What both reward wrappers show; they have a ``statistics`` attribute."""

    statistics: EpisodeStatistics

    #: The last ``window`` complete episodes, oldest first.
    records = StatisticsAttribute[deque[EpisodeRecord]]()
    #: Complete episodes so far.
    episode_count = StatisticsAttribute[int]()
    #: Episodes given up so far: a reset or a close came before their end.
    incomplete_count = StatisticsAttribute[int]()
    #: The last episode that was given up, None if there was none.
    last_incomplete = StatisticsAttribute["EpisodeRecord | None"]()
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`returns`, always up to date.
    return_queue = StatisticsAttribute[deque[float]]()
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`lengths`, always up to date.
    length_queue = StatisticsAttribute[deque[int]]()
    #: As in Gymnasium's ``RecordEpisodeStatistics``: :attr:`durations`, rounded.
    time_queue = StatisticsAttribute[deque[float]]()

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

    # As in Stable-Baselines3's Monitor.

    def get_total_steps(self) -> int:
        """
        Count the steps, those of episodes that were given up as well.

        :return: Steps so far, over all environments.
        """
        running = [each.length for each in self.statistics.running if not each.over]
        return self.statistics.finished_steps + sum(running)

    def get_episode_rewards(self) -> list[float]:
        """
        Return the returns of all complete episodes, as Stable-Baselines3's ``Monitor`` does; not
        of more than the last 100,000.

        :return: Returns, oldest first.
        """
        return self.statistics.history.told(self.statistics.history.returns)

    def get_episode_lengths(self) -> list[int]:
        """
        Return their lengths; see :meth:`get_episode_rewards`.

        :return: Numbers of steps, oldest first.
        """
        return self.statistics.history.told(self.statistics.history.lengths)

    def get_episode_times(self) -> list[float]:
        """
        Return when they ended; see :meth:`get_episode_rewards`.

        :return: Seconds from the wrapper's making to each episode's end.
        """
        return self.statistics.history.told(self.statistics.history.times)
