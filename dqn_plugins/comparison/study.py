"""A study from beginning to end: what is asked for, what is missing of it, what came of it."""

import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from dqn_plugins.comparison.cell import (
    VIDEO,
    CellJob,
    cell_folder,
    remove_leftovers,
)
from dqn_plugins.comparison.processes import run_tasks
from dqn_plugins.comparison.progress import LiveProgress
from dqn_plugins.comparison.results import STUDY_FILE, Cell, read_cell
from dqn_plugins.comparison.settings import ComparisonSettings, RunProtocol
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import ALGORITHMS, check_flags, resolve
from dqn_plugins.experiments.environments import make_environment, say_imports
from dqn_plugins.experiments.names import folder_name, nearest_names
from dqn_plugins.files import read_json, write_json

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
    Do what is missing of a study. A study grows: more seeds, algorithms or environments add cells
    to what is there.

    :param settings: The study, and how to run it.
    :param command: Command line that stands for it, kept for the report.
    :param console: Where progress is shown; standard error by default.
    :return: What was done and what failed. Report it with
        :func:`~dqn_plugins.comparison.write_report`.
    :raises SettingsError: If a setting is wrong, another run is at work on the folder, or cells in
        it were made with other settings.
    """
    console = console or Console(stderr=True, highlight=False)
    described, cells = plan(settings, console)
    out = settings.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / LOCK, timeout=0):
            _claim_folder(out, described, command or shlex.join(["python", *sys.argv]), console)
            remove_leftovers(out)
            result = _run(cells, settings, out, console)
            if settings.videos:
                _record_videos(cells, settings, console)
            return result
    except Timeout as error:
        raise SettingsError(
            f"out: another run is at work on {out}. Wait for it, or pass another --out."
        ) from error


def plan(settings: ComparisonSettings, console: Console) -> tuple[dict[str, Any], list[CellJob]]:
    """
    Find out what settings amount to, before anything is trained.

    :param settings: The settings.
    :param console: Where it is said what will be imported.
    :return: The content of ``study.json``, and the cells by environment, algorithm and seed.
    :raises SettingsError: If a name is unknown, or something cannot be done as asked.
    """
    settings.check()
    sources = (settings.variants, settings.environment, settings.zoo, settings.hp)
    variants = [
        (env_id, resolve(name, env_id, *sources))
        for env_id in settings.env
        for name in settings.names
    ]
    check_flags(settings.hp, [variant for _, variant in variants])
    say_imports([(env_id, variant.environment) for env_id, variant in variants], console)
    run_id = token_hex(4)
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    algorithms: dict[str, Any] = {}
    cells = []
    for env_id, variant in variants:
        env = make_environment(env_id, variant.environment)
        hyperparameters = json.loads(json.dumps(variant.described(env)))
        env.close()
        entry = {"algorithm": variant.algorithm, "hyperparameters": {}}
        algorithms.setdefault(variant.name, entry)["hyperparameters"][env_id] = hyperparameters
        cells += [
            CellJob(
                cell_folder(settings.out.absolute(), env_id, variant.name, seed),
                run_id,
                variant,
                env_id,
                seed,
                **settings.protocol,
                hyperparameters=hyperparameters,
                tensorboard=settings.tensorboard,
            )
            for seed in seeds
        ]
    if len({folder_name(env_id) for env_id in settings.env}) < len(settings.env):
        raise SettingsError(f"env: received {settings.env}, two of them share a folder's name.")
    described = {
        "environments": list(settings.env),
        "algorithms": algorithms,
        "seeds": list(seeds),
        **settings.protocol,
        "reference": settings.reference,
    }
    return described, cells


def _run(
    cells: list[CellJob], settings: ComparisonSettings, out: Path, console: Console
) -> ComparisonResult:
    result = ComparisonResult(out)
    missing = []
    for cell in cells:
        read = _read(cell, out)
        if read.status == "finished":
            result.kept.append(cell.name)
            continue
        missing.append(cell)
        if cell.folder.exists():
            line = f"{cell.name} is {read.status} and is done again. {read.error}".strip()
            console.print(line, markup=False, soft_wrap=True)
            shutil.rmtree(cell.folder)
    if result.kept:
        console.print(f"{len(result.kept)} of {len(cells)} cells are finished already.")
    # Long ones first: otherwise the last of them would run while other workers are idle.
    missing.sort(key=lambda cell: -ALGORITHMS[cell.variant.algorithm].cost)
    tasks = [cell.run for cell in missing]
    where = (settings.jobs, settings.backend, settings.dask_address, settings.cell_timeout)
    with LiveProgress(missing, console) as progress:
        for end in run_tasks(tasks, *where) if tasks else ():
            if end is None:
                progress.look()
                continue
            cell = missing[end[0]]
            problem = cell.put_in_place(end[1])
            if problem is None:
                result.finished.append(cell.name)
            else:
                result.failed[cell.name] = problem
            progress.report(cell, problem)
    return result


def _read(cell: CellJob, out: Path) -> Cell:
    return read_cell(out, cell.environment, cell.variant.name, cell.seed)


def _record_videos(cells: list[CellJob], settings: ComparisonSettings, console: Console) -> None:
    """Record the best seed of each algorithm, where that was not done before."""
    best: dict[tuple[str, str], tuple[float, CellJob]] = {}
    for cell in cells:
        read = _read(cell, settings.out.absolute())
        key = (cell.environment, cell.variant.name)
        if read.status == "finished" and (key not in best or read.final_return > best[key][0]):
            best[key] = (read.final_return, cell)
    missing = [cell for _, cell in best.values() if not (cell.folder / VIDEO).exists()]
    if not missing:
        return
    # Only where every algorithm has Q-values: panels of different content invite no comparison.
    with_q_values = all(ALGORITHMS[cell.variant.algorithm].has_q_values for cell in cells)
    tasks = [partial(cell.record_video, with_q_values) for cell in missing]
    where = (settings.jobs, settings.backend, settings.dask_address, settings.cell_timeout)
    with console.status(f"Recording {len(missing)} episodes"):
        for _ in run_tasks(tasks, *where):
            pass


def _claim_folder(out: Path, wanted: dict[str, Any], command: str, console: Console) -> None:
    """Make the folder this study's, or add to the study that is there."""
    file = out / STUDY_FILE
    present = read_json(file)
    if not isinstance(present.get("algorithms"), dict):
        present = {}
        others = sorted(path.name for path in out.iterdir() if path.name != LOCK)
        if others and not (file.exists() or any(out.glob("*/*/seed_*/settings.json"))):
            raise SettingsError(
                f"out: {out} holds {', '.join(others[:3])} and no study. Pass a folder that is "
                "empty or not there yet."
            )
        if file.exists():
            console.print(f"{file} is damaged and is written anew.", markup=False, soft_wrap=True)
    differences = {
        line
        for there, asked, where in _descriptions(out, present, wanted)
        for line in _differences(there, {key: asked[key] for key in there}, where)
    }
    if differences:
        raise SettingsError(
            f"out: {out} holds cells with other settings:\n  "
            + "\n  ".join(sorted(differences))
            + "\nPass another --out, or the settings of the cells that are there."
        )
    merged = {
        **wanted,
        "environments": _union(present.get("environments", ()), wanted["environments"]),
        "algorithms": _merged(present.get("algorithms", {}), wanted["algorithms"]),
        "seeds": sorted(_union(present.get("seeds", ()), wanted["seeds"])),
    }
    names = list(merged["algorithms"])
    reference = wanted["reference"] or present.get("reference")
    if reference is not None and reference not in names:
        raise SettingsError(
            f"reference: received {reference!r}, which is not compared."
            f"{nearest_names(reference, names)}"
        )
    write_json(file, {**merged, "reference": reference, "command": command})


def _merged(present: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**present, **wanted}
    for name, variant in merged.items():
        earlier = present.get(name, {}).get("hyperparameters", {})
        variant["hyperparameters"] = {**earlier, **variant["hyperparameters"]}
    return merged


def _union(present: Iterable[Any], wanted: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys([*present, *wanted]))


def _descriptions(
    out: Path, present: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Pair what is there with what is asked for: the study's settings, and each cell's."""
    common = {each.name: wanted[each.name] for each in fields(RunProtocol)}
    yield {key: present[key] for key in common if key in present}, common, ""
    for name, variant in wanted["algorithms"].items():
        for env_id, hyperparameters in variant["hyperparameters"].items():
            asked = {**common, "hyperparameters": hyperparameters}
            for folder in cell_folder(out, env_id, name, 0).parent.glob("seed_*"):
                there = read_json(folder / "settings.json")
                if there and not (folder / "failure.json").exists():  # failed ones are done again
                    there = {key: there.get(key, _NOTHING) for key in asked}
                    yield there, asked, f"{name} on {env_id}"


def _differences(present: Any, wanted: Any, where: str = "") -> Iterator[str]:
    """Compare two descriptions: one line per difference."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        for key in {**present, **wanted}:
            below = f"{where}.{key}" if where else key
            yield from _differences(present.get(key, _NOTHING), wanted.get(key, _NOTHING), below)
    elif present != wanted:
        yield f"{where}: there {_short(present)}, asked for {_short(wanted)}"


def _short(value: Any) -> str:
    text = value if value == _NOTHING else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
