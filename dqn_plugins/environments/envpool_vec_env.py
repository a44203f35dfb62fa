"""EnvPool's environments, which run in threads of C++, as ``VecEnv``."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from dqn_plugins.wrappers.observing.infos import rows_of

__all__ = ["EnvPoolVecEnv"]


class EnvPoolVecEnv(GymnasiumVecEnv):
    """
    A pool of EnvPool's environments. They step while Python does something else.

    Of what the environments tell in ``info``, ``"action_mask"`` alone is passed on: EnvPool tells
    the same at every step, and a dictionary for each environment takes longer to make than the
    step.

    :param pool: What ``envpool.make(..., env_type="gymnasium")`` returns, with
        ``batch_size=num_envs``.
    :param make: Makes such a pool with another seed; None if that is not known.
    :param observation_space: The space of each one's observations; None for that which EnvPool
        says. Where there are no bounds, EnvPool says others than Gymnasium.
    :raises ValueError: If it gives the environments in the order in which they are done.
    """

    _gives_new_arrays = True

    def __init__(
        self,
        pool: Any,
        make: Callable[..., Any] | None = None,
        observation_space: spaces.Space[Any] | None = None,
    ) -> None:
        self.pool = pool
        if pool.is_async:
            config = pool.config
            raise ValueError(
                f"env: received a pool with batch_size={config['batch_size']} of num_envs="
                f"{config['num_envs']}, they must be equal: otherwise the order of the "
                "transitions, and so the result, differs in every run. Pass env_id, "
                "n_envs=... and vectorization='envpool' to the algorithm: it learns from some of "
                "the environments while others step, in an order that is always the same."
            )
        self._make = make
        super().__init__(pool, observation_space)

    @override
    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        if seed is not None and seed != self.pool.config["seed"]:
            if self._make is None:
                warnings.warn(
                    f"seed: received {seed}, but EnvPool's environments are seeded when they are "
                    f"made, these with {self.pool.config['seed']}. Pass seed={seed} to "
                    "envpool.make, too.",
                    stacklevel=2,
                )
            else:
                self.pool.close()
                self.env = self.pool = self._make(seed=seed)
        return super().seed(seed)

    def _reset_env(self, seed: int | None, options: dict[str, Any] | None) -> tuple[Any, Any]:
        obs, infos = self.pool.reset(options=options)
        return obs, _masks_in(infos)

    @override
    def step_async(self, actions: np.ndarray) -> None:
        self.pool.send(actions)

    @override
    def step_wait(self) -> VecEnvStepReturn:
        obs, rewards, terminations, truncations, infos = self.pool.recv()
        rows = rows_of(_masks_in(infos), self.num_envs)
        return self._read(obs, rewards, terminations, truncations, rows)

    @override
    def get_images(self) -> Sequence[np.ndarray | None]:
        return list(self.pool.render(env_ids=np.arange(self.num_envs)))


def _masks_in(infos: dict[str, Any]) -> dict[str, Any]:
    return {key: infos[key] for key in ("action_mask",) if key in infos}
