"""A study from beginning to end: what is asked for, what is missing of it, what came of it."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from dqn_plugins.comparison.cell import VIDEO, CellJob, cell_folder
from dqn_plugins.comparison.processes import run_tasks
from dqn_plugins.comparison.progress import LiveProgress
from dqn_plugins.comparison.results import STUDY_FILE, flaw_of, read_cell
from dqn_plugins.comparison.settings import ComparisonSettings, RunProtocol
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import ALGORITHMS, TUNED, check_flags, resolve, tuned_file
from dqn_plugins.experiments.environments import say_imports
from dqn_plugins.experiments.names import folder_name, nearest_names
from dqn_plugins.files import output_folder, read_json, write_json

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
    :param command: Command line that stands for it, kept for the report with those before.
    :param console: Where progress is shown; standard error by default.
    :return: What was done and what failed. Report it with
        :func:`~dqn_plugins.comparison.write_report`.
    :raises SettingsError: If a setting is wrong, another run is at work on the folder, or cells in
        it were made with other settings.
    """
    console = console or Console(stderr=True, highlight=False)
    described, cells = plan(settings, console)
    out = output_folder(settings.out)
    try:
        with FileLock(out / LOCK, timeout=0):
            _claim_folder(out, described, command or shlex.join(["python", *sys.argv]), console)
            for leftover in out.glob("*/*/.seed_*"):  # of runs that were cut short
                shutil.rmtree(leftover, ignore_errors=True)
            result, finished = _run(cells, settings, out, console)
            if settings.videos:
                _record_videos(finished, settings, console)
            return result
    except Timeout as error:
        raise SettingsError(
            f"out: another run is at work on {out}. Wait for it, or pass another --out."
        ) from error


def plan(settings: ComparisonSettings, console: Console) -> tuple[dict[str, Any], list[CellJob]]:
    """
    Find out what settings amount to, before anything is trained: the content of ``study.json``, and
    the cells by environment, algorithm and seed.
    """
    settings.check()
    variants = dict(settings.variants)
    names = list(settings.names)
    if TUNED in map(str, settings.zoo):
        # What has settings of its own is left as it is.
        for name in [each for each in names if each in ALGORITHMS and each not in variants]:
            if tuned_file(name) is not None:
                variants[f"{name}_{TUNED}"] = {"algorithm": name, "zoo": TUNED}
                names.insert(names.index(name) + 1, f"{name}_{TUNED}")
    if unnamed := [name for name in variants if name not in names]:
        line = f"{', '.join(unnamed)}: left out, because algo names others."
        console.print(line, markup=False, soft_wrap=True)
    hp = settings.hyperparameters
    files = [path for path in settings.zoo if str(path) != TUNED]
    sources = (variants, settings.environment, files, hp)
    resolved = {
        name: {env_id: resolve(name, env_id, *sources) for env_id in settings.env} for name in names
    }
    for name in names:
        for env_id in variants.get(name, {}).get("environments") or {}:
            if env_id in settings.env:
                continue
            hint = nearest_names(str(env_id), settings.env)
            line = f"{name}: its entry for {env_id!r}, no environment here, is left out.{hint}"
            console.print(line, markup=False, soft_wrap=True)
    everything = [pair for by_env in resolved.values() for pair in by_env.items()]
    check_flags(hp, files, [variant for _, variant in everything])
    say_imports([(env_id, variant.environment) for env_id, variant in everything], console)
    algorithms: dict[str, Any] = {}
    for name, by_env in resolved.items():
        hyperparameters = {env_id: each.described(env_id) for env_id, each in by_env.items()}
        first = by_env[settings.env[0]]
        base = algorithms.get(first.algorithm, {})
        if name == f"{first.algorithm}_{TUNED}" and base.get("hyperparameters") == hyperparameters:
            console.print(f"{name} is left out: these are {first.algorithm}'s defaults.")
            continue
        algorithms[name] = {
            "algorithm": first.algorithm,
            "source": first.source,
            "hyperparameters": hyperparameters,
        }
    run_id = token_hex(4)
    seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
    cells = [
        CellJob(
            cell_folder(settings.out.absolute(), env_id, name, seed),
            run_id,
            resolved[name][env_id],
            env_id,
            seed,
            **settings.protocol,
            hyperparameters=entry["hyperparameters"][env_id],
            tensorboard=settings.tensorboard,
        )
        for env_id in settings.env
        for name, entry in algorithms.items()
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
) -> tuple[ComparisonResult, list[tuple[CellJob, float]]]:
    """Do the cells that are missing. What came of it, and every finished cell's final return."""
    result = ComparisonResult(out)
    missing, finished = [], []
    for cell in cells:
        read = read_cell(out, cell.environment, cell.variant.name, cell.seed)
        if read.status == "finished":
            result.kept.append(cell.name)
            finished.append((cell, read.final_return))
            continue
        missing.append(cell)
        if cell.folder.exists():
            line = f"{cell.name} is {read.status} and is done again. {read.error}".strip()
            console.print(line, markup=False, soft_wrap=True)
            shutil.rmtree(cell.folder)
    if result.kept:
        console.print(f"{len(result.kept)} of {len(cells)} cells are finished already.")
    if missing and not console.is_terminal:  # no bar that would show that something goes on
        console.print(f"Cells to train: {len(missing)}. Each has a line here when it is over.")
    # Long ones first: otherwise the last of them would run while other workers are idle.
    missing.sort(key=lambda cell: -cell.variant.kind.cost)
    with LiveProgress(missing, console) as progress:
        for end in _in_processes([cell.run for cell in missing], settings):
            if end is None:
                progress.look()
                continue
            cell = missing[end[0]]
            problem = cell.put_in_place(end[1])
            if problem is None:
                result.finished.append(cell.name)
                read = read_cell(out, cell.environment, cell.variant.name, cell.seed)
                if read.status == "finished":
                    finished.append((cell, read.final_return))
            else:
                result.failed[cell.name] = problem
            progress.report(cell, problem)
    return result, finished


def _in_processes(
    tasks: Sequence[Callable[[], None]], settings: ComparisonSettings
) -> Iterable[tuple[int, str | None] | None]:
    where = (settings.jobs, settings.backend, settings.dask_address, settings.cell_timeout)
    return run_tasks(tasks, *where) if tasks else ()


def _record_videos(
    finished: list[tuple[CellJob, float]], settings: ComparisonSettings, console: Console
) -> None:
    """Record the best seed of each algorithm, where that was not done before."""
    # The last of each algorithm on an environment stays; of seeds that are equal, the first.
    ascending = sorted(finished, key=lambda each: (each[1], -each[0].seed))
    best = {cell.folder.parent: cell for cell, _ in ascending}.values()
    missing = [cell for cell in best if not (cell.folder / VIDEO).exists()]
    # Only where every algorithm has Q-values: panels of different content invite no comparison.
    with_q_values = all(cell.variant.kind.values == "Q" for cell in best)
    tasks = [partial(cell.record_video, with_q_values) for cell in missing]
    with console.status(f"Recording {len(missing)} episodes"):
        for _ in _in_processes(tasks, settings):
            pass


def _claim_folder(out: Path, wanted: dict[str, Any], command: str, console: Console) -> None:
    """Make the folder this study's, or add to the study that is there."""
    file = out / STUDY_FILE
    present = read_json(file)
    if flaw_of(present):
        present = {}
        others = sorted(path.name for path in out.iterdir() if path.name != LOCK)
        if others and not (file.exists() or any(out.glob("*/*/seed_*/settings.json"))):
            raise SettingsError(
                f"out: {out} holds {', '.join(others[:3])} and no study. Pass a folder that is "
                "empty or not there yet."
            )
        if file.exists():
            console.print(f"{file} is damaged and is written anew.", markup=False, soft_wrap=True)
    differences = set()
    for path in out.glob("*/*/seed_*/settings.json"):
        there = read_json(path)
        if not there or (path.parent / "failure.json").exists():  # done again
            continue
        asked = {each.name: wanted[each.name] for each in fields(RunProtocol)}
        algorithm, environment = there.get("algorithm", ""), there.get("environment", "")
        by_env = wanted["algorithms"].get(algorithm, {}).get("hyperparameters", {})
        if environment in by_env:
            asked["hyperparameters"] = by_env[environment]
        known = {key: there.get(key, _NOTHING) for key in asked}
        differences |= {*_differences(known, asked, f"{algorithm} on {environment}")}
    if differences:
        raise SettingsError(
            f"out: {out} holds cells with other settings:\n  "
            + "\n  ".join(sorted(differences))
            + "\nPass another --out, or the settings of the cells that are there."
        )
    earlier = present.get("algorithms", {})
    algorithms = {**earlier, **wanted["algorithms"]}
    for name, variant in algorithms.items():
        known = earlier.get(name, {}).get("hyperparameters", {})
        variant["hyperparameters"] = {**known, **variant["hyperparameters"]}
    merged = {
        **wanted,
        "environments": _union(present.get("environments", ()), wanted["environments"]),
        "algorithms": algorithms,
        "seeds": sorted(_union(present.get("seeds", ()), wanted["seeds"])),
    }
    reference = wanted["reference"] or present.get("reference")
    if reference is not None and reference not in merged["algorithms"]:
        hint = nearest_names(str(reference), merged["algorithms"])
        raise SettingsError(f"reference: received {reference!r}, which is not compared.{hint}")
    # All that the study grew by, a line each.
    earlier = str(present.get("command", ""))
    commands = earlier if f"\n{command}\n" in f"\n{earlier}\n" else f"{earlier}\n{command}".strip()
    write_json(file, {**merged, "reference": reference, "command": commands})


def _union(present: Iterable[Any], wanted: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys([*present, *wanted]))


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
