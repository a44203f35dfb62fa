"""The charts of a comparison: curves for a paper, and ``<svg>`` for a page in its own colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dqn_plugins.comparison.results import Cell, FloatArray
from dqn_plugins.comparison.statistics import Estimate, iqm_band, performance_profile
from dqn_plugins.comparison.summary import Summary, interval, number, share

if TYPE_CHECKING:  # half a second that a comparison need not wait for before it begins
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "curves_files",
    "curves_svg",
    "final_returns_svg",
    "improvement_svg",
    "normalised_svg",
    "profiles_svg",
]

# What curves are drawn against: names of arrays of the evaluations, and what they are.
AXES = {"steps": "environment steps", "cpu_seconds": "CPU seconds of training"}
# From here on one linear axis would press the fastest algorithms into its first tenth.
LOG_AXIS_RATIO = 10.0


def _named(ink: str, quiet: str, grid: str, *series: str) -> dict[str, str]:
    """Colours of text, of what matters less, of grid lines, and of algorithms, in order."""
    named = {f"series-{index}": colour for index, colour in enumerate(series)}
    return {"ink": ink, "quiet": quiet, "grid": grid, **named}


# Told apart also by readers who see no red or no green (differences under simulated dichromacy);
# at least 3:1 against the background. The first five are the farthest apart.
_LIGHT = ["#0072b2", "#d55e00", "#009e73", "#8a2be2", "#47301a", "#d0719a", "#6b6b1e", "#5f6670"]
_DARK = ["#56a8f0", "#ff8b4a", "#2fcb9d", "#a689ff", "#f2e36b", "#f0a3c3", "#d9f5b0", "#8b93a0"]
N_COLOURS = len(_LIGHT)
COLOURS = {
    "light": _named("#1b1f24", "#59626d", "#e3e6ea", *_LIGHT),
    "dark": _named("#e8eaed", "#a3acb8", "#2c323a", *_DARK),
}
"""What charts are drawn in, by name."""
# Inside a page colours are the page's variables, which follow its reader's light or dark mode.
# matplotlib knows no variables, so each has a colour standing in for it while it draws.
_STAND_INS = _named(
    "#fe0001", "#fe0002", "#fe0003", *(f"#fe01{index:02x}" for index in range(N_COLOURS))
)

INCH = 72.0
PANEL_WIDTH, PANEL_HEIGHT = 400.0, 290.0
ROW_HEIGHT = 34.0
SMALL = 10.0
LONGEST_NAME = 18
PROFILE_POINTS = 101


@contextmanager
def _figure(name: str, colours: Mapping[str, str], height: float, width: float) -> Iterator[Figure]:
    """Make a figure that keeps room for what stands beside its axes."""
    from matplotlib import style
    from matplotlib.figure import Figure

    quiet = ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    with style.context(
        [
            Path(__file__).with_name("charts.mplstyle"),
            {
                "svg.hashsalt": name,  # the same file for the same study
                "text.color": colours["ink"],
                "grid.color": colours["grid"],
                **dict.fromkeys(quiet, colours["quiet"]),
            },
        ]
    ):
        yield Figure(figsize=(width / INCH, height / INCH))


def _shortened(name: str) -> str:
    # In the middle: variants of one algorithm begin alike.
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _series(colours: Mapping[str, str], summary: Summary, algorithm: str) -> tuple[str, Any]:
    rounds, index = divmod(summary.study.algorithms.index(algorithm), N_COLOURS)
    # The second round of colours is dash-dotted, its dots hollow.
    return colours[f"series-{index}"], (0, (4, 1.2, 1, 1.2)) if rounds else "-"


def _legend(axes: Axes, rank: Callable[[Any], float]) -> None:
    """Name the lines beside the chart, those that rank highest by their y first."""
    named: Any = list(zip(*axes.get_legend_handles_labels(), strict=True))
    if named:
        lines, names = zip(*sorted(named, key=lambda pair: -rank(pair[0].get_ydata())), strict=True)
        beside: Any = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        axes.legend(lines, [_shortened(name) for name in names], **beside)


def _title_axis(axes: Axes, text: str) -> None:
    # Above the axis rather than along it: read without turning the head, whatever the ticks' width.
    axes.set_title(text, loc="left", x=-0.01)


# --- learning curves ---


def aggregate_curve(
    cells: Sequence[Cell], axis: str, log: bool = False
) -> tuple[FloatArray, FloatArray, FloatArray | None, FloatArray | None] | None:
    """
    Bring the evaluations of all seeds to one grid and aggregate them there. Between two
    evaluations of a seed its return is interpolated linearly; beyond its last one nothing is
    assumed, so the curve ends where the first seed ends.

    :param cells: Finished cells of one algorithm on one environment.
    :param axis: What the curve is drawn against, a key of :data:`AXES`.
    :param log: Whether the grid is even on a logarithmic axis.
    :return: The grid, shape (n_points,), and there the interquartile mean and the ends of its 95 %
        bootstrap band, which are None if there is one seed only; None if nothing was evaluated.
    """
    runs = []
    for evaluations in (cell.evaluations for cell in cells if cell.evaluations is not None):
        progress = getattr(evaluations, axis)
        shown = progress > (0.0 if log else -np.inf)
        if shown.any():
            runs.append((progress[shown], evaluations.returns[shown]))
    if not runs:
        return None
    first = max(progress[0] for progress, _ in runs)
    grid = _grid(runs, first, max(first, min(progress[-1] for progress, _ in runs)))
    return grid, *iqm_band([np.interp(grid, *run) for run in runs])


def _grid(runs: Sequence[tuple[FloatArray, FloatArray]], first: float, last: float) -> FloatArray:
    # Where they were evaluated, if that is at the same points for all; else at as many points, each
    # seed's first, second, ... evaluation averaged.
    n_points = max(len(progress) for progress, _ in runs)
    points = np.unique(np.concatenate([progress for progress, _ in runs]))
    if len(points) > n_points:
        places = np.linspace(0, 1, n_points)
        resampled = [
            np.interp(places, np.linspace(0, 1, len(progress)), progress) for progress, _ in runs
        ]
        points = np.mean(resampled, axis=0)
    return np.union1d(points[(points > first) & (points < last)], [first, last])


def needs_log_axis(summary: Summary, environment: str) -> bool:
    """Find out whether algorithms differ tenfold in the CPU seconds of a run."""
    runs = (
        [cell.evaluations.cpu_seconds[-1] for cell in row.finished if cell.evaluations is not None]
        for row in summary.of(environment)
    )
    seconds = [float(np.median(ends)) for ends in runs if ends]
    return bool(seconds) and max(seconds) >= LOG_AXIS_RATIO * min(seconds) > 0


def _draw_curves(
    axes: Axes, summary: Summary, environment: str, axis: str, colours: Mapping[str, str]
) -> bool:
    """
    Draw every seed as a thin line, over them each algorithm's interquartile mean with its band, and
    return whether thin lines leave the picture.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

    log = axis == "cpu_seconds" and needs_log_axis(summary, environment)
    axes.grid(axis="y")
    if log:
        axes.set_xscale("log")
    means: list[Any] = []
    everything: list[Any] = [np.zeros(0)]
    for row in reversed(summary.of(environment)):  # the first one on top
        colour, dashes = _series(colours, summary, row.algorithm)
        everything += [_draw_seed(axes, cell, axis, colour) for cell in row.cells]
        curve = aggregate_curve(row.finished, axis, log)
        if curve is not None:
            _draw_line(axes, curve, row.algorithm, colour, dashes)
            means.append(curve[1])
            everything += [end for end in curve[1:] if end is not None]
    seen = np.concatenate(everything)
    seen = seen if seen.size else np.zeros(1)
    low, high = _limits(np.concatenate(means or [seen]), seen)
    axes.set_ylim(low, high)
    axes.margins(x=0.02)
    _legend(axes, lambda y: float(y[-1]))
    axes.set_xlabel(AXES[axis] + (" (log scale)" if log else ""))
    _title_axis(axes, "greedy return")
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if axis == "steps" else "{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if log:
        left, right = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if right < 300 * left else (1.0,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return bool(seen.min() < low or seen.max() > high)


def _draw_line(axes: Axes, line: Any, label: str, colour: str, dashes: Any) -> None:
    """Draw a line of x, y, and the lower and upper ends of its band, which may be None."""
    x, middle, low, high = line
    marker = "o" if len(x) == 1 else None
    style = {"linestyle": dashes, "marker": marker, "label": label}
    axes.plot(x, middle, color=colour, linewidth=2.2, **style)
    if low is not None:
        axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0)


def _draw_seed(axes: Axes, cell: Cell, axis: str, colour: str) -> Any:
    if cell.evaluations is None:
        return np.zeros(0)
    progress, returns = getattr(cell.evaluations, axis), cell.evaluations.returns
    finished = cell.status == "finished"
    axes.plot(
        progress,
        returns,
        color=colour,
        linewidth=0.8,
        alpha=0.32 if finished else 0.75,
        linestyle="-" if finished else (0, (2, 2)),
        marker="." if len(progress) == 1 else None,
    )
    if not finished:
        axes.plot(progress[-1:], returns[-1:], "x", color=colour, markersize=7, markeredgewidth=1.6)
    return returns


def _limits(means: Any, everything: Any) -> tuple[float, float]:
    # A seed that once falls to -5000 must not flatten what everybody else does.
    low = min(float(means.min()), float(np.quantile(everything, 0.03)))
    high = max(float(means.max()), float(np.quantile(everything, 0.97)))
    spread = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
    low, high = low - 0.05 * spread, high + 0.05 * spread
    if everything.min() > low - 0.25 * spread:
        low = min(low, float(everything.min()) - 0.03 * spread)
    if everything.max() < high + 0.25 * spread:
        high = max(high, float(everything.max()) + 0.03 * spread)
    return low, high


def curves_svg(summary: Summary, environment: str, axis: str) -> tuple[str, bool]:
    """
    Draw the learning curves of one environment against a key of :data:`AXES`: an ``<svg>`` in the
    page's colours, and whether thin lines leave the picture.
    """
    name = f"curves-{axis}-{environment}"
    with _figure(name, _STAND_INS, PANEL_HEIGHT, PANEL_WIDTH) as figure:
        cut = _draw_curves(figure.subplots(), summary, environment, axis, _STAND_INS)
        description = (
            f"Learning curves on {environment}: greedy return against {AXES[axis]}. The final "
            "figures are in the table of final returns."
        )
        return _inline(figure, name, description), cut


def curves_files(summary: Summary) -> dict[str, bytes]:
    """
    Draw the learning curves of all environments, one per row, against steps and CPU seconds, on
    white: the content of ``curves.png``, ``curves.svg`` and ``curves.pdf``.
    """
    environments = summary.study.environments
    colours = COLOURS["light"]
    height = (PANEL_HEIGHT + 50) * len(environments) + 30
    with _figure("curves", colours, height, 2 * (PANEL_WIDTH + 40)) as figure:
        figure.set_facecolor("white")
        engine: Any = figure.get_layout_engine()
        engine.set(w_pad=0.12, h_pad=0.12)
        rows = figure.subfigures(len(environments), 1, squeeze=False)[:, 0]
        for row, environment in zip(rows, environments, strict=True):
            row.suptitle(environment, x=0.01, ha="left", fontsize=13, fontweight="bold")
            for axes, axis in zip(row.subplots(1, 2), AXES, strict=True):
                _draw_curves(axes, summary, environment, axis, colours)
        seeds = len(summary.study.seeds)
        note = (
            f"Bold: interquartile mean over {seeds} seeds, with 95 % bootstrap band. Thin: seeds."
            if seeds > 1
            else "One seed each: no interval."
        )
        if summary.study.troubled:
            note += f" {len(summary.study.troubled)} runs are not finished (dashed, ×)."
        figure.supxlabel(note, x=0.01, ha="left", color=colours["quiet"], fontsize=SMALL)
        files = {}
        dates = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
        for suffix in ("png", "svg", "pdf"):
            content = io.BytesIO()
            metadata: Any = dates.get(suffix, {"Software": None})
            figure.savefig(content, format=suffix, dpi=2 * INCH, metadata=metadata)
            files[f"curves.{suffix}"] = content.getvalue()
    return files


# --- rows of estimates ---


def _draw_rows(
    summary: Summary,
    rows: Sequence[tuple[str, Estimate | None, Sequence[float]]],
    name: str,
    title: str,
    label: str,
    written: Callable[[float | None], str] = number,
    limits: tuple[float, float] | None = None,
    line: float | None = None,
    notes: tuple[str, str] = ("not finished", "one seed"),
) -> str:
    """
    Draw estimates of algorithms below each other, with their seeds as points above them, intervals
    as bars and figures beside them. The name is unique in the page, the title for readers who do
    not see it, the notes are for what has no estimate, and no interval.
    """
    from matplotlib.ticker import MaxNLocator

    with _figure(name, _STAND_INS, ROW_HEIGHT * len(rows) + 52, PANEL_WIDTH) as figure:
        axes = figure.subplots()
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        for index, (algorithm, estimate, points) in enumerate(rows):
            colour, dashes = _series(_STAND_INS, summary, algorithm)
            axes.plot(
                points, [index + 0.26] * len(points), "o", color=colour,
                markersize=3.6, alpha=0.6, markeredgewidth=0, clip_on=False,
            )  # fmt: skip
            _draw_estimate(axes, index, estimate, colour, dashes == "-", written, notes)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [_shortened(row[0]) for row in rows])
        axes.tick_params(axis="y", length=0, pad=9, labelcolor=_STAND_INS["ink"])
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,g}")
        if limits is not None:
            axes.set_xlim(limits)
        if line is not None:
            axes.axvline(line, color=_STAND_INS["quiet"], linewidth=1.0, linestyle=(0, (3, 2)))
        described = "; ".join(
            f"{algorithm} {written(estimate.value)}, interval {interval(estimate, written)}"
            for algorithm, estimate, _ in rows
            if estimate is not None
        )
        return _inline(figure, name, f"{title}: {described or 'nothing is finished'}.")


def _draw_estimate(
    axes: Axes,
    index: int,
    estimate: Estimate | None,
    colour: str,
    filled: bool,
    written: Callable[[float | None], str],
    notes: tuple[str, str],
) -> None:
    def write(text: str, height: float, **style: Any) -> None:
        beside: Any = ("axes fraction", "data")
        place: Any = {"xycoords": beside, "textcoords": "offset points", "va": "center"}
        axes.annotate(text, (1, index), xytext=(14, height), **place, **style)

    style: dict[str, Any] = {"color": colour, "clip_on": False}
    quiet: dict[str, Any] = {"color": _STAND_INS["quiet"], "fontsize": SMALL}
    if estimate is None:
        write(notes[0], 0, **quiet)
        return
    value, low, high = estimate
    if low is not None and high is not None:
        bar: dict[str, Any] = {"linewidth": 3.2, "alpha": 0.55, "solid_capstyle": "round"}
        axes.plot([low, high], [index, index], **bar, **style)
    inside = colour if filled else "none"
    axes.plot([value], [index], "o", markersize=8, markeredgewidth=2, mfc=inside, **style)
    write(written(value), 5, fontweight="bold")
    write(notes[1] if low is None else interval(estimate, written), -8, **quiet)


def final_returns_svg(summary: Summary, environment: str) -> str:
    """Draw the final return of each algorithm on one environment, the highest first."""
    rows = [(row.algorithm, row.final, row.returns) for row in summary.ranked(environment)]
    notes = ("no finished run", "one seed: no interval")
    title, label = f"Final returns on {environment}", "greedy return after training"
    return _draw_rows(summary, rows, f"final-{environment}", title, label, notes=notes)


def improvement_svg(summary: Summary, environment: str | None) -> str:
    """Draw the probability of improvement over the reference, on all environments for None."""
    reference = summary.study.reference
    source = summary.overall if environment is None else summary.of(environment)
    rows = [(row.algorithm, row.improvement, ()) for row in source if row.algorithm != reference]
    place = environment or "all environments"
    title = f"Probability of improvement over {reference} on {place}"
    label = f"probability of ending above {_shortened(reference)}"
    name = f"improvement-{place}"
    return _draw_rows(summary, rows, name, title, label, share, limits=(0.0, 1.0), line=0.5)


def normalised_svg(summary: Summary) -> str:
    """Draw the interquartile mean of normalised scores over all environments."""
    ranked = sorted(summary.overall, key=lambda each: -(each.iqm or (-np.inf,))[0])
    rows = [(each.algorithm, each.iqm, [*chain(*each.scores or [])]) for each in ranked]
    label = f"normalised score: random 0, {_shortened(summary.study.reference)} 1"
    title = "Normalised scores over all environments"
    return _draw_rows(summary, rows, "normalised", title, label, share, line=1.0)


def profiles_svg(summary: Summary) -> str:
    """Draw performance profiles: the share of runs above each normalised score."""
    shown = [each for each in summary.overall if each.scores]
    everything = np.concatenate([score for each in shown for score in each.scores or []])
    low, high = np.quantile(everything, [0.02, 0.98])
    thresholds = np.linspace(min(low, 0.0), max(high, 1.0), PROFILE_POINTS)
    with _figure("profiles", _STAND_INS, PANEL_HEIGHT, PANEL_WIDTH) as figure:
        axes = figure.subplots()
        axes.grid(axis="y")
        for each in shown:
            colour, dashes = _series(_STAND_INS, summary, each.algorithm)
            profile = performance_profile(each.scores or [], thresholds)
            _draw_line(axes, (thresholds, *profile), each.algorithm, colour, dashes)
        axes.set_ylim(-0.02, 1.02)
        axes.margins(x=0.02)
        _legend(axes, np.mean)
        axes.set_xlabel("normalised score")
        axes.xaxis.set_major_formatter("{x:,g}")
        _title_axis(axes, "share of runs above")
        title = "Performance profiles: the share of runs that score above each normalised score."
        return _inline(figure, "profiles", title)


# --- inside a page ---


def _inline(figure: Figure, name: str, description: str) -> str:
    """Turn a figure in stand-in colours into an ``<svg>`` that takes the width it is given."""
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    for size in ("width", "height"):
        svg = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", svg)
    # Two charts of one page must not share the names of their parts.
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for variable, colour in _STAND_INS.items():
        svg = svg.replace(colour, f"var(--{variable})")
    label = html.escape(description, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
