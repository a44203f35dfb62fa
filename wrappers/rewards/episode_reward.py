"""Returns, lengths and last rewards of a :class:`gymnasium.Env`'s episodes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, SupportsFloat

import gymnasium as gym
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import RecordEpisodeStatistics

from dqn_plugins.wrappers.rewards.episode_log import EpisodeLog
from dqn_plugins.wrappers.rewards.episode_statistics import (
    EpisodeStatistics,
    WindowProperties,
    checked_settings,
)

__all__ = ["EpisodeReward"]


def claimed_from_above(wrapper: gym.Env[Any, Any], key: str) -> bool:
    """
    Find out whether a ``RecordEpisodeStatistics`` that wraps this wrapper is about to write the
    same entry into the info. It refuses an info that has the entry already, and a wrapper knows
    only what it wraps, so this asks who is calling. Meant for the ends of episodes only.

    :param wrapper: The wrapper that asks, from inside its ``step``.
    :param key: The entry, ``"episode"`` as a rule.
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


class EpisodeReward(
    WindowProperties,
    gym.Wrapper[ObsType, ActType, ObsType, ActType],
    Generic[ObsType, ActType],
    RecordConstructorArgs,
):
    """
    Keep the return, length and last reward of each episode, with running means over a window, a
    report line and a log file on request. The info of an episode's last step gets the entry
    ``"episode"`` with ``r`` (return), ``l`` (length) and ``t`` (seconds), as Gymnasium's
    ``RecordEpisodeStatistics`` and Stable-Baselines3's ``Monitor`` write it.

    An episode that is given up by an early reset, or by closing the environment, is booked as
    incomplete: it is counted and logged, but does not enter the means. Sums are kept in double
    precision. Memory does not grow with steps or episodes.

    It works above and below ``Monitor`` and ``RecordEpisodeStatistics``. An entry ``"episode"``
    that a wrapper below has written is left alone, since that wrapper is closer to the
    environment's own rewards; this wrapper's attributes and log still show what it sees itself.
    Other keys of the info are the environment's, and so is this one before the last step.
    Stable-Baselines3 takes it for a ``Monitor``: ``evaluate_policy`` reads the returns from it.
    Its vector twin is :class:`dqn_plugins.wrappers.VecEpisodeReward`.

    It takes the place of ``RecordEpisodeStatistics``, with the same arguments and attributes. What
    differs: ``window`` is 500 by default, ``stats_key`` and ``buffer_length`` are passed by name
    (the second argument is the length of the buffers there as here), and an entry that is there
    already is left alone instead of refused.

    :param env: The environment.
    :param window: Episodes in the running means and lists, from 1.
    :param report_every: Prints a line after every so many episodes, with the number of the
        episode and the mean return, mean last reward and mean length since the previous line;
        None prints nothing.
    :param gamma: Keeps the discounted return as well, with this discount factor in [0, 1].
    :param log_file: Writes one row per episode to this file, see
        :class:`dqn_plugins.wrappers.EpisodeLog`; None writes nothing.
    :param append: Whether an existing log file is continued (the default) or replaced.
    :param report: What a report line is handed to, such as ``tqdm.write``; by default it is
        printed.
    :param buffer_length: Gymnasium's name for ``window``; if it is given, it counts.
    :param stats_key: Name of the entry in the info; Stable-Baselines3 reads ``"episode"``.
    :raises ValueError: If ``window``, ``buffer_length``, ``report_every`` or ``gamma`` is out of
        its range, or ``log_file`` is a file of another kind.
    :raises OSError: If ``log_file`` cannot be written.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import EpisodeReward

        env = EpisodeReward(gym.make("CartPole-v1"), window=100, report_every=10)
        for _ in range(20):
            env.reset()
            done = False
            while not done:
                _, _, terminated, truncated, info = env.step(env.action_space.sample())
                done = terminated or truncated
        print(env.mean_return, env.lengths, info["episode"])
    """

    def __init__(
        self,
        env: gym.Env[ObsType, ActType],
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
        RecordConstructorArgs.__init__(
            self,
            window=window,
            report_every=report_every,
            gamma=gamma,
            log_file=log_file,
            append=append,
            report=report,
            buffer_length=buffer_length,
            stats_key=stats_key,
        )
        # Who has not imported Stable-Baselines3 has no use for its Monitor, nor time for torch.
        if stats_key == "episode" and "stable_baselines3" in sys.modules:
            from dqn_plugins.wrappers.rewards.monitors_place import with_a_monitor

            env = with_a_monitor(env)
        gym.Wrapper.__init__(self, env)
        window = checked_settings(window, buffer_length, report_every, gamma)
        self._stats_key = stats_key
        logs = []
        if log_file is not None:
            logs.append(EpisodeLog(log_file, None if env.spec is None else env.spec.id, append))
        self.statistics = EpisodeStatistics(1, window, report_every, gamma, report, logs)
        self._running = self.statistics.running[0]

    @property
    def episode_return(self) -> float:
        """Sum of the rewards of the running episode so far."""
        return self._running.episode_return

    @episode_return.setter
    def episode_return(self, value: float) -> None:
        self._running.episode_return = value

    @property
    def episode_length(self) -> int:
        """Steps of the running episode so far."""
        return self._running.length

    @episode_length.setter
    def episode_length(self, value: int) -> None:
        self._running.length = value

    @property
    def episode_start_time(self) -> float:
        """When the running episode began, on the clock of ``time.perf_counter``."""
        return self._running.started

    @episode_start_time.setter
    def episode_start_time(self, value: float) -> None:
        self._running.started = value

    # Gymnasium's RecordEpisodeStatistics has the plural, though there is one environment only.
    episode_returns = episode_return
    episode_lengths = episode_length

    @property
    def log_path(self) -> str | None:
        """The log file, None if there is none."""
        return str(self.statistics.logs[0].path) if self.statistics.logs else None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """
        Reset the environment; an episode that is still running is booked as incomplete.

        :param seed: Passed on.
        :param options: Passed on.
        :return: The first observation and the info.
        """
        self.statistics.give_up()
        observation, info = self.env.reset(seed=seed, options=options)
        self._running.clear()
        return observation, info

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Take a step and count it.

        :param action: Passed on.
        :return: Observation, reward, terminated, truncated and info; the info of an episode's last
            step has the entry ``stats_key``.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._running.add(float(reward))
        if terminated or truncated:
            key = self._stats_key
            self.statistics.finish_and_tell(0, bool(terminated), bool(truncated), info, key)
            if claimed_from_above(self, key):
                del info[key]
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """
        Close the environment and the log; an episode that is still running is booked as
        incomplete.
        """
        try:
            self.statistics.close()
        finally:
            super().close()
