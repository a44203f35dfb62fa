"""Makes environments from ids, and vectorised environments from whatever was given."""

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal, TypeAlias, get_args

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType, RenderFrame
from gymnasium.utils import RecordConstructorArgs
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env

from dqn_plugins.arguments import check_one_of, is_integer
from dqn_plugins.environments.action_masks import tell_last_action_mask
from dqn_plugins.environments.envpool_vec_env import EnvPoolVecEnv
from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SingleVecEnv, SyncVecEnv
from dqn_plugins.environments.turns import TurnTakingVecEnv
from dqn_plugins.extras import require_extra
from dqn_plugins.wrappers.video.enlarge_frames import enlarged

__all__ = [
    "RenderOnDemand",
    "Vectorization",
    "load_envpool",
    "make_env",
    "make_vec_env",
    "register_plugin",
    "wrap_env",
]

EXTRA_OF_NAMESPACE = {
    "ALE": ("atari", "Atari", "ale_py"),
    "MinAtar": ("minatar", "MinAtar", "minatar"),
}
"""Of the environments of an extra: its name, what needs it, and the module."""

RENDER_MODE = "rgb_array"
SMALLEST_SIDE = 100
"""Pictures whose longer side has fewer pixels are enlarged, so that they can be seen."""

Vectorization: TypeAlias = Literal["sync", "async", "envpool"]
"""Where several environments run."""


class RenderOnDemand(gym.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """
    An environment that prepares pictures only from its first ``render`` on.

    Some environments prepare them at every step once they have a render mode: LunarLander moves the
    particles of its exhaust, more of them the longer an episode goes on.

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

        :return: The frame, shape (height, width, 3), uint8. A tiny one, as MinAtar's, is enlarged.
        """
        self.unwrapped.render_mode = RENDER_MODE
        frame = super().render()
        return enlarged(frame, SMALLEST_SIDE) if isinstance(frame, np.ndarray) else frame


def register_plugin(env_id: str) -> None:
    """
    Have an installed package register its environments in Gymnasium, if an id asks for them.

    Before version 1.0, Gymnasium itself called what packages name under "gymnasium.envs", as
    MinAtar does. ale-py registers its environments when it is imported.

    :param env_id: An id. Only what stands before its "/" matters.
    :raises DependencyNotInstalled: If it is one of an extra that is not installed.
    """
    namespace = env_id.rpartition("/")[0]
    if any(spec.namespace == namespace for spec in list(gym.registry.values())):
        return
    if namespace in EXTRA_OF_NAMESPACE:
        require_extra(*EXTRA_OF_NAMESPACE[namespace])
    for plugin in entry_points(group="gymnasium.envs", name=namespace):
        plugin.load()()
    if namespace == "ALE":
        import_module("ale_py")


def make_env(env_id: str, verbose: int = 0, **env_kwargs: Any) -> gym.Env[Any, Any]:
    """
    Make an environment that can be rendered and is fast until it is.

    Stable-Baselines3 makes environments with ``render_mode="rgb_array"``, and its scripts rely on
    being able to record ``model.get_env()``. Here they can, too.

    :param env_id: Its id in Gymnasium's registry.
    :param verbose: 1 to say so.
    :param env_kwargs: Keyword arguments for it.
    :return: The environment.
    """
    if verbose >= 1:
        print(f"Creating environment from the given name '{env_id}'")
    register_plugin(env_id)
    env = gym.make(env_id, **env_kwargs)
    if env.render_mode is None and RENDER_MODE in (env.metadata.get("render_modes") or ()):
        return RenderOnDemand(env)
    return env


def make_vec_env(
    env_id: str,
    n_envs: int = 1,
    vectorization: Vectorization = "sync",
    seed: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    n_envs_per_turn: int | None = 4,
) -> VecEnv:
    """
    Make several environments from an id.

    :param env_id: Their id in Gymnasium's registry, or in EnvPool's.
    :param n_envs: How many, at least 1.
    :param vectorization: Where they run: "sync" one after the other in this process; "async" each
        in a process of its own, which pays where a step takes milliseconds; "envpool" in threads of
        C++, which is the fastest where EnvPool has the environment. There they take turns: a few
        step while those before them are learned from.
    :param seed: Seed of the first one, the others' follow; None for any.
    :param env_kwargs: Keyword arguments for each.
    :param n_envs_per_turn: With "envpool", how many step at once, at least 1; None for half of
        them. More are faster; with fewer, an algorithm that learns at every step learns more from
        each transition, since fewer act by the same weights.
    :return: The environments, for an algorithm.
    :raises ValueError: If an argument is out of its range, or EnvPool does not have them.
    :raises ModuleNotFoundError: If EnvPool is not installed.
    """
    if not is_integer(n_envs) or n_envs < 1:
        raise ValueError(
            f"n_envs: received {n_envs!r}, it must be an integer of at least 1. Try 8."
        )
    check_one_of("vectorization", vectorization, get_args(Vectorization), "Try 'sync'.")
    if n_envs_per_turn is not None and (not is_integer(n_envs_per_turn) or n_envs_per_turn < 1):
        raise ValueError(
            f"n_envs_per_turn: received {n_envs_per_turn!r}, it must be an integer of at least 1, "
            "or None for one half. Try 4."
        )
    kwargs = env_kwargs or {}
    env: VecEnv
    if vectorization == "envpool":
        env = _make_pools(env_id, n_envs, seed, kwargs, n_envs_per_turn)
    elif n_envs == 1:
        env = wrap_env(make_env(env_id, **kwargs))
    else:
        make: Callable[[], gym.Env[Any, Any]] = partial(_make_monitored, env_id, **kwargs)
        makers = [make] * n_envs
        env = (SyncVecEnv if vectorization == "sync" else SubprocVecEnv)(makers)
    env.seed(seed)
    return env


def _make_monitored(env_id: str, **env_kwargs: Any) -> gym.Env[Any, Any]:
    return ConstantMemoryMonitor(tell_last_action_mask(make_env(env_id, **env_kwargs)))


def load_envpool(env_id: str) -> Any:
    """Import EnvPool, and refuse an environment that it does not have."""
    try:
        envpool: Any = import_module("envpool")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "vectorization: received 'envpool', but EnvPool is not installed. "
            "pip install 'dqn-plugins[envpool]'",
            name=error.name,
        ) from error
    if env_id not in envpool.list_all_envs():
        raise ValueError(
            f"env: received {env_id!r}, which EnvPool does not have; envpool.list_all_envs() lists "
            "those it has. Pass vectorization='sync' for Gymnasium's environments."
        )
    return envpool


def _make_pools(
    env_id: str,
    n_envs: int,
    seed: int | None,
    env_kwargs: dict[str, Any],
    n_envs_per_turn: int | None,
) -> VecEnv:
    """Make pools of EnvPool that take turns."""
    import joblib

    envpool = load_envpool(env_id)
    # So that a model can go over to Gymnasium's environment of that id, and back
    space = gym.make(env_id).observation_space if env_id in gym.registry else None
    first_seed = int(np.random.default_rng().integers(2**30)) if seed is None else seed
    n_threads = max(1, joblib.cpu_count() - 1)  # this thread learns
    n_pools = max(min(n_envs, 2), -(-n_envs // (n_envs_per_turn or n_envs)))
    pools = []
    for indices in np.array_split(np.arange(n_envs), n_pools):
        make = partial(
            envpool.make,
            env_id,
            env_type="gymnasium",
            num_envs=len(indices),
            num_threads=min(n_threads, len(indices)),
            **env_kwargs,
        )
        pools.append(EnvPoolVecEnv(make(seed=first_seed + int(indices[0])), make, space))
    return TurnTakingVecEnv(pools) if len(pools) > 1 else pools[0]


def wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
    """
    Make a ``VecEnv`` of whatever environment was given.

    :param env: A Gymnasium environment, a ``VecEnv``, a Gymnasium ``VectorEnv``, or a pool of
        EnvPool's.
    :param verbose: 1 to say which wrappers are used.
    :param monitor_wrapper: Whether to put a ``Monitor`` around a single environment.
    :return: The vectorised environment.
    :raises ValueError: If a ``VectorEnv`` does not say how it resets itself.
    :raises TypeError: If a pool is not made for Gymnasium.
    """
    given: Any = env
    if isinstance(given, gym.vector.VectorEnv):
        is_pool = given is given.unwrapped and hasattr(given, "async_reset")
        env = EnvPoolVecEnv(given) if is_pool else GymnasiumVecEnv(given)
        if verbose >= 1:
            print(f"Wrapping the env in a {type(env).__name__}.")
    elif hasattr(given, "async_reset"):
        raise TypeError(
            f"env: received {type(given).__name__}, it must be a pool with Gymnasium's interface. "
            "Pass env_type='gymnasium' to envpool.make."
        )
    elif isinstance(env, VecEnv):
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
    is_made = isinstance(env, DummyVecEnv | SubprocVecEnv) and env.render_mode == RENDER_MODE
    if is_made and env.has_attr("particles") and not all(env.env_is_wrapped(RenderOnDemand)):
        warnings.warn(
            "The environments were made with render_mode='rgb_array', as Stable-Baselines3's "
            "make_vec_env does by default: they move particles for pictures at every step, which "
            "takes longer than learning. If nothing is recorded, pass make_vec_env(..., "
            "env_kwargs=dict(render_mode=None)).",
            stacklevel=7,
        )
