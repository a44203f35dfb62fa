"""What compiled code refuses to learn from, and how it says so."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Floats, compiled

__all__ = ["LEARNED", "NOT_FINITE", "all_finite"]

# What an update returns; else the index of the environment whose update overflows
LEARNED, NOT_FINITE = -1, -2


@compiled
def all_finite(values: Floats) -> bool:
    """Look for NaN and infinity."""
    for value in values.flat:  # noqa: SIM110 - compiled code has no generators
        if not np.isfinite(value):
            return False
    return True
