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
    "environment_id",
    "environment_metadata",
    "id_of",
    "rendered",
    "sub_environments",
]


def id_of(env: Any) -> str | None:
    """Tell the id that an environment was made by, None without one."""
    found = getattr(getattr(env, "spec", None), "id", None)
    return None if found is None else str(found)


def environment_id(venv: VecEnv) -> str | None:
    """
    Ask the first sub-environment for its id. Its name, which ends in the id, is asked for rather
    than its spec: a spec may hold functions, and a worker that cannot pickle its answer dies.
    """
    try:
        name = str(venv.env_method("__str__", indices=[0])[0])
    except Exception:  # of the methods of a VecEnv, Stable-Baselines3 itself calls few
        return None
    found = re.search(r"<([^<>\s]+)>+$", name)
    return None if found is None else found[1]


def environment_metadata(venv: VecEnv) -> Mapping[str, Any]:
    """Look up the metadata of the first sub-environment, or else those of all."""
    try:
        metadata = venv.get_attr("metadata")[0]
    except Exception:
        metadata = venv.unwrapped.metadata
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
