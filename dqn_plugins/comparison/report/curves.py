"""Learning curves of several seeds on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from dqn_plugins.comparison.results import Cell, Evaluations, FloatArray, StudyResults
from dqn_plugins.comparison.statistics import interquartile_mean, iqm_band

__all__ = ["Curve", "Progress", "aggregate_curve", "needs_log_axis", "progress_of"]

Progress: TypeAlias = Literal["steps", "cpu_seconds"]

# Seeds of one budget end within a few CPU seconds of each other; that is no tail worth drawing.
SHORTEST_TAIL = 1.15
# From here on one linear axis would press the fastest algorithms into its first tenth.
LOG_AXIS_RATIO = 10.0


@dataclass(frozen=True)
class Curve:
    """
    Interquartile mean over seeds against steps or CPU seconds.

    :param progress: The grid between the latest first and the earliest last evaluation, which all
        seeds cover, shape (n_points,).
    :param middle: Interquartile mean there.
    :param low: Lower end of the 95 % bootstrap band there; None if there is one seed only.
    :param high: Its upper end; None likewise.
    :param n_seeds: Number of seeds.
    :param tail_progress: Where only some seeds have got, but at least half of them, beginning
        with the last point of ``progress``; empty if none got 15 % farther than the others.
    :param tail_middle: Interquartile mean over those seeds.
    """

    progress: FloatArray
    middle: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    n_seeds: int
    tail_progress: FloatArray
    tail_middle: FloatArray


def progress_of(evaluations: Evaluations, axis: Progress) -> FloatArray:
    """
    How far a run was at its evaluations.

    :param evaluations: Of the run.
    :param axis: In which measure.
    :return: One number per evaluation.
    """
    return evaluations.steps if axis == "steps" else evaluations.cpu_seconds


def aggregate_curve(cells: Sequence[Cell], axis: Progress, log: bool = False) -> Curve | None:
    """
    Bring the evaluations of all seeds to one grid and aggregate them there. Between two
    evaluations of a seed its return is interpolated linearly; beyond its last one nothing is
    assumed, so where seeds stop at different points the curve goes on with fewer of them, marked
    as such.

    :param cells: Finished cells of one algorithm on one environment. Cells without evaluations
        are left out.
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
    last = min(progress[-1] for progress, _ in runs)
    grid = _grid(runs, first, max(first, last))
    middle, low, high = iqm_band([np.interp(grid, *run) for run in runs])
    farthest = max(progress[-1] for progress, _ in runs)
    tail = _grid(runs, last, farthest) if farthest > SHORTEST_TAIL * last else np.zeros(0)
    reached = [[run for run in runs if run[0][-1] >= point] for point in tail]
    kept = [
        (point, interquartile_mean([np.interp(point, *run) for run in some]))
        for point, some in zip(tail, reached, strict=True)
        if point > grid[-1] and 2 * len(some) >= len(runs)
    ]
    if kept:
        kept.insert(0, (grid[-1], middle[-1]))
    return Curve(
        grid,
        middle,
        low,
        high,
        len(runs),
        np.array([point for point, _ in kept], dtype=np.float64),
        np.array([value for _, value in kept], dtype=np.float64),
    )


def _grid(runs: Sequence[tuple[FloatArray, FloatArray]], first: float, last: float) -> FloatArray:
    """
    Choose where curves are compared: where they were evaluated, if that is at the same points for
    all; else at as many points, each seed's first, second, ... evaluation averaged.

    :param runs: Progress and returns of each seed.
    :param first: First point.
    :param last: Last point, not below the first.
    :return: Increasing numbers from ``first`` to ``last``.
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
    """
    Find out whether algorithms differ tenfold in the CPU seconds of a run.

    :param study: The study.
    :param environment: Its id.
    :return: Whether CPU seconds need a logarithmic axis.
    """
    seconds = []
    for algorithm in study.algorithms:
        runs = [cell.evaluations for cell in study.finished(environment, algorithm)]
        ends = [run.cpu_seconds[-1] for run in runs if run is not None and run.steps.size]
        if ends:
            seconds.append(float(np.median(ends)))
    if not seconds or min(seconds) <= 0:
        return False
    return max(seconds) >= LOG_AXIS_RATIO * min(seconds)
