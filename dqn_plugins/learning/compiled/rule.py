"""What the compiled backend asks of a rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.binding import Binding

__all__ = ["EXPLORATION_RATE", "CompiledRule"]

EXPLORATION_RATE = 0
"""Place of ε among the numbers of every rule."""


class CompiledRule(NamedTuple):
    """
    A rule in compiled code.

    :param bind: Collects all that the rule works on: a ``NamedTuple`` made of the policy's binding,
        the rule's numbers, which change while it learns, and an array for the TD errors.
    :param numbers: Translates a rule into numbers; ε has its place in front.
    :param learn: The entry point: takes the structure and the arrays of a ``Transition``.
    """

    bind: Callable[[Binding, np.ndarray, np.ndarray], Any]
    numbers: Callable[[Any], list[float]]
    learn: Callable[..., int]
