"""What environments tell in ``info``: each of several, and which of its actions are possible."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

__all__ = ["KEY", "METHOD", "masks_in", "possible_actions", "rows_of"]

METHOD = "action_masks"
"""What sb3-contrib calls the method that tells masks of possible actions."""

KEY = "action_mask"
"""Where Gymnasium's environments tell them in ``info``."""


def possible_actions(infos: Any, env: Any) -> list[npt.NDArray[np.bool_] | None]:
    """
    Tell which actions are possible where environments are, for who looks on: by
    ``info["action_mask"]`` or else by the method ``action_masks()``. Nothing is raised.

    :param infos: What each environment told with what the agent sees, as :func:`rows_of` takes it.
    :param env: The one environment, or all of them as a ``VecEnv`` or ``VectorEnv``.
    :return: Of each a mask, shape (n_actions,); None without one, and for what is none.
    """
    rows = masks_in(infos, env.num_envs) if isinstance(infos, dict) else infos
    masks = [_as_mask(info.get(KEY)) if info else None for info in rows]
    if any(mask is None for mask in masks):
        # Whatever is wrong with a mask, who looks on sees the rest.
        with contextlib.suppress(Exception):
            asked = zip(masks, _asked(env), strict=True)
            return [_as_mask(other) if mask is None else mask for mask, other in asked]
    return masks


def masks_in(infos: Any, n_envs: int) -> list[dict[str, Any]]:
    """Take the masks alone of what a ``VectorEnv`` tells."""
    if isinstance(infos, dict):
        infos = {key: infos[key] for key in (KEY, f"_{KEY}") if key in infos}
    return rows_of(infos, n_envs)


def _asked(env: Any) -> Sequence[Any]:
    if isinstance(env, gym.Env):
        return (env.get_wrapper_attr(METHOD)(),) if env.has_wrapper_attr(METHOD) else (None,)
    call = env.env_method if hasattr(env, "env_method") else env.unwrapped.call
    # A worker process that is asked for a method that it has not would end.
    has_method: Sequence[bool] = call("has_wrapper_attr", METHOD)
    return call(METHOD) if all(has_method) else [None] * len(has_method)


def _as_mask(told: Any) -> npt.NDArray[np.bool_] | None:
    try:
        numbers = np.asarray(told)
    except ValueError:  # lists of different lengths
        return None
    is_mask = numbers.ndim == 1 and numbers.dtype.kind in "biuf" and np.isin(numbers, (0, 1)).all()
    return numbers.astype(np.bool_) if is_mask else None


def rows_of(infos: Any, n_envs: int) -> list[dict[str, Any]]:
    """
    Tell of each environment what a ``VectorEnv`` tells of all; what is of none is of each.

    :param infos: What it tells: a dictionary, or from ``DictInfoToList`` a list already.
    :param n_envs: Number of environments.
    :return: A dictionary for each.
    """
    if not isinstance(infos, dict):
        return list(infos)
    rows: list[dict[str, Any]] = [{} for _ in range(n_envs)]
    for key, value in infos.items():
        if key[:1] == "_" and key[1:] in infos:  # says which environments have told that
            continue
        values: Any = [value] * n_envs
        if isinstance(value, dict):
            values = rows_of(value, n_envs)
        elif isinstance(value, np.ndarray) and value.shape[:1] == (n_envs,):
            values = value
        told = infos.get(f"_{key}", [True] * n_envs)
        for row, one, has_told in zip(rows, values, told, strict=True):
            if has_told:
                row[key] = one
    return rows
