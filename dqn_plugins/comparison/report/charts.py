"""The charts of a comparison: curves for a paper, and ``<svg>`` for a page in its own colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dqn_plugins.comparison.report.curves import (
    Progress,
    aggregate_curve,
    needs_log_axis,
    progress_of,
)
from dqn_plugins.comparison.results import Cell
from dqn_plugins.comparison.statistics import Estimate, performance_profile
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

AXES: tuple[Progress, Progress] = ("steps", "cpu_seconds")


@dataclass(frozen=True)
class Colours:
    """
    What charts are drawn in.

    :param ink: Text.
    :param quiet: Axes, ticks, and text that matters less.
    :param grid: Grid lines.
    :param series: One per algorithm, in the study's order; repeated if there are more algorithms.
    """

    ink: str
    quiet: str
    grid: str
    series: tuple[str, ...]


# Told apart also by readers who see no red or no green (differences under simulated dichromacy);
# at least 3:1 against the background. The first five are the farthest apart.
COLOURS = {
    "light": Colours(
        "#1b1f24",
        "#59626d",
        "#e3e6ea",
        ("#0072b2", "#d55e00", "#009e73", "#8a2be2", "#47301a", "#d0719a", "#6b6b1e", "#5f6670"),
    ),
    "dark": Colours(
        "#e8eaed",
        "#a3acb8",
        "#2c323a",
        ("#56a8f0", "#ff8b4a", "#2fcb9d", "#a689ff", "#f2e36b", "#f0a3c3", "#d9f5b0", "#8b93a0"),
    ),
}

# Inside a page colours are the page's variables, which follow its reader's light or dark mode.
# matplotlib knows no variables, so each has a colour standing in for it while it draws.
_STAND_INS = Colours(
    "#fe0001", "#fe0002", "#fe0003", tuple(f"#fe01{index:02x}" for index in range(8))
)
_VARIABLES = {
    _STAND_INS.ink: "var(--ink)",
    _STAND_INS.quiet: "var(--quiet)",
    _STAND_INS.grid: "var(--grid)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(_STAND_INS.series)},
}

INCH = 72.0
PANEL_WIDTH, PANEL_HEIGHT = 400.0, 290.0
ROW_HEIGHT = 34.0
SMALL = 10.0
LONGEST_NAME = 18
PROFILE_POINTS = 101


@contextmanager
def _figure(name: str, colours: Colours, height: float, width: float) -> Iterator[Figure]:
    """Make a figure that keeps room for what stands beside its axes."""
    from matplotlib import style
    from matplotlib.figure import Figure

    quiet = ("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    with style.context(
        [
            Path(__file__).with_name("charts.mplstyle"),
            {
                "svg.hashsalt": name,  # the same file for the same study
                "text.color": colours.ink,
                "grid.color": colours.grid,
                **dict.fromkeys(quiet, colours.quiet),
            },
        ]
    ):
        yield Figure(figsize=(width / INCH, height / INCH))


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _series(colours: Colours, summary: Summary, algorithm: str) -> tuple[str, Any]:
    index = summary.study.algorithms.index(algorithm)
    n_colours = len(colours.series)
    # The second round of colours is dash-dotted, its dots hollow.
    return colours.series[index % n_colours], "-" if index < n_colours else (0, (4, 1.2, 1, 1.2))


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


def _draw_curves(
    axes: Axes, summary: Summary, environment: str, axis: Progress, colours: Colours
) -> bool:
    """
    Draw every seed as a thin line, over them each algorithm's interquartile mean with its band, and
    return whether thin lines leave the picture.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

    study = summary.study
    log = axis == "cpu_seconds" and needs_log_axis(study, environment)
    axes.grid(axis="y")
    if log:
        axes.set_xscale("log")
    means: list[Any] = []
    everything: list[Any] = [np.zeros(0)]
    for algorithm in reversed(study.algorithms):  # the first one on top
        colour, dashes = _series(colours, summary, algorithm)
        cells = study.cells_of(environment, algorithm)
        everything += [_draw_seed(axes, cell, axis, colour) for cell in cells]
        curve = aggregate_curve(study.finished(environment, algorithm), axis, log)
        if curve is not None:
            _draw_line(axes, curve, algorithm, colour, dashes)
            means.append(curve.middle)
            everything += [end for end in curve[1:] if end is not None]
    seen = np.concatenate(everything)
    if not seen.size:
        seen = np.zeros(1)
    low, high = _limits(np.concatenate(means or [seen]), seen)
    axes.set_ylim(low, high)
    axes.margins(x=0.02)
    _legend(axes, lambda y: float(y[-1]))
    seconds = "CPU seconds of training" + (" (log scale)" if log else "")
    axes.set_xlabel(seconds if axis == "cpu_seconds" else "environment steps")
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


def _draw_seed(axes: Axes, cell: Cell, axis: Progress, colour: str) -> Any:
    if cell.evaluations is None or not cell.evaluations.steps.size:
        return np.zeros(0)
    progress, returns = progress_of(cell.evaluations, axis), cell.evaluations.returns
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


def curves_svg(summary: Summary, environment: str, axis: Progress) -> tuple[str, bool]:
    """
    Draw the learning curves of one environment for a page.

    :param summary: Figures of the study.
    :param environment: Its id.
    :param axis: What is on the horizontal axis.
    :return: An ``<svg>`` element in the page's colours, and whether thin lines leave the picture.
    """
    name = f"curves-{axis}-{environment}"
    with _figure(name, _STAND_INS, PANEL_HEIGHT, PANEL_WIDTH) as figure:
        cut = _draw_curves(figure.subplots(), summary, environment, axis, _STAND_INS)
        measure = "environment steps" if axis == "steps" else "CPU seconds of training"
        description = (
            f"Learning curves on {environment}: greedy return against {measure}. The final "
            "figures are in the table of final returns."
        )
        return _inline(figure, name, description), cut


def curves_files(summary: Summary) -> dict[str, bytes]:
    """
    Draw the learning curves of all environments, one per row, against steps and CPU seconds.

    :param summary: Figures of the study.
    :return: Content of ``curves.png``, ``curves.svg`` and ``curves.pdf``, on white.
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
        figure.supxlabel(note, x=0.01, ha="left", color=colours.quiet, fontsize=SMALL)
        files = {}
        dates = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
        for suffix in ("png", "svg", "pdf"):
            content = io.BytesIO()
            metadata: Any = dates.get(suffix, {"Software": None})
            figure.savefig(content, format=suffix, dpi=2 * INCH, metadata=metadata)
            files[f"curves.{suffix}"] = content.getvalue()
    return files


# --- rows of estimates ---


@dataclass(frozen=True)
class _Row:
    algorithm: str
    estimate: Estimate | None
    points: Sequence[float]
    note: str


def _draw_rows(
    summary: Summary,
    rows: Sequence[_Row],
    name: str,
    title: str,
    label: str,
    written: Callable[[float | None], str] = number,
    limits: tuple[float, float] | None = None,
    line: float | None = None,
) -> str:
    """
    Draw estimates below each other, with their intervals as bars and their figures beside them. The
    name is unique in the page, the title for readers who do not see it.
    """
    from matplotlib.ticker import MaxNLocator

    with _figure(name, _STAND_INS, ROW_HEIGHT * len(rows) + 52, PANEL_WIDTH) as figure:
        axes = figure.subplots()
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        for index, row in enumerate(rows):
            _draw_row(axes, index, row, *_series(_STAND_INS, summary, row.algorithm), written)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [_shortened(row.algorithm) for row in rows])
        axes.tick_params(axis="y", length=0, pad=9, labelcolor=_STAND_INS.ink)
        axes.set_xlabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:,g}")
        if limits is not None:
            axes.set_xlim(limits)
        if line is not None:
            axes.axvline(line, color=_STAND_INS.quiet, linewidth=1.0, linestyle=(0, (3, 2)))
        described = "; ".join(
            f"{row.algorithm} {written(row.estimate.value)}, "
            f"interval {interval(row.estimate, written)}"
            for row in rows
            if row.estimate is not None
        )
        return _inline(figure, name, f"{title}: {described or 'nothing is finished'}.")


def _draw_row(
    axes: Axes,
    index: int,
    row: _Row,
    colour: str,
    dashes: Any,
    written: Callable[[float | None], str],
) -> None:
    heights = [index + 0.26] * len(row.points)
    style: dict[str, Any] = {"color": colour, "clip_on": False}
    axes.plot(row.points, heights, "o", markersize=3.6, alpha=0.6, markeredgewidth=0, **style)
    beside: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "center",
    }
    quiet: dict[str, Any] = {"color": _STAND_INS.quiet, "fontsize": SMALL}
    if row.estimate is None:
        axes.annotate(row.note, (1, index), xytext=(14, 0), **quiet, **beside)
        return
    value, low, high = row.estimate
    if low is not None and high is not None:
        bar: dict[str, Any] = {"linewidth": 3.2, "alpha": 0.55, "solid_capstyle": "round"}
        axes.plot([low, high], [index, index], **bar, **style)
    inside = colour if dashes == "-" else "none"
    axes.plot([value], [index], "o", markersize=8, markeredgewidth=2, mfc=inside, **style)
    axes.annotate(written(value), (1, index), xytext=(14, 5), fontweight="bold", **beside)
    text = row.note if low is None else interval(row.estimate, written)
    axes.annotate(text, (1, index), xytext=(14, -8), **quiet, **beside)


def final_returns_svg(summary: Summary, environment: str) -> str:
    """Draw the final return of each algorithm on one environment, the highest first."""
    rows = [
        _Row(
            row.algorithm,
            row.final,
            row.returns,
            "one seed: no interval" if row.finished else "no finished run",
        )
        for row in summary.ranked(environment)
    ]
    title = f"Final returns on {environment}"
    return _draw_rows(summary, rows, f"final-{environment}", title, "greedy return after training")


def _note(estimate: Estimate | None) -> str:
    return "one seed" if estimate else "not finished"


def improvement_svg(summary: Summary, environment: str | None) -> str:
    """Draw the probability of improvement over the reference, on all environments for None."""
    reference = summary.study.reference
    source = summary.overall if environment is None else summary.of(environment)
    rows = [
        _Row(each.algorithm, each.improvement, (), _note(each.improvement))
        for each in source
        if each.algorithm != reference
    ]
    place = environment or "all environments"
    return _draw_rows(
        summary,
        rows,
        f"improvement-{place}",
        f"Probability of improvement over {reference} on {place}",
        f"probability of ending above {_shortened(reference)}",
        written=share,
        limits=(0.0, 1.0),
        line=0.5,
    )


def normalised_svg(summary: Summary) -> str:
    """Draw the interquartile mean of normalised scores over all environments."""
    rows = [
        _Row(
            each.algorithm,
            each.iqm,
            [score for scores in each.scores or [] for score in scores],
            _note(each.iqm),
        )
        for each in sorted(summary.overall, key=lambda each: -(each.iqm or (-np.inf,))[0])
    ]
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
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    # Two charts of one page must not share the names of their parts.
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    label = html.escape(description, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
