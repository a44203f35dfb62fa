"""A comparison's report: a table in the terminal, files, and one page that needs no network."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gymnasium.error import DependencyNotInstalled
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape as plain
from rich.table import Table

from dqn_plugins.comparison.report import charts
from dqn_plugins.comparison.report.export import citation, exports
from dqn_plugins.comparison.report.videos import record_together
from dqn_plugins.comparison.results import Cell, CellStatus, StudyResults, put_together, read_study
from dqn_plugins.comparison.statistics import Estimate
from dqn_plugins.comparison.summary import (
    Summary,
    interval,
    listed,
    number,
    share,
    shortly,
    summarise,
)
from dqn_plugins.errors import SettingsError
from dqn_plugins.files import output_folder, written_whole

__all__ = ["write_report"]

# base64 makes four bytes of three; with charts and tables the page stays below 15 MB.
MOST_VIDEO_BYTES = 9_000_000
# Said by the page where the settings stand.
PER_CELL = ("algorithm", "environment", "seed", "identity")
TROUBLES = {
    "failed": "failed",
    "damaged": "cannot be read",
    "unfinished": "not finished",
    "missing": "not begun",
}


def write_report(
    folder: Path | str | Sequence[Path | str],
    videos: bool = True,
    reference: str | None = None,
    out: Path | str | None = None,
    export: Path | str | None = None,
) -> Path:
    """
    Report a comparison, finished or not: print a table, and write ``summary.csv``, ``curves.png``,
    ``curves.svg``, ``curves.pdf``, ``videos/`` and ``report.html``, replacing those of an earlier
    report. Runs that failed, are missing or not finished are named and enter no figure. The same
    runs give the same ``summary.csv``. No code from the folder is run.

    :param folder: What ``dqn-plugins compare`` was given as ``--out``; several to be reported
        together, each cell once.
    :param videos: Whether the recordings of the best seeds are put side by side.
    :param reference: The algorithm that the others are compared with; by default the one that
        ``compare`` was given.
    :param out: Where the report goes; by default into the study's folder, and of several studies to
        ``runs/report``.
    :param export: Folder for ``evaluations.csv``, ``scores.npz`` (rliable's dictionary),
        ``table.md``, ``table.tex`` and ``citation.txt``; none of them by default.
    :return: The path of ``report.html``, which needs no other file.
    :raises SettingsError: If no folder is given, there is no comparison in one, its description
        cannot be read, or ``out`` or ``export`` cannot be written.

    Example::

        from dqn_plugins.comparison import write_report

        print(write_report("runs/lander"))
    """
    given: Any = folder
    is_one = isinstance(given, str) or not isinstance(given, Iterable)
    folders = [given] if is_one else [*given]
    if not folders or not all(isinstance(each, (str, Path)) for each in folders):
        raise SettingsError(
            f"folder: received {folder!r}, it must be the folder of a study, or those of several "
            "studies. Pass what `dqn-plugins compare` was given as --out."
        )
    several = len(folders) > 1
    place = Path(out or ("runs/report" if several else folders[0]))
    if several:
        study = put_together([read_study(each) for each in folders], place, reference)
    else:
        study = replace(read_study(folders[0], reference), folder=place)
    output_folder(place)
    exported = None if export is None else output_folder(Path(export), "export")
    summary = summarise(study)
    recorded, missing = _videos(summary) if videos else ([], {"": "They were not asked for."})
    files = {
        "summary.csv": summary.table().to_csv(index=False).encode(),
        **charts.curves_files(summary),
        "report.html": _page(summary, recorded, missing).encode(),
    }
    contents = {place / name: content for name, content in files.items()}
    if exported is not None:
        contents |= {exported / name: content for name, content in exports(summary).items()}
    for path, content in contents.items():
        with written_whole(path) as unfinished:
            unfinished.write_bytes(content)
    _print(summary, missing if videos else {})
    return place / "report.html"


def _videos(summary: Summary) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return one video per environment, and why there is none, by environment or "" for all."""
    recorded, missing = [], {}
    most_bytes = MOST_VIDEO_BYTES // len(summary.study.environments)
    for environment in summary.study.environments:
        try:
            video = record_together(summary, environment, most_bytes)
        except DependencyNotInstalled as error:
            return [], {"": str(error)}
        except (OSError, ValueError) as error:  # whatever is wrong with a file, the figures stand
            video = f"{type(error).__name__}: {error}"
        if isinstance(video, str):
            missing[environment] = video
        else:
            recorded.append(video)
    return recorded, missing


# --- the page ---


def _page(summary: Summary, videos: Sequence[Any], missing: Mapping[str, str]) -> str:
    folder = Path(__file__).parent
    templates = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {each.__name__: each for each in (number, interval, share, shortly)}
    templates.filters["readable"] = lambda value: (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    )
    study = summary.study
    return templates.get_template("report.html").render(
        study=study,
        summary=summary,
        share=share,
        # Our own file.
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        colour_of=lambda name: f"var(--series-{study.algorithms.index(name) % charts.N_COLOURS})",
        is_hollow=lambda name: study.algorithms.index(name) >= charts.N_COLOURS,
        title=f"{_together(study.algorithms, 'algorithms')} on "
        f"{_together(study.environments, 'environments')}",
        facts=_facts(study),
        troubles=_troubles(study),
        settings_of=lambda row: _grouped(row.cells, _flat_settings),
        panels=[_panel(summary, environment) for environment in study.environments],
        charts=charts,
        videos=videos,
        missing_videos=missing,
        citation=citation(study),
        versions=_grouped(study.cells, lambda cell: cell.versions),
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _panel(summary: Summary, environment: str) -> dict[str, Any]:
    """What the page shows of one environment: rows by final return and in the study's order."""
    rows, ranked = summary.of(environment), summary.ranked(environment)
    headline = escape(summary.headline(environment))
    best = escape(ranked[0].algorithm)
    alone = len(ranked) == 1 and ranked[0].final is not None
    is_first = alone or headline.startswith(f"{best} ended highest")
    winner = ranked[0].algorithm if is_first else None
    if winner:
        headline = headline.replace(best, Markup("<strong>{}</strong>").format(best), 1)
    return {
        "environment": environment,
        "headline": headline,
        "winner": winner,
        "rows": ranked,
        "in_order": rows,
        "has_curves": any(cell.evaluations for row in rows for cell in row.cells),
        "fastest": max((row.timing("steps_per_cpu_second") or 0.0 for row in rows), default=0.0),
    }


def _together(names: Sequence[str], noun: str) -> str:
    return listed(list(names)) if len(names) <= 3 else f"{len(names)} {noun}"


def _facts(study: StudyResults) -> list[tuple[str, str]]:
    steps, seconds = study.settings.get("timesteps"), study.settings.get("cpu_seconds")
    return [
        ("algorithms", str(len(study.algorithms))),
        ("environments", str(len(study.environments))),
        ("seeds each", str(len(study.seeds))),
        ("per run", f"{steps:,} steps" if steps else f"{seconds:g} CPU s" if seconds else "–"),
        ("final episodes", str(study.settings.get("final_evaluation_episodes") or "–")),
        ("runs finished", f"{len(study.cells) - len(study.troubled)} of {len(study.cells)}"),
    ]


def _troubles(study: StudyResults) -> list[tuple[str, str, list[str]]]:
    """List what is not finished: what became of it, the error, and the cells alike in both."""
    alike: dict[tuple[CellStatus, str], list[str]] = {}
    for cell in study.troubled:
        alike.setdefault((cell.status, cell.error), []).append(cell.name)
    return [
        (f"{len(names)} {words}", error, names)
        for status, words in TROUBLES.items()
        for (its, error), names in alike.items()
        if its == status
    ]


def _flat_settings(cell: Cell) -> Mapping[str, Any]:
    shared = {key: value for key, value in cell.settings.items() if key not in PER_CELL}
    return {**shared.pop("hyperparameters", {}), **shared}


def _grouped(
    cells: Sequence[Cell], facts_of: Callable[[Cell], Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], list[Cell]]]:
    """List what cells were made with, once where it is the same."""
    groups: dict[str, tuple[Mapping[str, Any], list[Cell]]] = {}
    for cell in cells:
        if facts := facts_of(cell):
            key = json.dumps(facts, sort_keys=True, default=str)
            groups.setdefault(key, (facts, []))[1].append(cell)
    return list(groups.values())


# --- the terminal ---


def _print(summary: Summary, missing_videos: Mapping[str, str]) -> None:
    console = Console()
    for environment in summary.study.environments:
        console.print(_table(summary, environment))
        console.print(f"{plain(summary.headline(environment))}\n", highlight=False)
    for caution in summary.cautions:
        console.print(f"[yellow]Note:[/] {plain(caution)}", highlight=False)
    for words, error, names in _troubles(summary.study):
        reason = f" ({error})" if error else ""
        colour = "red" if error else "yellow"
        console.print(f"[{colour}]{words}:[/] {plain(shortly(names) + reason)}", highlight=False)
    for environment, reason in missing_videos.items():
        where = f" of {environment}" if environment else ""
        console.print(f"[yellow]No video{where}:[/] {plain(reason)}", highlight=False)


def _table(summary: Summary, environment: str) -> Table:
    several = len(summary.study.algorithms) > 1
    table = Table(
        title=environment, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("algorithm", style="bold", overflow="fold")
    improvement = f"P(above {plain(summary.study.reference)})\n95 % interval"
    titles = ["seeds", "return\n95 % interval", *[improvement][:several], "steps per\nCPU second"]
    for title in titles:
        # Folded where the terminal is narrow: an ellipsis would hide that seeds are missing.
        table.add_column(title, justify="right", overflow="fold")
    for row in summary.ranked(environment):
        figures = [_figure(row.final, number), _figure(row.improvement, share)]
        table.add_row(
            plain(row.algorithm),
            row.seeds_label.removesuffix("s").removesuffix(" seed"),
            *figures[: 1 + several],
            number(row.timing("steps_per_cpu_second")),
        )
    return table


def _figure(estimate: Estimate | None, written: Callable[[float | None], str]) -> str:
    if estimate is None:
        return "–"
    if estimate.low is None:
        return f"{written(estimate.value)} (one seed)"
    return plain(f"{written(estimate.value)} [{written(estimate.low)}, {written(estimate.high)}]")
