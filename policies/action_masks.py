"""Masks of possible actions: what they do to action values, and what they must be like."""

from typing import Any

import numpy as np

__all__ = ["NUMBERS", "as_action_masks", "possible_values"]

NUMBERS = "biuf"
"""Kinds of NumPy's types that hold real numbers: Booleans, integers, floats."""


def possible_values(values: np.ndarray, action_masks: np.ndarray | None) -> np.ndarray:
    """
    Leave the values of possible actions, for a maximum over them: −∞ for what is impossible, and 0
    throughout where nothing is possible. Both of shape (n, n_actions); None for all.
    """
    if action_masks is None:
        return values
    nothing = ~action_masks.any(axis=1, keepdims=True)
    impossible = np.where(nothing, values.dtype.type(0.0), values.dtype.type(-np.inf))
    return np.where(action_masks, values, impossible)


def as_action_masks(
    action_masks: Any, n: int, n_actions: int, name: str = "action_masks", is_over: bool = False
) -> np.ndarray:
    """
    Check masks of possible actions that a caller passed.

    :param action_masks: The masks, shape (n, n_actions) or, for one, (n_actions,): Booleans, or
        numbers that are 0 or 1.
    :param n: For how many observations they must be.
    :param n_actions: Number of actions.
    :param name: The argument's name, for the message.
    :param is_over: Whether nothing need be possible, because the episode is over.
    :return: The masks, shape (n, n_actions), bool, a copy.
    :raises ValueError: If their shape is another one, a number is neither 0 nor 1, or no action is
        possible.
    """
    try:
        numbers = np.asarray(action_masks)
    except ValueError:  # rows of different lengths
        numbers = np.asarray(action_masks, dtype=object)
    fits = numbers.shape == (n, n_actions) or (n == 1 and numbers.shape == (n_actions,))
    if fits and numbers.dtype.kind in NUMBERS:
        masks = numbers.reshape(n, n_actions).astype(np.bool_)
        if np.array_equal(masks.reshape(numbers.shape), numbers):
            if is_over or masks.any(axis=1).all():
                return masks
            raise ValueError(
                f"{name}: received {action_masks!r}, in which an observation has no possible "
                "action, it must have at least one until its episode ends. Pass the mask of the "
                "observation that is acted on."
            )
    shape = f"({n_actions},)" if n == 1 else f"({n}, {n_actions})"
    raise ValueError(
        f"{name}: received {action_masks!r}, it must be an array of shape {shape} of True and "
        "False, or 1 and 0. Pass what the environment's `action_masks()` or "
        "info['action_mask'] says."
    )
