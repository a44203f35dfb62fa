"""Numbers too small to matter, with which processors compute many times slower."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import compiled

__all__ = ["flushed"]


@compiled
def flushed(value: np.float32) -> np.float32:
    """
    Replace a number that no longer matters by zero.

    What decays step by step, such as the moments and traces of an inactive unit, ends among the
    denormal numbers, with which processors compute many times slower.
    """
    return value if abs(value) > np.float32(1e-30) else np.float32(0.0)
