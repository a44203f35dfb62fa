"""A comparison's report: a table, a CSV file, curves, videos and one self-contained page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gymnasium.error import DependencyNotInstalled
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dqn_plugins.comparison.report.charts import curves_files
from dqn_plugins.comparison.report.page import render_page
from dqn_plugins.comparison.report.videos import ReportVideo, check_encoder, record_comparison
from dqn_plugins.comparison.results import StudyResults, read_study
from dqn_plugins.comparison.statistics import Estimate
from dqn_plugins.comparison.summary import (
    AlgorithmSummary,
    Summary,
    number,
    summarise,
)
from dqn_plugins.files import written_whole

__all__ = ["write_report"]


def write_report(folder: Path | str, videos: bool = True) -> Path:
    """
    Report a comparison, finished or not: print a table, and write ``summary.csv``, ``curves.png``,
    ``curves.svg``, ``videos/`` and ``report.html`` into its folder, replacing those of an earlier
    report. Runs that failed, are missing or not finished are named and enter no figure. The same
    runs give the same ``summary.csv``.

    :param folder: What ``dqn-plugins compare`` was given as ``--out``.
    :param videos: Whether to record the best seed of each algorithm. Without ffmpeg there are no
        videos, and the report says so.
    :return: The path of ``report.html``, which needs no other file.
    :raises FileNotFoundError: If there is no comparison in the folder.
    :raises ValueError: If its description cannot be read.

    Example::

        from dqn_plugins.comparison import write_report

        print(write_report("runs/lander"))
    """
    study = read_study(folder)
    summary = summarise(study)
    table = summary.table().to_csv(index=False).encode()
    for name, content in {"summary.csv": table, **curves_files(summary)}.items():
        with written_whole(study.folder / name) as unfinished:
            unfinished.write_bytes(content)
    recorded, missing = (
        _record_videos(summary) if videos else ([], {"": "They were not asked for."})
    )
    page = study.folder / "report.html"
    with written_whole(page) as unfinished:
        unfinished.write_bytes(render_page(summary, recorded, missing).encode())
    print_summary(summary, missing if videos else {})
    return page


def _record_videos(summary: Summary) -> tuple[list[ReportVideo], dict[str, str]]:
    """
    Record one video per environment, as far as that can be done.

    :param summary: Figures of the study.
    :return: The videos, and why there is none, by environment; under "" what holds for all.
    """
    try:
        check_encoder()
    except DependencyNotInstalled as error:
        return [], {"": str(error)}
    folder = summary.study.folder / "videos"
    recorded, missing = [], {}
    for environment in summary.study.environments:
        try:
            video = record_comparison(summary, environment, folder)
        except Exception as error:
            # Whatever an environment's renderer or a model file raises, the figures stand.
            missing[environment] = f"{type(error).__name__}: {error}"
            continue
        if video is None:
            missing[environment] = "No run is finished."
        else:
            recorded.append(video)
    return recorded, missing


def print_summary(summary: Summary, missing_videos: dict[str, str] | None = None) -> None:
    """
    Print the figures of a comparison to the terminal.

    :param summary: Figures of the study.
    :param missing_videos: Why there is no video, by environment.
    """
    console = Console()
    for environment in summary.study.environments:
        console.print(_table(summary, environment))
        console.print(f"{escape(summary.headline(environment))}\n", highlight=False)
    for caution in summary.cautions:
        console.print(f"[yellow]Note:[/] {escape(caution)}", highlight=False)
    _print_troubled(console, summary.study)
    for environment, reason in (missing_videos or {}).items():
        where = f" of {environment}" if environment else ""
        console.print(f"[yellow]No video{where}:[/] {escape(reason)}", highlight=False)


def _table(summary: Summary, environment: str) -> Table:
    first = summary.study.algorithms[0]
    several = len(summary.study.algorithms) > 1
    table = Table(
        title=environment, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("algorithm", style="bold", overflow="fold")
    for title in (
        "seeds",
        "return\n95 % interval",
        *([f"P(above {escape(first)})\n95 % interval"] if several else []),
        "steps per\nCPU second",
    ):
        # Folded where the terminal is narrow: an ellipsis would hide that seeds are missing.
        table.add_column(title, justify="right", overflow="fold")
    for row in summary.ranked(environment):
        table.add_row(
            escape(row.algorithm),
            row.seeds_label.removesuffix("s").removesuffix(" seed"),
            _final(row),
            *([_probability(row.improvement)] if several else []),
            number(row.timing("steps_per_cpu_second")),
        )
    return table


def _final(row: AlgorithmSummary) -> str:
    if row.final is None:
        return "–"
    if len(row.finished) == 1:
        return f"{number(row.final.value)} (one seed)"
    return f"{number(row.final.value)} {_bracketed(row.final, number)}"


def _probability(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{estimate.value:.2f} {_bracketed(estimate, '{:.2f}'.format)}".rstrip()


def _bracketed(estimate: Estimate, written: Callable[[float], str]) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return escape(f"[{written(estimate.low)}, {written(estimate.high)}]")


def _print_troubled(console: Console, study: StudyResults) -> None:
    for cell in study.troubled:
        colour = "red" if cell.status in {"failed", "damaged"} else "yellow"
        reason = f": {cell.error}" if cell.error else ""
        console.print(f"[{colour}]{cell.status}[/] {escape(cell.name + reason)}", highlight=False)
