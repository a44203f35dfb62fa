"""Which spaces can be learned from."""

from typing import Any

import numpy as np
from gymnasium import spaces

__all__ = ["check_spaces"]

LEARNABLE = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


def check_spaces(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any] | None = None
) -> None:
    """
    Refuse what no policy can be made for, or what would fail at the first step: observations that
    are nested, of a kind that is no array, or not counted from 0, and such actions.
    """
    if isinstance(observation_space, spaces.Dict) and observation_space.spaces:
        for key, part in observation_space.spaces.items():
            _check_part(f"observation_space[{key!r}]", part)
    else:
        _check_part("observation_space", observation_space)
    if action_space is not None:
        _check_start("action_space", action_space)


def _check_part(name: str, space: spaces.Space[Any]) -> None:
    is_table = isinstance(space, spaces.MultiDiscrete) and np.ndim(space.nvec) > 1
    is_number = isinstance(space, spaces.Box) and space.shape == ()
    if not isinstance(space, LEARNABLE) or is_table or is_number or 0 in (space.shape or ()):
        raise ValueError(
            f"{name}: received {space}, it must be a Box of at least one dimension, a Discrete, "
            "MultiBinary or flat MultiDiscrete space, or a Dict with nothing but such spaces in "
            "it. Wrap the environment, for example in gymnasium.wrappers.FlattenObservation."
        )
    _check_start(name, space)


def _check_start(name: str, space: spaces.Space[Any]) -> None:
    start = getattr(space, "start", 0)
    if np.any(start):
        raise ValueError(
            f"{name}: received {space}, a {type(space).__name__} space must start at 0. Wrap the "
            f"environment so that it subtracts {start} from these numbers."
        )
