"""What a ``VecEnv`` tells of its sub-environments, which may live in other processes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

__all__ = [
    "all_rendered",
    "environment_id",
    "environment_metadata",
    "rendered",
    "sub_environments",
]


def environment_id(venv: VecEnv) -> str | None:
    """
    Ask the first sub-environment for its id. Its name, which ends in the id, is asked for rather
    than its spec: a spec may hold functions, and a worker that cannot pickle its answer dies.

    :param venv: The vectorised environment.
    :return: The id, such as ``"CartPole-v1"``; None if it has none, or cannot be
        asked.

    Example::

        from dqn_plugins.wrappers.environment_id import environment_id
        from stable_baselines3.common.env_util import make_vec_env

        assert environment_id(make_vec_env("CartPole-v1")) == "CartPole-v1"
    """
    try:
        name = str(venv.env_method("__str__", indices=[0])[0])
    except Exception:  # of the methods of a VecEnv, Stable-Baselines3 itself calls few
        return None
    found = re.search(r"<([^<>\s]+)>+$", name)
    return None if found is None else found[1]


def environment_metadata(venv: VecEnv) -> Mapping[str, Any]:
    """
    Look up the metadata of the first sub-environment.

    :param venv: The vectorised environment.
    :return: They, or those of ``venv`` where that cannot be asked.
    """
    try:
        metadata = venv.get_attr("metadata")[0]
    except Exception:
        metadata = venv.unwrapped.metadata
    return metadata if isinstance(metadata, Mapping) else {}


def sub_environments(venv: VecEnv) -> list[gym.Env[Any, Any]]:
    """
    Find the sub-environments, if they are in this process.

    :param venv: The vectorised environment.
    :return: They; none if they are elsewhere or something else.
    """
    envs: Any = getattr(venv.unwrapped, "envs", None)
    is_ours = isinstance(envs, list) and all(isinstance(env, gym.Env) for env in envs)
    return envs if is_ours else []


def rendered(venv: VecEnv, index: int) -> Any:
    """
    Draw one sub-environment, and the others too where one alone cannot be asked.

    :param venv: The vectorised environment.
    :param index: Of the sub-environment.
    :return: Its picture.
    """
    try:
        return venv.env_method("render", indices=[index])[0]
    except (NotImplementedError, AttributeError, TypeError):
        return all_rendered(venv)[index]


def all_rendered(venv: VecEnv) -> list[Any]:
    """
    Draw all sub-environments.

    :param venv: The vectorised environment.
    :return: A picture of each; a single one of all where it gives no other.
    """
    try:
        return list(venv.get_images())
    except NotImplementedError:
        return [venv.render()]
