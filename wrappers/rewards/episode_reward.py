"""Returns, lengths and last rewards of a :class:`gymnasium.Env`'s episodes."""

from __future__ import annotations

import sys
from typing import Any

from gymnasium.core import ActType, ObsType

from dqn_plugins.wrappers.observing.observer import ObservedEnv
from dqn_plugins.wrappers.rewards.episode_statistics import EpisodeStatistics, of_running

__all__ = ["EpisodeReward"]


class EpisodeReward(EpisodeStatistics, ObservedEnv[ObsType, ActType]):
    """
    Keep the return, length and last reward of each episode, with running means over a window, a
    report line and a log file on request. The info of an episode's last step gets the entry
    ``"episode"`` with ``r`` (return), ``l`` (length) and ``t`` (seconds), as Gymnasium's
    ``RecordEpisodeStatistics`` and Stable-Baselines3's ``Monitor`` write it.

    An episode that is given up by an early reset, or by closing the environment, is booked as
    incomplete: it is counted and logged, but does not enter the means. Sums are kept in double
    precision. Memory does not grow with steps or episodes.

    It works above and below ``Monitor`` and ``RecordEpisodeStatistics``, and takes the place of
    either: with the methods of the former, and the attributes and arguments of the latter, but for
    ``window``, which is 500 by default. An entry ``"episode"`` that a wrapper below has written is
    left alone, since that one is closer to the environment's own rewards; attributes and log show
    what this wrapper sees itself. Its vector twin is
    :class:`dqn_plugins.wrappers.VecEpisodeReward`.

    :param env: The environment.
    :param window: Episodes in the running means and lists, from 1.
    :param report_every: Prints a line after every so many episodes, with mean return, last reward
        and length since the previous line; None prints nothing.
    :param gamma: Keeps the discounted return as well, with this discount factor in [0, 1].
    :param log_file: Writes one row per episode to this file, see
        :class:`dqn_plugins.wrappers.EpisodeLog`; None writes nothing.
    :param append: Whether an existing log file is continued (the default) or replaced.
    :param report: What a report line is handed to, such as ``tqdm.write``; None prints it.
    :param buffer_length: Gymnasium's name for ``window``; if it is given, it counts.
    :param stats_key: Name of the entry in the info; Stable-Baselines3 reads ``"episode"``.
    :raises ValueError: If an argument is out of range, or ``log_file`` is a file of another kind.
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

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """
        ``isinstance`` takes it for Stable-Baselines3's ``Monitor`` too, which is looked for before
        ``info["episode"]`` is relied on. Who has not imported that has no time for torch.
        """
        module = sys.modules.get("stable_baselines3.common.monitor")
        has_the_key = self._stats_key == "episode"
        return module.Monitor if module is not None and has_the_key else type(self)

    def __reduce__(self) -> Any:
        # As ever, but for the class, which pickle would compare with the one above.
        return object.__new__, (type(self),), vars(self)

    episode_return = of_running("episode_return", "Sum of the running episode's rewards so far.")
    episode_length = of_running("length", "Steps of the running episode so far.")
    episode_start_time = of_running(
        "started", "When the running episode began, on the clock of ``time.perf_counter``."
    )

    @property
    def log_path(self) -> str | None:
        """The log file, None if there is none."""
        return self.log_paths[0] if self._logs else None
