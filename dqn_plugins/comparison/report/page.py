"""The page of a comparison: everything in one file that opens from disk, without network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from dqn_plugins.comparison.report.charts import (
    COLOURS,
    curves_svg,
    final_returns_svg,
    improvement_svg,
)
from dqn_plugins.comparison.report.curves import needs_log_axis
from dqn_plugins.comparison.report.videos import ReportVideo, poster_of, shrunk_to
from dqn_plugins.comparison.results import Cell
from dqn_plugins.comparison.summary import AlgorithmSummary, Summary, interval, listed, number

__all__ = ["render_page"]

TEMPLATE = "report.html"
STYLE = "report.css"
# base64 makes four bytes of three; with charts and tables the page stays below 15 MB.
MOST_VIDEO_BYTES = 9_000_000
# Said by the page where the settings stand.
PER_CELL = ("algorithm", "environment", "seed")


def render_page(
    summary: Summary, videos: Sequence[ReportVideo], missing_videos: Mapping[str, str]
) -> str:
    """
    Write the page.

    :param summary: Figures of the study.
    :param videos: One per environment, as far as there are any.
    :param missing_videos: Why there is none, by environment; under "" what holds for all.
    :return: HTML that refers to no other file.
    """
    folder = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "interval": interval, "readable": _readable}
    study = summary.study
    return templates.get_template(TEMPLATE).render(
        study=study,
        summary=summary,
        style=Markup((folder / STYLE).read_text(encoding="utf-8")),  # noqa: S704 - our own file
        colours=_variables(),
        colour_of=lambda name: (
            f"var(--series-{study.algorithms.index(name) % len(COLOURS['light'].series)})"
        ),
        title=f"{_together(study.algorithms, 'algorithms')} on "
        f"{_together(study.environments, 'environments')}",
        facts=_facts(summary),
        troubles=_troubles(summary),
        settings_of=_settings_of,
        headline_of=lambda panel: _headline(summary, panel),
        panels=[_panel(summary, environment) for environment in study.environments],
        overall=Markup(improvement_svg(summary, None))  # noqa: S704 - escaped where it is drawn
        if _has_overall(summary)
        else None,
        videos=[_embedded(video, len(study.environments)) for video in videos],
        missing_videos=missing_videos,
        versions=_versions(summary),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


@dataclass(frozen=True)
class _Panel:
    """
    What the page shows of one environment.

    :param environment: Its id.
    :param rows: The figures, the highest final return first.
    :param in_order: The same, in the study's order.
    :param final: Chart of the final returns.
    :param steps: Curves against steps; None if nothing was evaluated during training.
    :param seconds: Curves against CPU seconds; None likewise.
    :param has_log_axis: Whether the latter are on a logarithmic axis.
    :param is_cut: Whether lines of seeds leave the pictures.
    :param improvement: Chart of the probabilities of improvement; None for one algorithm.
    :param fastest: Most steps per CPU second of all algorithms.
    """

    environment: str
    rows: Sequence[AlgorithmSummary]
    in_order: Sequence[AlgorithmSummary]
    final: Markup
    steps: Markup | None
    seconds: Markup | None
    has_log_axis: bool
    is_cut: bool
    improvement: Markup | None
    fastest: float


def _panel(summary: Summary, environment: str) -> _Panel:
    # The charts escape their texts themselves, hence Markup.
    study = summary.study
    evaluated = any(
        cell.evaluations is not None for cell in study.cells if cell.environment == environment
    )
    steps, seconds, is_cut = None, None, False
    if evaluated:
        svg, steps_cut = curves_svg(summary, environment, "steps")
        steps = Markup(svg)  # noqa: S704
        svg, seconds_cut = curves_svg(summary, environment, "cpu_seconds")
        seconds = Markup(svg)  # noqa: S704
        is_cut = steps_cut or seconds_cut
    rows = summary.of(environment)
    several = len(study.algorithms) > 1
    return _Panel(
        environment,
        summary.ranked(environment),
        rows,
        Markup(final_returns_svg(summary, environment)),  # noqa: S704
        steps,
        seconds,
        needs_log_axis(study, environment),
        is_cut,
        Markup(improvement_svg(summary, environment)) if several else None,  # noqa: S704
        max((row.timing("steps_per_cpu_second") or 0.0 for row in rows), default=0.0),
    )


def _headline(summary: Summary, panel: _Panel) -> Markup:
    best = escape(panel.rows[0].algorithm)
    sentence = escape(summary.headline(panel.environment))
    return sentence.replace(best, Markup("<strong>{}</strong>").format(best), 1)


def _has_overall(summary: Summary) -> bool:
    return len(summary.study.environments) > 1 and len(summary.study.algorithms) > 1


def _variables() -> dict[str, dict[str, str]]:
    return {
        mode: {
            "ink": colours.ink,
            "quiet": colours.quiet,
            "grid": colours.grid,
            **{f"series-{index}": colour for index, colour in enumerate(colours.series)},
        }
        for mode, colours in COLOURS.items()
    }


def _together(names: Sequence[str], noun: str) -> str:
    return listed(list(names)) if len(names) <= 3 else f"{len(names)} {noun}"


def _facts(summary: Summary) -> list[tuple[str, str]]:
    study = summary.study
    n_finished = len(study.cells) - len(study.troubled)
    steps, seconds = study.settings.get("timesteps"), study.settings.get("cpu_seconds")
    budget = f"{steps:,} steps" if steps else f"{seconds:g} CPU s" if seconds else "–"
    episodes = study.settings.get("final_evaluation_episodes")
    return [
        ("algorithms", str(len(study.algorithms))),
        ("environments", str(len(study.environments))),
        ("seeds each", str(len(study.seeds))),
        ("per run", budget),
        ("final episodes", "–" if episodes is None else str(episodes)),
        ("runs finished", f"{n_finished} of {len(study.cells)}"),
    ]


def _troubles(summary: Summary) -> list[tuple[str, list[Cell]]]:
    what = {
        "failed": "failed",
        "damaged": "cannot be read",
        "unfinished": "not finished",
        "missing": "not begun",
    }
    return [
        (words, cells)
        for status, words in what.items()
        if (cells := [cell for cell in summary.study.cells if cell.status == status])
    ]


def _settings_of(row: AlgorithmSummary) -> list[tuple[Mapping[str, Any], list[Cell]]]:
    """
    List the settings of an algorithm's runs, once where they are the same.

    :param row: The algorithm on one environment.
    :return: Settings, hyperparameters among them, and the cells that have them.
    """
    groups: dict[str, tuple[Mapping[str, Any], list[Cell]]] = {}
    for cell in row.cells:
        if cell.settings:
            shared = {key: value for key, value in cell.settings.items() if key not in PER_CELL}
            flat = {**shared.pop("hyperparameters", {}), **shared}
            key = json.dumps(flat, sort_keys=True, default=str)
            groups.setdefault(key, (flat, []))[1].append(cell)
    return list(groups.values())


def _embedded(video: ReportVideo, n_environments: int) -> tuple[ReportVideo, str | None, str]:
    """
    Put a video into the page.

    :param video: The video.
    :param n_environments: How many share the room there is.
    :return: The video; its ``data:`` address, None if it is too large; that of a picture of it.
    """
    content = shrunk_to(video.path, MOST_VIDEO_BYTES // n_environments)
    address = None if content is None else _data_address("video/mp4", content)
    return video, address, _data_address("image/jpeg", poster_of(video.path))


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _versions(summary: Summary) -> list[tuple[Mapping[str, str], list[Cell]]]:
    """
    Group cells by what they ran with.

    :param summary: Figures of the study.
    :return: Versions, and the cells that have them.
    """
    groups: dict[str, tuple[Mapping[str, str], list[Cell]]] = {}
    for cell in summary.study.cells:
        if cell.versions:
            key = json.dumps(cell.versions, sort_keys=True)
            groups.setdefault(key, (cell.versions, []))[1].append(cell)
    return list(groups.values())


def _readable(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
