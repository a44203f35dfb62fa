"""What a ``VecEnv`` tells of its sub-environments, which may live in other processes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

__all__ = [
    "all_rendered",
    "check_pictures",
    "environment_metadata",
    "id_of",
    "rendered",
    "sub_environments",
]


def id_of(env: Any) -> str | None:
    """
    Tell the id that an environment was made by, None without one. The first sub-environment of a
    ``VecEnv`` is asked for its name, which ends in the id, rather than for its spec: a spec may
    hold functions, and a worker that cannot pickle its answer dies.
    """
    if not hasattr(env, "env_method"):
        found = getattr(getattr(env, "spec", None), "id", None)
        return None if found is None else str(found)
    try:
        name = str(env.env_method("__str__", indices=[0])[0])
    except Exception:  # of the methods of a VecEnv, Stable-Baselines3 itself calls few
        return None
    found = re.search(r"<([^<>\s]+)>+$", name)
    return None if found is None else found[1]


def check_pictures(env: Any) -> None:
    """Check that an environment, or several, can be drawn."""
    of_sb3 = hasattr(env, "env_method")
    if env.render_mode in {None, "human", "ansi"} or (of_sb3 and env.render_mode != "rgb_array"):
        raise ValueError(
            f"{'venv' if of_sb3 else 'env'}: received render_mode={env.render_mode!r}, which gives "
            "no pictures. Make the environment with one that does, such as rgb_array: "
            'gym.make("LunarLander-v3", render_mode="rgb_array"), or '
            'make_vec_env(..., env_kwargs={"render_mode": "rgb_array"}).'
        )


def environment_metadata(env: Any) -> Mapping[str, Any]:
    """Look up the metadata of an environment, or of the first in a ``VecEnv``."""
    try:
        metadata = env.get_attr("metadata")[0] if hasattr(env, "env_method") else env.metadata
    except Exception:
        metadata = env.unwrapped.metadata
    return metadata if isinstance(metadata, Mapping) else {}


def sub_environments(venv: Any) -> list[gym.Env[Any, Any]]:
    """Find the sub-environments; none if they are in other processes or something else."""
    envs: Any = getattr(venv.unwrapped, "envs", None)
    is_ours = isinstance(envs, list) and all(isinstance(env, gym.Env) for env in envs)
    return envs if is_ours else []


def rendered(venv: VecEnv, index: int) -> Any:
    """Draw one sub-environment, and the others too where one alone cannot be asked."""
    try:
        return venv.env_method("render", indices=[index])[0]
    except (NotImplementedError, AttributeError, TypeError):
        return all_rendered(venv)[index]


def all_rendered(venv: VecEnv) -> list[Any]:
    """Draw all sub-environments: a picture of each, or one of all where there is no other."""
    try:
        return list(venv.get_images())
    except NotImplementedError:
        return [venv.render()]
