"""Learning curves of several seeds on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from dqn_plugins.comparison.results import Cell, Evaluations, FloatArray, StudyResults
from dqn_plugins.comparison.statistics import iqm_band

__all__ = ["Curve", "Progress", "aggregate_curve", "needs_log_axis", "progress_of"]

Progress: TypeAlias = Literal["steps", "cpu_seconds"]

# From here on one linear axis would press the fastest algorithms into its first tenth.
LOG_AXIS_RATIO = 10.0


class Curve(NamedTuple):
    """
    Interquartile mean over seeds against steps or CPU seconds.

    :param progress: The grid between the latest first and the earliest last evaluation, which all
        seeds cover, shape (n_points,).
    :param middle: Interquartile mean there.
    :param low: Lower end of the 95 % bootstrap band there; None if there is one seed only.
    :param high: Its upper end; None likewise.
    """

    progress: FloatArray
    middle: FloatArray
    low: FloatArray | None
    high: FloatArray | None


def progress_of(evaluations: Evaluations, axis: Progress) -> FloatArray:
    """Return how far a run was at its evaluations, in steps or CPU seconds."""
    return evaluations.steps if axis == "steps" else evaluations.cpu_seconds


def aggregate_curve(cells: Sequence[Cell], axis: Progress, log: bool = False) -> Curve | None:
    """
    Bring the evaluations of all seeds to one grid and aggregate them there. Between two
    evaluations of a seed its return is interpolated linearly; beyond its last one nothing is
    assumed, so the curve ends where the first seed ends.

    :param cells: Finished cells of one algorithm on one environment.
    :param axis: What the curve is drawn against.
    :param log: Whether the grid is even on a logarithmic axis.
    :return: The curve; None if nothing was evaluated.
    """
    runs = []
    for cell in cells:
        if cell.evaluations is not None and cell.evaluations.steps.size:
            progress = progress_of(cell.evaluations, axis)
            shown = progress > 0 if log else np.ones(progress.shape, dtype=bool)
            if shown.any():
                runs.append((progress[shown], cell.evaluations.returns[shown]))
    if not runs:
        return None
    first = max(progress[0] for progress, _ in runs)
    grid = _grid(runs, first, max(first, min(progress[-1] for progress, _ in runs)))
    return Curve(grid, *iqm_band([np.interp(grid, *run) for run in runs]))


def _grid(runs: Sequence[tuple[FloatArray, FloatArray]], first: float, last: float) -> FloatArray:
    """
    Choose where curves are compared: where they were evaluated, if that is at the same points for
    all; else at as many points, each seed's first, second, ... evaluation averaged.
    """
    n_points = max(len(progress) for progress, _ in runs)
    points = np.unique(np.concatenate([progress for progress, _ in runs]))
    if len(points) > n_points:
        places = np.linspace(0, 1, n_points)
        resampled = [
            np.interp(places, np.linspace(0, 1, len(progress)), progress) for progress, _ in runs
        ]
        points = np.mean(resampled, axis=0)
    return np.union1d(points[(points > first) & (points < last)], [first, last])


def needs_log_axis(study: StudyResults, environment: str) -> bool:
    """Find out whether algorithms differ tenfold in the CPU seconds of a run."""
    seconds = []
    for algorithm in study.algorithms:
        runs = [cell.evaluations for cell in study.finished(environment, algorithm)]
        ends = [run.cpu_seconds[-1] for run in runs if run is not None and run.steps.size]
        if ends:
            seconds.append(float(np.median(ends)))
    return bool(seconds) and max(seconds) >= LOG_AXIS_RATIO * min(seconds) > 0
