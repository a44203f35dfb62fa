"""Interquartile mean, bootstrap intervals and probability of improvement, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = [
    "Estimate",
    "interquartile_mean",
    "iqm_band",
    "iqm_difference",
    "iqm_estimate",
    "probability_of_improvement",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE_LEVEL = 0.95
RESAMPLES = 10_000
# A band has an interval at each of a hundred points: fewer resamples do.
BAND_RESAMPLES = 2_000
# The same cells must give the same digits, in whatever order intervals are asked for.
BOOTSTRAP_SEED = 0


class Estimate(NamedTuple):
    """
    A number and how far it can be trusted.

    :param value: The point estimate.
    :param low: Lower end of the 95 % interval; None where a single seed allows none.
    :param high: Its upper end; None likewise.
    """

    value: float
    low: float | None
    high: float | None


def interquartile_mean(scores: npt.ArrayLike, axis: int = 0) -> Any:
    """
    The mean of the middle half: a quarter of the scores, rounded down, is left out at either end.
    Outliers weigh less than in a mean, and it needs fewer seeds than a median (Agarwal et al.
    2021, arXiv 2108.13264). With fewer than four scores it is the mean.

    :param scores: At least one finite number.
    :param axis: Along which to average.
    :return: The mean, a float or an array without that axis.
    """
    return stats.trim_mean(np.asarray(scores, dtype=np.float64), 0.25, axis=axis)


def _interval(
    samples: Sequence[FloatArray],
    statistic: Callable[..., Any],
    resamples: int = RESAMPLES,
) -> tuple[Any, Any] | None:
    # Each sample is a stratum: SciPy draws from each with replacement, as many as it holds.
    if any(len(sample) < 2 for sample in samples):
        return None
    low, high = stats.bootstrap(
        samples,
        statistic,
        vectorized=True,
        axis=0,
        n_resamples=resamples,
        batch=1_000,
        confidence_level=CONFIDENCE_LEVEL,
        method="percentile",
        random_state=np.random.default_rng(BOOTSTRAP_SEED),
    ).confidence_interval
    return low, high


def _estimate(samples: Sequence[FloatArray], statistic: Callable[..., Any]) -> Estimate:
    value = float(statistic(*samples, axis=0))
    interval = _interval(samples, statistic)
    if interval is None:
        return Estimate(value, None, None)
    return Estimate(value, float(interval[0]), float(interval[1]))


def _as_samples(samples: Sequence[npt.ArrayLike]) -> list[FloatArray]:
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    if not arrays or any(array.ndim != 1 or array.size == 0 for array in arrays):
        raise ValueError(
            f"scores: received samples of shapes {[array.shape for array in arrays]}, each must be "
            "a list of at least one number. Fix: leave out what has no scores."
        )
    return arrays


def iqm_estimate(scores: npt.ArrayLike) -> Estimate:
    """
    The interquartile mean over seeds with its percentile bootstrap interval.

    :param scores: One number per seed, shape (n_seeds,).
    :return: The estimate; without an interval if there is one seed only.
    :raises ValueError: If there is no score.

    Example::

        from dqn_plugins.comparison.statistics import iqm_estimate

        value, low, high = iqm_estimate([200.0, 210.0, 190.0, 230.0, -40.0])
    """
    return _estimate(_as_samples([scores]), interquartile_mean)


def iqm_band(curves: npt.ArrayLike) -> tuple[FloatArray, FloatArray | None, FloatArray | None]:
    """
    Point by point, the interquartile mean over seeds with its bootstrap interval. Whole curves
    are drawn, so that a seed counts as often at one point as at another.

    :param curves: One row per seed, shape (n_seeds, n_points).
    :return: Means, lower and upper ends, each of shape (n_points,); the ends are None if there is
        one seed only.
    """
    rows = np.asarray(curves, dtype=np.float64)
    middle = np.asarray(interquartile_mean(rows), dtype=np.float64)
    interval = _interval([rows], interquartile_mean, BAND_RESAMPLES)
    if interval is None:
        return middle, None, None
    return middle, np.asarray(interval[0]), np.asarray(interval[1])


def iqm_difference(scores: npt.ArrayLike, others: npt.ArrayLike) -> Estimate:
    """
    How far one interquartile mean lies above another, with its bootstrap interval.

    :param scores: One number per seed of the one, shape (n_seeds,).
    :param others: One number per seed of the other, shape (n_other_seeds,).
    :return: The estimate; without an interval if either has one seed only.
    :raises ValueError: If either has no score.
    """

    def difference(first: Any, second: Any, axis: int) -> Any:
        return interquartile_mean(first, axis) - interquartile_mean(second, axis)

    return _estimate(_as_samples([scores, others]), difference)


def _share_of_wins(first: Any, second: Any, axis: int) -> Any:
    mine = np.expand_dims(np.moveaxis(np.asarray(first), axis, -1), -1)
    theirs = np.expand_dims(np.moveaxis(np.asarray(second), axis, -1), -2)
    return ((mine > theirs) + 0.5 * (mine == theirs)).mean(axis=(-2, -1))


def probability_of_improvement(
    scores: Sequence[npt.ArrayLike], others: Sequence[npt.ArrayLike]
) -> Estimate:
    """
    The probability that a run of one algorithm ends above a run of another on the same
    environment: the share of all pairs of seeds, ties counting half, averaged over environments.
    The bootstrap is stratified: each environment's seeds are drawn among themselves.

    :param scores: Per environment, one number per seed of the one.
    :param others: Per environment, in the same order, one number per seed of the other.
    :return: The estimate, from 0 to 1; 0.5 where neither is ahead. Without an interval if some
        environment has one seed only.
    :raises ValueError: If the environments differ in number, or one has no score.

    Example::

        from dqn_plugins.comparison.statistics import probability_of_improvement

        assert probability_of_improvement([[3.0, 5.0]], [[1.0, 4.0]]).value == 0.75
    """
    if len(scores) != len(others):
        raise ValueError(
            f"scores: received {len(scores)} environments against {len(others)}, they must be the "
            "same ones. Fix: leave out the environments that only one of the two has."
        )
    environments = len(scores)

    def averaged(*samples: Any, axis: int) -> Any:
        pairs = zip(samples[:environments], samples[environments:], strict=True)
        return np.mean([_share_of_wins(mine, theirs, axis) for mine, theirs in pairs], axis=0)

    return _estimate(_as_samples([*scores, *others]), averaged)
