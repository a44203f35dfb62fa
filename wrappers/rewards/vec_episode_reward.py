"""Returns, lengths and last rewards of a Stable-Baselines3 ``VecEnv``'s episodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from dqn_plugins.wrappers.environment_id import environment_id
from dqn_plugins.wrappers.rewards.episode_log import SUFFIX, EpisodeLog
from dqn_plugins.wrappers.rewards.episode_statistics import (
    EpisodeStatistics,
    WindowProperties,
    checked_settings,
)

__all__ = ["VecEpisodeReward"]


def numbered_log_file(log_file: str | os.PathLike[str], index: int) -> str:
    """
    Name the log of one sub-environment.

    :param log_file: The user's argument, a file or a folder.
    :param index: Of the sub-environment.
    :return: ``run.0.monitor.csv`` for ``run``, ``logs/0.monitor.csv`` for the folder ``logs``.
    """
    text = os.fspath(log_file)
    if os.path.isdir(text):
        return os.path.join(text, f"{index}.{SUFFIX}")
    folder, name = os.path.split(text)
    stem = name.removesuffix(SUFFIX).removesuffix(".")
    return os.path.join(folder, f"{stem}.{index}.{SUFFIX}".removeprefix("."))


class VecEpisodeReward(WindowProperties, VecEnvWrapper):
    """
    Keep the return, length and last reward of each episode of a vectorised environment: the twin
    of :class:`dqn_plugins.wrappers.EpisodeReward`, with the same arguments, attributes, report
    line and log, and the same numbers on the same episodes. (Stable-Baselines3's ``DummyVecEnv``
    and ``SubprocVecEnv`` round rewards to single precision before this wrapper sees them; the
    sums are kept in double precision.)

    The means run over the episodes of all sub-environments, in the order in which they end. It
    works above and below ``VecMonitor``, and above ``Monitor``; an entry ``info["episode"]`` from
    below is left alone.

    :param venv: The vectorised environment.
    :param window: Episodes in the running means and lists, from 1.
    :param report_every: Prints a line after every so many episodes; None prints nothing.
    :param gamma: Keeps the discounted return as well, with this discount factor in [0, 1].
    :param log_file: Writes one row per episode, one file per sub-environment:
        ``run.0.monitor.csv``, ``run.1.monitor.csv``, ... for ``run``; see
        :class:`dqn_plugins.wrappers.EpisodeLog`. None writes nothing.
    :param append: Whether existing log files are continued (the default) or replaced.
    :param report: What a report line is handed to, such as ``tqdm.write``; by default it is
        printed.
    :param buffer_length: Gymnasium's name for ``window``; if it is given, it counts.
    :param stats_key: Name of the entry in the info; Stable-Baselines3 reads ``"episode"``.
    :raises ValueError: If ``window``, ``buffer_length``, ``report_every`` or ``gamma`` is out of
        its range, or ``log_file`` leads to a file of another kind.
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
        VecEnvWrapper.__init__(self, venv)
        window = checked_settings(window, buffer_length, report_every, gamma)
        self._stats_key = stats_key
        logs = []
        if log_file is not None:
            name = environment_id(venv)
            logs = [
                EpisodeLog(numbered_log_file(log_file, index), name, append)
                for index in range(venv.num_envs)
            ]
        self.statistics = EpisodeStatistics(
            venv.num_envs, window, report_every, gamma, report, logs
        )

    @property
    def episode_returns(self) -> npt.NDArray[np.float64]:
        """Sum of the rewards of each running episode so far, shape (n_envs,)."""
        return np.array([running.episode_return for running in self.statistics.running])

    @episode_returns.setter
    def episode_returns(self, values: Sequence[float]) -> None:
        for running, value in zip(self.statistics.running, values, strict=True):
            running.episode_return = float(value)

    @property
    def episode_lengths(self) -> npt.NDArray[np.int64]:
        """Steps of each running episode so far, shape (n_envs,)."""
        return np.array([running.length for running in self.statistics.running])

    @episode_lengths.setter
    def episode_lengths(self, values: Sequence[int]) -> None:
        for running, value in zip(self.statistics.running, values, strict=True):
            running.length = int(value)

    @property
    def log_paths(self) -> list[str]:
        """The log files, one per sub-environment; empty if there are none."""
        return [str(log.path) for log in self.statistics.logs]

    def reset(self) -> VecEnvObs:
        """
        Reset all sub-environments; episodes that are still running are booked as incomplete.

        :return: The first observations.
        """
        self.statistics.give_up()
        observations = self.venv.reset()
        for running in self.statistics.running:
            running.clear()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait for the step and count it.

        :return: Observations, rewards, dones and infos; the info of an episode's last step has the
            entry ``stats_key``.
        """
        observations, rewards, dones, infos = self.venv.step_wait()
        infos = list(infos)
        # Environments that reset themselves a step later say which rows are steps.
        is_step = getattr(self.venv.unwrapped, "valid", None)
        if not isinstance(is_step, np.ndarray):  # an environment's own
            is_step = None
        for index, running in enumerate(self.statistics.running):
            if is_step is not None and not is_step[index]:
                continue
            running.add(float(rewards[index]))
            if dones[index]:
                info = infos[index] = dict(infos[index])
                truncated = bool(info.get("TimeLimit.truncated", False))
                self.statistics.finish_and_tell(
                    index, not truncated, truncated, info, self._stats_key
                )
                running.clear()
        return observations, rewards, dones, infos

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

    def close(self) -> None:
        """
        Close the sub-environments and the logs; episodes that are still running are booked as
        incomplete.
        """
        try:
            self.statistics.close()
        finally:
            self.venv.close()
