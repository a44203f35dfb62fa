"""Numbers that compiled code refuses to learn from, and numbers too small to matter."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Floats, compiled

__all__ = ["LEARNED", "NOT_FINITE", "all_finite", "flushed"]

# What an update returns; else the index of the environment whose update overflows
LEARNED, NOT_FINITE = -1, -2


@compiled
def all_finite(values: Floats) -> bool:
    """Look for NaN and infinity."""
    for value in values.flat:  # noqa: SIM110 - compiled code has no generators
        if not np.isfinite(value):
            return False
    return True


@compiled
def flushed(value: np.float32) -> np.float32:
    """
    Replace a number that no longer matters by zero.

    What decays step by step, such as the moments and traces of an inactive unit, ends among the
    denormal numbers, with which processors compute many times slower.
    """
    return value if abs(value) > np.float32(1e-30) else np.float32(0.0)
