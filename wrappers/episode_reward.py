"""Returns, lengths and last rewards of a :class:`gymnasium.Env`'s episodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Generic, SupportsFloat

import gymnasium as gym
from dqn_plugins.wrappers.episode_log import EpisodeLog
from dqn_plugins.wrappers.episode_statistics import (
    EpisodeStatistics,
    RunningEpisode,
    WindowProperties,
    claimed_from_above,
    episode_info,
)
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs

__all__ = ["EpisodeReward"]


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
    Its vector twin is :class:`dqn_plugins.wrappers.VecEpisodeReward`.

    :param env: the environment.
    :param window: episodes in the running means and lists, from 1.
    :param report_every: prints a line after every so many episodes, with the number of the
        episode and the mean return, mean last reward and mean length since the previous line;
        None prints nothing.
    :param gamma: keeps the discounted return as well, with this discount factor in [0, 1].
    :param log_file: writes one row per episode to this file, see
        :class:`dqn_plugins.wrappers.EpisodeLog`; None writes nothing.
    :param append: whether an existing log file is continued (the default) or replaced.
    :param report: what a report line is handed to, such as ``tqdm.write``; by default it is
        printed.
    :raises ValueError: if ``window``, ``report_every`` or ``gamma`` is out of its range, or
        ``log_file`` is a file of another kind.
    :raises OSError: if ``log_file`` cannot be written.

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
    ):
        RecordConstructorArgs.__init__(
            self,
            window=window,
            report_every=report_every,
            gamma=gamma,
            log_file=log_file,
            append=append,
            report=report,
        )
        gym.Wrapper.__init__(self, env)
        self.statistics = EpisodeStatistics(window, report_every, gamma, report)
        self.running = RunningEpisode(gamma)
        self._over = True
        self._log: EpisodeLog | None = None
        if log_file is not None:
            self._log = EpisodeLog(log_file, None if env.spec is None else env.spec.id, append)

    @property
    def episode_return(self) -> float:
        """Sum of the rewards of the running episode so far."""
        return self.running.episode_return

    @property
    def episode_length(self) -> int:
        """Steps of the running episode so far."""
        return self.running.length

    @property
    def log_path(self) -> str | None:
        """The log file, None if there is none."""
        return None if self._log is None else str(self._log.path)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """
        Reset the environment; an episode that is still running is booked as incomplete.

        :param seed: passed on.
        :param options: passed on.
        :return: the first observation and the info.
        """
        self._give_up()
        observation, info = self.env.reset(seed=seed, options=options)
        self.running.clear()
        self._over = False
        return observation, info

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Take a step and count it.

        :param action: passed on.
        :return: observation, reward, terminated, truncated and info; the info of an episode's last
            step has the entry ``"episode"``.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._over:  # an environment that resets itself
            self.running.clear()
            self._over = False
        self.running.add(float(reward))
        if terminated or truncated:
            self._over = True
            record = self.statistics.finish(self.running, bool(terminated), bool(truncated))
            if self._log is not None:
                self._log.write(record)
            if claimed_from_above(self, "episode"):
                info.pop("episode", None)
            else:
                info.setdefault("episode", episode_info(record))
        return observation, reward, terminated, truncated, info

    def _give_up(self) -> None:
        if self._over or self.running.length == 0:
            return
        self._over = True
        record = self.statistics.finish(self.running)
        if self._log is not None:
            self._log.write(record)

    def close(self) -> None:
        """
        Close the environment and the log; an episode that is still running is booked as
        incomplete.
        """
        try:
            self._give_up()
            if self._log is not None:
                self._log.close()
        finally:
            super().close()
