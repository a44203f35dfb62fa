"""Returns, lengths and last rewards of a Stable-Baselines3 ``VecEnv``'s episodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from dqn_plugins.wrappers.observing.vec_env import ObservedVecEnv
from dqn_plugins.wrappers.rewards.episode_statistics import EpisodeStatistics

__all__ = ["VecEpisodeReward"]


class VecEpisodeReward(EpisodeStatistics, ObservedVecEnv):
    """
    Keep the return, length and last reward of each episode of a vectorised environment: the twin
    of :class:`dqn_plugins.wrappers.EpisodeReward`, with the same arguments, attributes, report
    line and log, and the same numbers on the same episodes. (Stable-Baselines3's ``DummyVecEnv``
    and ``SubprocVecEnv`` round rewards to single precision before this wrapper sees them; the
    sums are kept in double precision.)

    The means run over the episodes of all sub-environments, in the order in which they end.

    :param venv: The vectorised environment.
    :param window: See :class:`dqn_plugins.wrappers.EpisodeReward`.
    :param report_every: See there.
    :param gamma: See there.
    :param log_file: Writes one row per episode, one file per sub-environment:
        ``run.0.monitor.csv``, ``run.1.monitor.csv``, ... for ``run``; see
        :class:`dqn_plugins.wrappers.EpisodeLog`. None writes nothing.
    :param append: Whether existing log files are continued (the default) or replaced.
    :param report: See :class:`dqn_plugins.wrappers.EpisodeReward`.
    :param buffer_length: See there.
    :param stats_key: See there.
    :raises ValueError: If an argument is out of its range, or ``log_file`` leads to a file of
        another kind.
    :raises OSError: If a log file cannot be written.

    Example::

        from dqn_plugins.wrappers import VecEpisodeReward
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_vec_env

        venv = VecEpisodeReward(make_vec_env("CartPole-v1", 4), window=100, report_every=10)
        DQN("MlpPolicy", venv).learn(1000)
        print(venv.mean_return, venv.episode_count)
    """

    def __init__(
        self,
        venv: VecEnv,
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
        super().__init__(
            venv, window, report_every, gamma, log_file,
            append=append, report=report, buffer_length=buffer_length, stats_key=stats_key,
        )  # fmt: skip

    def env_is_wrapped(self, wrapper_class: type[Any], indices: VecEnvIndices = None) -> list[bool]:
        """
        Tell whether the sub-environments have a wrapper.

        :param wrapper_class: The wrapper's class.
        :param indices: Which sub-environments; None for all.
        :return: True for ``Monitor``, whose place this wrapper takes; otherwise what they say.
        """
        if self._stats_key == "episode" and wrapper_class is Monitor:
            return [True for _ in self._get_indices(indices)]
        return self.venv.env_is_wrapped(wrapper_class, indices)
