"""The observer of Stable-Baselines3's ``VecEnv``."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.wrappers.observing.observer import Observer

__all__ = ["ObservedVecEnv"]


class ObservedVecEnv(Observer, VecEnvWrapper):
    """
    Looks at a ``VecEnv``, which resets an environment within the step that ends its episode. One of
    Gymnasium's that does so a step later says in ``valid`` which rows are steps.
    """

    def __init__(self, venv: VecEnv, **_: Any):
        if not isinstance(venv, VecEnv):
            raise TypeError(
                f"venv: received {type(venv).__name__}, it must be a VecEnv of Stable-Baselines3. "
                "For a gymnasium.Env take RecordVideo, EpisodeReward or LiveView, for Gymnasium's "
                "VectorEnv VectorRecordVideo or VectorEpisodeReward."
            )
        VecEnvWrapper.__init__(self, venv)
        mode = getattr(venv.unwrapped, "_mode", None)
        self._resets_within_step = mode is not AutoresetMode.NEXT_STEP

    @override
    def reset(self) -> VecEnvObs:
        indices = list(range(self.num_envs))
        self._before_reset(indices)
        # A VecEnv forgets its seeds in the reset that uses them.
        seeds = list(getattr(self.venv.unwrapped, "_seeds", ()))
        self._observations = self._ask(self.venv.reset)
        self._infos = self.venv.unwrapped.reset_infos
        self._begin(indices, seeds)
        return self._observations  # type: ignore[no-any-return]

    @override
    def step_wait(self) -> VecEnvStepReturn:
        self._observations, rewards, dones, infos = self._ask(self.venv.step_wait)
        observations, infos = self._observations, list(infos)
        over = np.asarray(dones).tolist()  # faster than to search an array this short
        ended = [index for index, done in enumerate(over) if done] if True in over else []
        for index in ended:  # an environment's own may be the same one at each step
            infos[index] = dict(infos[index])
        cuts = {index: bool(infos[index].get("TimeLimit.truncated", False)) for index in ended}
        below: Any = self.venv.unwrapped
        is_step, first = getattr(below, "valid", None), dones
        begun: list[int] = []
        if isinstance(is_step, np.ndarray):  # otherwise an environment's own
            begun, first = np.flatnonzero(~is_step).tolist(), below.begun
        if ended and first is not None:
            told = below.reset_infos
            self._infos = [told[i] if first[i] else info for i, info in enumerate(infos)]
        else:
            self._infos = infos
        self._add(rewards, {index: (not cut, cut) for index, cut in cuts.items()}, begun)
        self._after_step(ended, infos)
        if ended and first is not None:
            self._begin([index for index in ended if first[index]], when="after step")
        return observations, rewards, dones, infos
