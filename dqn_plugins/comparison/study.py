"""A study from beginning to end: what is missing, who does it, what came of it."""

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from rich.console import Console

from dqn_plugins.comparison.cell import CellJob, cell_folder, reason_to_redo, run_cell
from dqn_plugins.comparison.fan_out import number_of_workers, run_in_parallel
from dqn_plugins.comparison.progress import LiveProgress
from dqn_plugins.comparison.settings import Study
from dqn_plugins.experiments.algorithms import ALGORITHMS
from dqn_plugins.experiments.settings import ComparisonSettings
from dqn_plugins.files import write_json

__all__ = ["ComparisonResult", "run_comparison"]

LOCK = ".lock"
_NOTHING = "nothing"


@dataclass(frozen=True)
class ComparisonResult:
    """
    What a run of a study did.

    :param out: The study's folder.
    :param kept: Cells that were finished before.
    :param finished: Cells that this run finished.
    :param failed: Errors of the cells that failed, by cell.
    """

    out: Path
    kept: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_comparison(
    settings: ComparisonSettings, command: str | None = None, console: Console | None = None
) -> ComparisonResult:
    """
    Do what is missing of a study.

    :param settings: The study, and how to run it.
    :param command: Command line that stands for it, kept for the report.
    :param console: Where progress is shown; standard error by default.
    :return: What was done and what failed. Report it with
        :func:`~dqn_plugins.comparison.write_report`.
    :raises ValueError: If a setting is wrong, or the folder holds a different study.
    :raises RuntimeError: If another run is at work on the folder, or a worker process died.
    """
    console = console or Console(stderr=True, highlight=False)
    study = Study.from_settings(settings)
    out = settings.out.absolute()
    cells = cells_of(study, out)
    with _only_run(out):
        _claim_folder(out, study, command)
        _remove_leftovers(out)
        result = ComparisonResult(out)
        missing = []
        for cell in cells:
            reason = reason_to_redo(cell)
            if reason is None:
                result.kept.append(cell.name)
                continue
            missing.append(cell)
            if reason:
                line = f"{cell.name}: {reason}, so it is done again."
                console.print(line, markup=False, soft_wrap=True)
                shutil.rmtree(cell.folder)
        if result.kept:
            console.print(f"{len(result.kept)} of {len(cells)} cells are finished already.")
        # Long ones first: otherwise the last of them would run while other workers are idle.
        missing.sort(key=lambda cell: -ALGORITHMS[cell.variant.algorithm].cost)
        _run(missing, settings, result, console)
    return result


def cells_of(study: Study, out: Path) -> list[CellJob]:
    """
    List a study's cells.

    :param study: The study.
    :param out: Its folder.
    :return: Cells by environment, algorithm and seed.
    """
    settings = study.settings
    return [
        CellJob(
            folder=cell_folder(out, env_id, variant.name, seed),
            variant=variant,
            environment=env_id,
            seed=seed,
            timesteps=settings.timesteps,
            cpu_seconds=settings.cpu_seconds,
            evaluations=settings.evaluations,
            evaluation=study.evaluation,
            final_evaluation_episodes=settings.final_evaluation_episodes,
            hyperparameters=study.hyperparameters[env_id][variant.name],
        )
        for env_id in settings.env
        for variant in study.variants
        for seed in settings.seed_range
    ]


def _run(
    cells: list[CellJob], settings: ComparisonSettings, result: ComparisonResult, console: Console
) -> None:
    if not cells:
        return
    run_id = token_hex(4)
    jobs = [(cell, run_id, os.getpid()) for cell in cells]
    n_workers = number_of_workers(settings.jobs, settings.backend)
    with LiveProgress(cells, run_id, console):
        problems = run_in_parallel(
            run_cell, jobs, n_workers, settings.backend, settings.dask_address
        )
    for cell, problem in zip(cells, problems, strict=True):
        if problem is None:
            result.finished.append(cell.name)
        else:
            result.failed[cell.name] = problem


def _claim_folder(out: Path, study: Study, command: str | None) -> None:
    """
    Make the folder this study's, or see that it is.

    :param out: The folder.
    :param study: The study.
    :param command: Command line that stands for it.
    :raises ValueError: If it holds a different study or something else.
    """
    file = out / "study.json"
    described = json.loads(json.dumps(study.described()))
    if not file.exists():
        others = [path.name for path in out.iterdir() if path.name != LOCK]
        if others:
            raise ValueError(
                f"out: {out} holds {', '.join(sorted(others)[:3])} and no study. Pass a folder "
                "that is empty or not there yet."
            )
        command = command or shlex.join(["python", *sys.argv])
        write_json(file, {**described, "command": command})
        return
    try:
        present = json.loads(file.read_text())
        present.pop("command", None)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"out: {file} cannot be read ({error}). Delete it if this is the folder of the same "
            "study: finished cells are kept if they fit."
        ) from error
    differences = list(_differences(present, described))
    if differences:
        raise ValueError(
            f"out: {out} holds a different study:\n  "
            + "\n  ".join(differences)
            + "\nPass another --out, or the settings of the study that is there."
        )


def _differences(present: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """
    Compare two descriptions.

    :param present: What is there.
    :param wanted: What was asked for.
    :param where: Path to both.
    :return: One line per difference.
    """
    if isinstance(present, dict) and isinstance(wanted, dict):
        for key in {**present, **wanted}:
            below = f"{where}.{key}" if where else key
            yield from _differences(present.get(key, _NOTHING), wanted.get(key, _NOTHING), below)
    elif present != wanted:
        yield f"{where}: there {_short(present)}, asked for {_short(wanted)}"


def _short(value: Any) -> str:
    text = value if value == _NOTHING else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _remove_leftovers(out: Path) -> None:
    """
    Remove what runs that were cut short were working on.

    :param out: The study's folder.
    """
    for leftover in out.glob("*/*/.seed_*"):
        shutil.rmtree(leftover, ignore_errors=True)


@contextlib.contextmanager
def _only_run(out: Path) -> Iterator[None]:
    """
    Make sure that no other run is at work on a folder.

    :param out: The folder; made if missing.
    :raises RuntimeError: If there is another.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RuntimeError(
                    f"out: another run is at work on {out}. Wait for it, or pass another --out."
                ) from error
            except OSError:  # a file system without locks
                pass
        yield
