"""What actions are called: of environments that say so, and of well-known ones."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym

__all__ = ["action_names_of", "known_action_names"]

_MOVES = ("left", "down", "right", "up")
_NAMES = {
    "Acrobot": ("torque −1", "no torque", "torque +1"),
    "Blackjack": ("stick", "hit"),
    "CartPole": ("left", "right"),
    "CliffWalking": ("up", "right", "down", "left"),
    "FrozenLake": _MOVES,
    "FrozenLake8x8": _MOVES,
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
    "MountainCar": ("left", "nothing", "right"),
    "Taxi": ("south", "north", "east", "west", "pick up", "drop off"),
}
_MINATAR = {"n": "nothing", "l": "left", "u": "up", "r": "right", "d": "down", "f": "fire"}


def known_action_names(env_id: str | None) -> tuple[str, ...] | None:
    """Look up the actions of a well-known environment by its id, with or without a namespace."""
    name = re.sub(r"^.*/|-v\d+$", "", env_id or "")
    return _NAMES.get(name)


def action_names_of(env: gym.Env[Any, Any]) -> tuple[str, ...] | None:
    """
    Find out what an environment's actions are called: from its own ``get_action_meanings``, as
    Atari's games have it, from MinAtar's table of its keys, or from a table of well-known ids. None
    if they are not known, or there is another number of them.
    """
    if not isinstance(env.action_space, gym.spaces.Discrete):
        return None
    base: Any = env.unwrapped
    keys = getattr(getattr(getattr(base, "game", None), "env", None), "action_map", None)
    names: tuple[str, ...] | None
    if callable(getattr(base, "get_action_meanings", None)):
        names = tuple(_spoken(each) for each in base.get_action_meanings())
    elif keys is not None and hasattr(base, "action_set"):
        names = tuple(_MINATAR.get(keys[action], keys[action]) for action in base.action_set)
    else:
        names = known_action_names(None if env.spec is None else env.spec.id)
    return names if names is not None and len(names) == env.action_space.n else None


def _spoken(meaning: Any) -> str:
    """Write Atari's names, such as ``UPRIGHTFIRE``, as words."""
    words = re.findall(r"NOOP|UP|DOWN|RIGHT|LEFT|FIRE", str(meaning))
    if "".join(words) != str(meaning):
        return str(meaning)
    return "nothing" if words == ["NOOP"] else " ".join(words).lower()
