"""Checks of what users pass, each with one sentence that says what to pass instead."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "check_above_zero",
    "check_in_unit_interval",
    "check_is_bool",
    "check_one_of",
    "is_integer",
    "is_number",
]


def is_number(value: Any) -> bool:
    """
    Tell whether something is one real number, of Python or of NumPy.

    :param value: Anything.
    :return: Whether it is. True and False are not.
    """
    if isinstance(value, (float, int, np.floating, np.integer)):
        return not isinstance(value, bool)
    array = np.asarray(value)  # of no dimensions, perhaps
    return (
        array.shape == ()
        and array.dtype != np.bool_
        and (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating))
    )


def is_integer(value: Any) -> bool:
    """
    Tell whether something is one integer, of Python or of NumPy.

    :param value: Anything.
    :return: Whether it is. True and False are not.
    """
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool)
    return is_number(value) and np.issubdtype(np.asarray(value).dtype, np.integer)


def check_in_unit_interval(name: str, value: Any, includes_one: bool = True) -> None:
    """
    Check a number that must be in [0, 1].

    :param name: Name of the argument.
    :param value: Its value.
    :param includes_one: Whether it may be 1.
    :raises ValueError: If it is not a number in [0, 1], or not one in [0, 1).
    """
    if not is_number(value) or not 0.0 <= value <= 1.0 or (value == 1.0 and not includes_one):
        unit_interval = "[0, 1]" if includes_one else "[0, 1)"
        raise ValueError(
            f"{name}: received {value!r}, it must be a number in {unit_interval}. "
            f"Pass {name}=... within that range."
        )


def check_above_zero(name: str, value: Any) -> None:
    """
    Refuse what is no limit.

    :param name: Name of the argument.
    :param value: Its value.
    :raises ValueError: If it is neither a number above 0 nor None.
    """
    if value is not None and not (is_number(value) and value > 0.0):
        raise ValueError(
            f"{name}: received {value!r}, it must be a number above 0. Pass None for no limit."
        )


def check_is_bool(name: str, value: Any, advice: str) -> None:
    """
    Refuse what is neither True nor False.

    :param name: Name of the argument.
    :param value: Its value.
    :param advice: A sentence that says which one to choose.
    :raises ValueError: If it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: received {value!r}, it must be True or False. {advice}")


def check_one_of(name: str, value: Any, choices: Sequence[str], advice: str) -> None:
    """
    Refuse a word that is not on the list.

    :param name: Name of the argument.
    :param value: Its value.
    :param choices: The list.
    :param advice: A sentence that says which one to choose.
    :raises ValueError: If it is something else.
    """
    if value not in choices:
        raise ValueError(
            f"{name}: received {value!r}, it must be one of {tuple(choices)}. {advice}"
        )
