"""What the compiled backend asks of a rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.memory import Memory

__all__ = ["EACH", "EXPLORATION_RATE", "CompiledRule"]

# Places among the numbers of every rule: ε, and 1 for learning from each transition by itself
EXPLORATION_RATE, EACH = range(2)


class CompiledRule(NamedTuple):
    """
    A rule in compiled code.

    :param bind: Collects all that the rule works on: a ``NamedTuple`` made of the policy's memory,
        the rule's numbers, which change while it learns, and an array for the TD errors.
    :param numbers: Translates a rule into numbers, in front those that every rule has.
    :param learn: The entry point: takes the structure and the arrays of a ``Transition``.
    """

    bind: Callable[[Memory, np.ndarray, np.ndarray], Any]
    numbers: Callable[[Any], list[float]]
    learn: Callable[..., int]
