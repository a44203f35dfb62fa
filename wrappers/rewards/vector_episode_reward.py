"""Returns, lengths and last rewards of the episodes of Gymnasium's ``VectorEnv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.core import ActType, ObsType

from dqn_plugins.wrappers.observing.observer import ObservedVectorEnv
from dqn_plugins.wrappers.rewards.episode import is_told
from dqn_plugins.wrappers.rewards.episode_statistics import (
    EpisodeStatistics,
    of_running,
    told_above,
)

__all__ = ["VectorEpisodeReward"]


class VectorEpisodeReward(EpisodeStatistics, ObservedVectorEnv[ObsType, ActType]):
    """
    Keep the return, length and last reward of each episode of Gymnasium's ``VectorEnv``, whichever
    way it resets itself: :class:`dqn_plugins.wrappers.EpisodeReward` for several environments, with
    the same arguments, attributes, report line and log.

    It takes the place of ``gymnasium.wrappers.vector.RecordEpisodeStatistics``: the infos of a step
    that ends episodes get ``"episode"`` with arrays ``r``, ``l`` and ``t``, and ``"_episode"`` says
    whose they are. An entry that a wrapper below has written is left alone; anything else under
    that name gives way in such a step, since one array cannot hold both.

    :param env: The environments.
    :param window: See :class:`dqn_plugins.wrappers.EpisodeReward`.
    :param report_every: See there.
    :param gamma: See there.
    :param log_file: See :class:`dqn_plugins.wrappers.VecEpisodeReward`.
    :param append: Whether existing log files are continued (the default) or replaced.
    :param report: What a report line is handed to; by default it is printed.
    :param buffer_length: Gymnasium's name for ``window``; if it is given, it counts.
    :param stats_key: Name of the entry in the infos.
    :raises ValueError: If an argument is out of its range.
    :raises OSError: If a log file cannot be written.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import VectorEpisodeReward

        envs = VectorEpisodeReward(gym.make_vec("CartPole-v1", 4), report_every=10)
        envs.reset(seed=0)
        for _ in range(200):
            _, _, _, _, infos = envs.step(envs.action_space.sample())
        print(envs.mean_return, envs.episode_count)
    """

    episode_start_times = of_running(
        "started", "When the running episodes began, on the clock of ``time.perf_counter``."
    )
    prev_dones = of_running("over", "Whether the last step ended an episode, of each environment.")

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        if not isinstance(infos, dict):  # of DictInfoToList, one for each
            super()._after_step(ended, infos)
        elif ended:
            records = [self._finish(index) for index in ended]
            key = self._stats_key
            if told_above(self, key) or is_told(infos, key):
                return
            kinds = {"r": np.float64, "l": np.int64, "t": np.float64}
            infos[key] = {name: np.zeros(self.num_envs, kind) for name, kind in kinds.items()}
            infos[f"_{key}"] = np.isin(np.arange(self.num_envs), ended)
            for record in records:
                for name, value in record.info().items():
                    infos[key][name][record.environment] = value
