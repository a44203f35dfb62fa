"""The charts of a comparison: curves for a paper, and the same inside a page in its own colours."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dqn_plugins.comparison.report.curves import (
    Curve,
    Progress,
    aggregate_curve,
    needs_log_axis,
    progress_of,
)
from dqn_plugins.comparison.results import Cell
from dqn_plugins.comparison.statistics import Estimate
from dqn_plugins.comparison.summary import AlgorithmSummary, Summary, interval, number
from dqn_plugins.wrappers.drawing.lettering import signed

if TYPE_CHECKING:  # half a second that a comparison need not wait for before it begins
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "curves_files", "curves_svg", "final_returns_svg", "improvement_svg"]

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
        (
            "#0072b2",
            "#d55e00",
            "#009e73",
            "#8a2be2",
            "#47301a",
            "#d0719a",
            "#6b6b1e",
            "#5f6670",
        ),
    ),
    "dark": Colours(
        "#e8eaed",
        "#a3acb8",
        "#2c323a",
        (
            "#56a8f0",
            "#ff8b4a",
            "#2fcb9d",
            "#a689ff",
            "#f2e36b",
            "#f0a3c3",
            "#d9f5b0",
            "#8b93a0",
        ),
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
FONT_SIZE = 12.0
# Space for names beside a chart: about this much per character.
CHARACTER_WIDTH = 6.9
LONGEST_NAME = 18


@contextmanager
def _style(name: str) -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": FONT_SIZE,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.unicode_minus": True,
            "svg.fonttype": "none",
            "svg.hashsalt": name,  # the same file for the same study
            "path.simplify": True,
        }
    ):
        yield


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _series(colours: Colours, summary: Summary, algorithm: str) -> tuple[str, Any]:
    index = summary.study.algorithms.index(algorithm)
    n_colours = len(colours.series)
    # The second round of colours is dash-dotted.
    return colours.series[index % n_colours], "-" if index < n_colours else (0, (7, 2, 1, 2))


def _dress(axes: Axes, colours: Colours) -> None:
    axes.set_facecolor("none")
    axes.tick_params(colors=colours.quiet, labelcolor=colours.quiet, length=3, width=0.8)
    for spine in axes.spines.values():
        spine.set_color(colours.quiet)
        spine.set_linewidth(0.8)
    axes.set_axisbelow(True)


# --- learning curves ---


def draw_curves(
    axes: Axes, summary: Summary, environment: str, axis: Progress, colours: Colours
) -> bool:
    """
    Draw return against steps or CPU seconds: every seed as a thin line, over them each
    algorithm's interquartile mean with its 95 % bootstrap band.

    :param axes: To draw in.
    :param summary: Figures of the study.
    :param environment: Its id.
    :param axis: What is on the horizontal axis.
    :param colours: To draw in.
    :return: Whether thin lines leave the picture.
    """
    study = summary.study
    log = axis == "cpu_seconds" and needs_log_axis(study, environment)
    _dress(axes, colours)
    axes.grid(axis="y", color=colours.grid, linewidth=0.8)
    if log:
        axes.set_xscale("log")
    ends = []
    inside: list[Any] = []
    everything: list[Any] = []
    for algorithm in reversed(study.algorithms):  # the first one on top
        colour, dashes = _series(colours, summary, algorithm)
        cells = study.cells_of(environment, algorithm)
        everything += [_draw_seed(axes, cell, axis, colour) for cell in cells]
        curve = aggregate_curve(study.finished(environment, algorithm), axis, log)
        if curve is None:
            continue
        _draw_curve(axes, curve, colour, dashes)
        inside += [curve.middle, curve.tail_middle]
        everything += [band for band in (curve.low, curve.high) if band is not None]
        last = curve.tail_middle if curve.tail_middle.size else curve.middle
        ends.append((float(last[-1]), algorithm, colour))
    seen = np.concatenate([*inside, *everything, np.zeros(0)])
    if not seen.size:
        seen = np.zeros(1)
    low, high = _limits(np.concatenate(inside) if inside else seen, seen)
    axes.set_ylim(low, high)
    axes.margins(x=0.02)
    _write_names(axes, ends, colours)
    axes.set_xlabel(
        ("CPU seconds of training (log scale)" if log else "CPU seconds of training")
        if axis == "cpu_seconds"
        else "environment steps",
        color=colours.quiet,
    )
    # Above the axis rather than along it: read without turning the head, whatever the ticks' width.
    axes.annotate(
        "greedy return",
        (0, 1),
        xycoords="axes fraction",
        xytext=(-4, 8),
        textcoords="offset points",
        color=colours.quiet,
    )
    _write_ticks(axes, log)
    return bool(seen.min() < low or seen.max() > high)


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


def _draw_curve(axes: Axes, curve: Curve, colour: str, dashes: Any) -> None:
    if curve.low is not None and curve.high is not None:
        axes.fill_between(
            curve.progress, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0
        )
    marker = "o" if len(curve.progress) == 1 else None
    axes.plot(
        curve.progress, curve.middle, color=colour, linewidth=2.2, linestyle=dashes, marker=marker
    )
    if curve.tail_progress.size:
        axes.plot(
            curve.tail_progress, curve.tail_middle, color=colour, linewidth=1.6, linestyle=":"
        )


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


def _write_names(axes: Axes, ends: Sequence[tuple[float, str, str]], colours: Colours) -> None:
    """
    Write the algorithms' names beside the ends of their curves, moved apart where they collide.

    :param axes: With its limits set.
    :param ends: Last value, name and colour of each curve.
    :param colours: Of the text.
    """
    low, high = axes.get_ylim()
    height = axes.get_window_extent().height * INCH / axes.figure.dpi
    gap = 1.35 * FONT_SIZE / height
    ordered = sorted(ends)
    places: list[float] = []
    for value, _, _ in ordered:
        place = (value - low) / (high - low)
        places.append(max(place, places[-1] + gap) if places else place)
    ceiling = 1.0
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], ceiling)
        ceiling = places[index] - gap
    for (_, name, colour), place in zip(ordered, places, strict=True):
        axes.plot(
            [1.02, 1.05],
            [place, place],
            color=colour,
            linewidth=2.6,
            transform=axes.transAxes,
            clip_on=False,
            solid_capstyle="round",
        )
        axes.text(
            1.07,
            place,
            _shortened(name),
            transform=axes.transAxes,
            va="center",
            color=colours.ink,
            fontsize=FONT_SIZE - 1,
        )


def _write_ticks(axes: Axes, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    def short(value: float, _: int | None = None) -> str:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= size:
                return f"{value / size:g}{letter}"
        return f"{value:g}"

    def plain(value: float, _: int | None = None) -> str:
        return f"{value:,g}".replace("-", "\N{MINUS SIGN}")

    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.yaxis.set_major_formatter(FuncFormatter(plain))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if not log:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    low, high = axes.get_xlim()
    narrow = high / low < 300
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if narrow else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())


def _name_space(summary: Summary) -> float:
    longest = max(len(_shortened(name)) for name in summary.study.algorithms)
    return CHARACTER_WIDTH * longest + 26


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / INCH, height / INCH), dpi=INCH)
    figure.patch.set_alpha(0.0)
    return figure


def _place(figure: Figure, left: float, top: float, right: float, bottom: float) -> Axes:
    width, height = figure.get_size_inches() * INCH
    return figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    )


def curves_svg(summary: Summary, environment: str, axis: Progress) -> tuple[str, bool]:
    """
    Draw the learning curves of one environment for a page.

    :param summary: Figures of the study.
    :param environment: Its id.
    :param axis: What is on the horizontal axis.
    :return: An ``<svg>`` element in the page's colours, and whether thin lines leave the picture.
    """
    name = f"curves-{axis}-{environment}"
    with _style(name):
        figure = _new_figure(PANEL_WIDTH, PANEL_HEIGHT)
        axes = _place(figure, 50, 24, _name_space(summary), 42)
        cut = draw_curves(axes, summary, environment, axis, _STAND_INS)
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
    :return: Content of ``curves.png`` and ``curves.svg``, on white.
    """
    environments = summary.study.environments
    colours = COLOURS["light"]
    row, space = PANEL_HEIGHT + 44, _name_space(summary)
    with _style("curves"):
        width, height = 2 * (PANEL_WIDTH + 40), row * len(environments) + 50
        figure = _new_figure(width, height)
        figure.patch.set(alpha=1.0, facecolor="white")
        for index, environment in enumerate(environments):
            top = index * row + 58
            below = height - top - PANEL_HEIGHT
            for column, axis in enumerate(AXES):
                left = column * width / 2
                right = width / 2 * (1 - column)
                axes = _place(figure, left + 64, top, right + space + 6, below + 44)
                draw_curves(axes, summary, environment, axis, colours)
                if column == 0:
                    axes.set_title(
                        environment, loc="left", color=colours.ink, fontweight="bold", pad=26
                    )
        seeds = len(summary.study.seeds)
        note = (
            f"Bold: interquartile mean over {seeds} seeds, with 95 % bootstrap band. Thin: seeds. "
            "Dotted: fewer seeds than before."
            if seeds > 1
            else "One seed each: no interval."
        )
        if summary.study.troubled:
            note += f" {len(summary.study.troubled)} runs are not finished (dashed, ×)."
        figure.text(16 / width, 14 / height, note, color=colours.quiet, fontsize=FONT_SIZE - 2)
        files = {}
        for suffix, options in (
            ("png", {"dpi": 2 * INCH, "metadata": {"Software": None}}),
            ("svg", {"metadata": {"Date": None, "Creator": None}}),
        ):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, **options)
            files[f"curves.{suffix}"] = content.getvalue()
    return files


# --- rows of estimates ---


@dataclass(frozen=True)
class _Row:
    name: str
    colour: str
    estimate: Estimate | None
    points: Sequence[float]
    note: str
    written: Callable[[float | None], str] = number


def _draw_rows(rows: Sequence[_Row], name: str, description: str, **options: Any) -> str:
    longest = max(len(row.name) for row in rows)
    left = max(CHARACTER_WIDTH * longest + 22, 60)
    with _style(name):
        figure = _new_figure(PANEL_WIDTH, ROW_HEIGHT * len(rows) + 52)
        axes = _place(figure, left, 8, 100, 44)
        _dress(axes, _STAND_INS)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=_STAND_INS.grid, linewidth=0.8)
        for index, row in enumerate(rows):
            _draw_row(axes, index, row)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", length=0, pad=9, labelcolor=_STAND_INS.ink)
        axes.set_xlabel(options["label"], color=_STAND_INS.quiet)
        if "limits" in options:
            axes.set_xlim(options["limits"])
            axes.axvline(0.5, color=_STAND_INS.quiet, linewidth=1.0, linestyle=(0, (3, 2)))
        else:
            from matplotlib.ticker import FuncFormatter, MaxNLocator

            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(
                FuncFormatter(
                    lambda value, _: number(value) if value % 1 else signed(value, 0, ",")
                )
            )
        return _inline(figure, name, description)


def _draw_row(axes: Axes, index: int, row: _Row) -> None:
    if row.points:
        axes.plot(
            row.points,
            [index + 0.26] * len(row.points),
            "o",
            color=row.colour,
            markersize=3.6,
            alpha=0.6,
            markeredgewidth=0,
            clip_on=False,
        )
    text = row.note
    if row.estimate is not None:
        value, low, high = row.estimate
        if low is not None and high is not None:
            axes.plot(
                [low, high], [index, index], color=row.colour, linewidth=3.2, alpha=0.55,
                solid_capstyle="round", clip_on=False,
            )  # fmt: skip
        axes.plot([value], [index], "o", color=row.colour, markersize=8, clip_on=False)
        text = row.written(value)
    axes.annotate(
        text,
        (1, index),
        xycoords=("axes fraction", "data"),
        xytext=(14, 5 if row.estimate is not None else 0),
        textcoords="offset points",
        va="center",
        color=_STAND_INS.ink if row.estimate is not None else _STAND_INS.quiet,
        fontweight="bold" if row.estimate is not None else "normal",
    )
    if row.estimate is not None:
        axes.annotate(
            interval(row.estimate, row.written) if row.estimate.low is not None else row.note,
            (1, index),
            xycoords=("axes fraction", "data"),
            xytext=(14, -8),
            textcoords="offset points",
            va="center",
            color=_STAND_INS.quiet,
            fontsize=FONT_SIZE - 2,
        )


def final_returns_svg(summary: Summary, environment: str) -> str:
    """
    Draw the final return of each algorithm on one environment, the highest first: the
    interquartile mean, its 95 % interval and every seed.

    :param summary: Figures of the study.
    :param environment: Its id.
    :return: An ``<svg>`` element in the page's colours.
    """
    rows = [
        _Row(
            _shortened(row.algorithm),
            _series(_STAND_INS, summary, row.algorithm)[0],
            row.final,
            row.returns,
            _note(row),
        )
        for row in summary.ranked(environment)
    ]
    described = "; ".join(
        f"{row.algorithm} {number(row.final.value)}, interval {interval(row.final)}"
        for row in summary.ranked(environment)
        if row.final is not None
    )
    description = f"Final returns on {environment}: {described or 'no run is finished'}."
    return _draw_rows(
        rows, f"final-{environment}", description, label="greedy return after training"
    )


def _note(row: AlgorithmSummary) -> str:
    return "no finished run" if not row.finished else "one seed: no interval"


def improvement_svg(summary: Summary, environment: str | None) -> str:
    """
    Draw the probability of improvement over the first algorithm.

    :param summary: Figures of the study, of at least two algorithms.
    :param environment: Its id; None for all environments together.
    :return: An ``<svg>`` element in the page's colours.
    """
    first, *others = summary.study.algorithms
    if environment is None:
        estimates = dict(summary.overall_improvement)
    else:
        estimates = {row.algorithm: row.improvement for row in summary.of(environment)}
    rows = [
        _Row(
            _shortened(algorithm),
            _series(_STAND_INS, summary, algorithm)[0],
            estimates[algorithm],
            (),
            "one seed" if estimates[algorithm] is not None else "not finished",
            "{:.2f}".format,
        )
        for algorithm in others
    ]
    place = environment or "all environments"
    described = "; ".join(
        f"{algorithm} {estimate.value:.2f}, interval {interval(estimate, '{:.2f}'.format)}"
        for algorithm in others
        if (estimate := estimates[algorithm]) is not None
    )
    return _draw_rows(
        rows,
        f"improvement-{place}",
        f"Probability of improvement over {first} on {place}: {described or 'none'}.",
        label=f"probability of ending above {_shortened(first)}",
        limits=(0.0, 1.0),
    )


# --- inside a page ---


def _inline(figure: Figure, name: str, description: str) -> str:
    """
    Turn a figure into an element of a page.

    :param figure: Drawn in the colours that stand in for the page's variables.
    :param name: Unique in the page.
    :param description: For readers who do not see it.
    :return: An ``<svg>`` element that takes the width it is given.
    """
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
