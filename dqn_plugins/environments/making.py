"""Makes environments from ids, and vectorised environments from whatever was given."""

import warnings
from typing import Any

import gymnasium as gym
from gymnasium.core import ActType, ObsType, RenderFrame
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env

from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SingleVecEnv

__all__ = ["RenderOnDemand", "make_env", "wrap_env"]

RENDER_MODE = "rgb_array"


class RenderOnDemand(gym.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """
    An environment that prepares pictures from its first ``render`` on, and not before.

    Some environments work for their pictures at every step once they have a render mode:
    LunarLander moves the particles of its exhaust, more of them the longer an episode goes on.

    :param env: An environment that can give arrays as frames, made without a render mode.
    """

    def __init__(self, env: gym.Env[ObsType, ActType]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    @property
    def render_mode(self) -> str:  # type: ignore[override]
        """The render mode that ``render`` works in: "rgb_array"."""
        return RENDER_MODE

    def render(self) -> RenderFrame | list[RenderFrame] | None:
        """
        Draw the environment.

        :return: The frame, shape (height, width, 3), uint8.
        """
        self.unwrapped.render_mode = RENDER_MODE
        return super().render()


def make_env(env_id: str, verbose: int = 0) -> gym.Env[Any, Any]:
    """
    Make an environment that can be rendered and is fast until it is.

    Stable-Baselines3 makes environments with ``render_mode="rgb_array"``, and its scripts rely on
    being able to record ``model.get_env()``. Here they can, too.

    :param env_id: Its id in Gymnasium's registry.
    :param verbose: 1 to say so.
    :return: The environment.
    """
    if verbose >= 1:
        print(f"Creating environment from the given name '{env_id}'")
    env = gym.make(env_id)
    if env.render_mode is None and RENDER_MODE in (env.metadata.get("render_modes") or ()):
        return RenderOnDemand(env)
    return env


def wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
    """
    Make a ``VecEnv`` of whatever environment was given.

    :param env: An environment.
    :param verbose: 1 to say which wrappers are used.
    :param monitor_wrapper: Whether to put a ``Monitor`` around a single environment.
    :return: The vectorised environment.
    :raises TypeError: If it is a Gymnasium vector environment.
    """
    given: object = env
    if isinstance(given, gym.vector.VectorEnv):
        raise TypeError(
            f"env: received {type(env).__name__}, a Gymnasium vector environment. "
            "Stable-Baselines3 has vector environments of its own: pass "
            "make_vec_env(env_id, n_envs=...) from stable_baselines3.common.env_util."
        )
    if isinstance(env, VecEnv):
        _warn_if_drawing_slows(env)
    else:
        env = _patch_env(env)
        if monitor_wrapper and not is_wrapped(env, Monitor):
            if verbose >= 1:
                print("Wrapping the env with a `Monitor` wrapper")
            env = ConstantMemoryMonitor(env)
        if verbose >= 1:
            print("Wrapping the env in a SingleVecEnv.")
        env = SingleVecEnv(env)
    return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)


def _warn_if_drawing_slows(env: VecEnv) -> None:
    """Say so where `make_vec_env` has made environments that draw for pictures nobody asked for."""
    if env is env.unwrapped and env.render_mode == RENDER_MODE and env.has_attr("particles"):
        warnings.warn(
            "The environments were made with render_mode='rgb_array', as Stable-Baselines3's "
            "make_vec_env does by default: they move particles for pictures at every step, which "
            "takes longer than learning. If nothing is recorded, pass make_vec_env(..., "
            "env_kwargs=dict(render_mode=None)).",
            stacklevel=7,
        )
