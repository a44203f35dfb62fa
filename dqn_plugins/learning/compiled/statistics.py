"""Running statistics in compiled code: what ``RunningStatistics`` computes."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, compiled
from dqn_plugins.policies import RunningStatistics

__all__ = ["STATISTICS_EPSILON", "standard_deviation", "update_statistics"]

STATISTICS_EPSILON = RunningStatistics.EPSILON


@compiled
def standard_deviation(squared_deviations: float, count: float) -> float:
    """Compute a standard deviation as ``RunningStatistics`` does."""
    variance = squared_deviations / (count - 1.0) if count > 1.0 else 1.0
    return float(np.sqrt(variance + STATISTICS_EPSILON))


@compiled
def update_statistics(
    elements: Floats | Doubles, mean: Doubles, squared_deviations: Doubles, count: Doubles
) -> None:
    """Take one element into running statistics by Welford's method."""
    count[0] += 1.0
    for i in range(mean.size):
        deviation = elements[i] - mean[i]
        mean[i] += deviation / count[0]
        squared_deviations[i] += deviation * (elements[i] - mean[i])
