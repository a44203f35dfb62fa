"""What a comparison left on disk, read as it is."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from dqn_plugins.comparison.cell import (
    VIDEO,
    VIDEO_FACTS,
    cell_folder,
    cell_name,
    damaged_files,
    identity_of,
)
from dqn_plugins.errors import SettingsError
from dqn_plugins.files import read_json

__all__ = [
    "Cell",
    "CellStatus",
    "Evaluations",
    "StudyResults",
    "flaw_of",
    "put_together",
    "read_study",
]

FloatArray: TypeAlias = npt.NDArray[np.float64]
CellStatus: TypeAlias = Literal["finished", "failed", "unfinished", "missing", "damaged"]

STUDY_FILE = "study.json"
# What NumPy, pandas and json raise about files that were cut short or written over.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile)


class Evaluations(NamedTuple):
    """
    The periodic greedy evaluations of one run, in the order they were taken.

    :param steps: Environment steps trained until then, shape (n_evaluations,).
    :param cpu_seconds: CPU seconds trained until then, evaluation kept out, same shape.
    :param episodes: Return of each episode, shape (n_evaluations, n_episodes).
    :param lengths: Its length, same shape.
    """

    steps: FloatArray
    cpu_seconds: FloatArray
    episodes: FloatArray
    lengths: FloatArray

    @property
    def returns(self) -> FloatArray:
        """Mean return of each evaluation's episodes, shape (n_evaluations,)."""
        means: FloatArray = self.episodes.mean(axis=1)
        return means


@dataclass(frozen=True)
class Cell:
    """
    One run: an algorithm on an environment with a seed.

    :param environment: Id of the environment.
    :param algorithm: Name of the variant.
    :param seed: Of the training.
    :param folder: Where its files are, or would be.
    :param status: What became of it. Only finished cells enter a statistic; damaged ones are marked
        as finished, but cannot be read.
    :param error: Why it failed or is damaged, in one line.
    :param traceback: Of the failure.
    :param settings: Content of its ``settings.json``, empty if that is not there.
    :param versions: Content of its ``versions.json``, likewise.
    :param timings: Content of its ``timings.json``, likewise.
    :param evaluations: What was evaluated during training, None if nothing was.
    :param final_episodes: The greedy evaluation at the end: columns episode, seed, return, length.
    """

    environment: str
    algorithm: str
    seed: int
    folder: Path
    status: CellStatus
    error: str = ""
    traceback: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    evaluations: Evaluations | None = None
    final_episodes: pd.DataFrame | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return cell_name(self.algorithm, self.environment, self.seed)

    @property
    def final_return(self) -> float:
        """Mean return of the greedy episodes at the end of a finished cell."""
        assert self.final_episodes is not None
        return float(self.final_episodes["return"].mean())

    @property
    def identity(self) -> str:
        """What tells it from all other cells, see :func:`~.cell.identity_of`."""
        return str(self.settings.get("identity") or identity_of(self.settings))

    @property
    def video(self) -> Path | None:
        """The recording of its first final episode, if there is one."""
        file = self.folder / VIDEO
        return file if file.is_file() else None

    @property
    def video_facts(self) -> dict[str, Any]:
        """What is in the recording, or why there is none; empty if nothing was recorded."""
        return read_json(self.folder / VIDEO_FACTS)


@dataclass(frozen=True)
class StudyResults:
    """
    All cells that a study asks for, whatever became of them.

    :param folder: Of the study.
    :param settings: Content of ``study.json``.
    :param environments: Ids, in the study's order.
    :param algorithms: Names of the variants, in the study's order.
    :param seeds: Of the trainings.
    :param cells: One per environment, algorithm and seed, in that order.
    :param reference: The algorithm that the others are compared with.
    :param strangers: Folders that look like cells but that the study does not ask for.
    """

    folder: Path
    settings: Mapping[str, Any]
    environments: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    reference: str
    strangers: tuple[Path, ...] = ()

    def finished(self, environment: str, algorithm: str) -> list[Cell]:
        """Return the seeds of an algorithm that statistics may be made of, in their order."""
        wanted = (environment, algorithm, "finished")
        return [it for it in self.cells if (it.environment, it.algorithm, it.status) == wanted]

    def source_of(self, algorithm: str) -> str:
        """Say where its settings are from; empty where an earlier version did not note it."""
        return str(self.settings["algorithms"][algorithm].get("source", ""))

    @property
    def troubled(self) -> list[Cell]:
        """The cells that are not finished, for whatever reason."""
        return [cell for cell in self.cells if cell.status != "finished"]


def read_study(folder: Path | str, reference: str | None = None) -> StudyResults:
    """
    Read a study and every cell it asks for, finished or not.

    :param folder: What ``compare`` was given as ``--out``.
    :param reference: The algorithm that the others are compared with; by default the one that
        ``compare`` was given, else the first that is not "random".
    :return: The study; nothing in it is averaged or left out.
    :raises SettingsError: If there is no study in the folder, or no such reference in it.
    """
    root = Path(folder)
    file = root / STUDY_FILE
    if not file.is_file():
        raise SettingsError(
            f"folder: received {str(folder)!r}, which holds no {STUDY_FILE}, so there is no "
            "comparison to report. Pass the folder that `dqn-plugins compare` was given as --out."
        )
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
        if flaw := flaw_of(settings):
            raise ValueError(flaw)
    except ValueError as error:
        raise SettingsError(
            f"folder: {str(file)!r} is not the description of a comparison "
            f"({type(error).__name__}: {error}). Run the comparison again with the same --out: it "
            "writes the file anew and keeps finished cells."
        ) from error
    names = ("environments", "algorithms", "seeds")
    environments, algorithms, seeds = (tuple(settings[name]) for name in names)
    reference = _reference(algorithms, reference or settings.get("reference"))
    cells = tuple(
        read_cell(root, environment, algorithm, seed)
        for environment in environments
        for algorithm in algorithms
        for seed in seeds
    )
    strangers = set(root.glob("*/*/seed_*")) - {cell.folder for cell in cells}
    return StudyResults(
        root, settings, environments, algorithms, seeds, cells, reference, tuple(sorted(strangers))
    )


def flaw_of(settings: Any) -> str:
    """
    Look whether a study is described.

    :param settings: Content of a ``study.json``.
    :return: What of it is not of the form it must have; empty if nothing.
    """
    if not isinstance(settings, dict):
        return f"it is {settings!r:.80}"
    for name, kind, kind_of_each in (
        ("environments", list, str),
        ("algorithms", dict, dict),
        ("seeds", list, int),
    ):
        value: Any = settings.get(name)
        each = value.values() if isinstance(value, dict) else value
        if not (isinstance(value, kind) and value and {*map(type, each)} == {kind_of_each}):
            return f"its {name} are {value!r:.80}"
    return ""


def _reference(algorithms: tuple[str, ...], wanted: str | None) -> str:
    if wanted is not None and wanted not in algorithms:
        raise SettingsError(
            f"reference: received {wanted!r}, it must be one of {', '.join(algorithms)}."
        )
    return wanted or next((name for name in algorithms if name != "random"), algorithms[0])


def put_together(
    studies: Sequence[StudyResults], out: Path, reference: str | None = None
) -> StudyResults:
    """
    Make one study of several, each cell once. Where one name stands for other settings in a later
    study, that study's folder is added to the name, and a number where that stands for others, too.

    :param studies: The studies, at least one.
    :param out: Folder of what is written about them.
    :param reference: As for :func:`read_study`.
    :return: All their cells; the environments, algorithms and seeds of any.
    :raises SettingsError: If there is no such reference.
    """
    known: dict[tuple[str, str], str] = {}  # identity of a name on an environment, as seed 0
    cells: dict[tuple[str, str, int], Cell] = {}
    algorithms: dict[str, Any] = {}
    for study in studies:
        kinds = {
            (cell.environment, cell.algorithm): identity_of({**cell.settings, "seed": 0})
            for cell in study.cells
            if cell.settings
        }
        names = {name: _name_among(known, kinds, name, study.folder) for name in study.algorithms}
        for cell in study.cells:
            renamed = replace(cell, algorithm=names[cell.algorithm])
            key = (cell.environment, renamed.algorithm, cell.seed)
            if cells.setdefault(key, renamed).status != "finished" == renamed.status:
                cells[key] = renamed
        for name in study.algorithms:
            algorithms.setdefault(names[name], study.settings["algorithms"][name])
        known |= {(environment, names[name]): kind for (environment, name), kind in kinds.items()}
    environments = tuple(dict.fromkeys(each for study in studies for each in study.environments))
    first, *rest = (study.settings for study in studies)
    shared = {
        key: value for key, value in first.items() if all(value == it.get(key) for it in rest)
    }
    commands = dict.fromkeys(str(study.settings.get("command", "")) for study in studies)
    order = {name: place for place, name in enumerate([*environments, *algorithms])}
    return StudyResults(
        out,
        {**shared, "algorithms": algorithms, "command": "\n".join(filter(None, commands))},
        environments,
        tuple(algorithms),
        tuple(sorted({cell.seed for cell in cells.values()})),
        tuple(cells[key] for key in sorted(cells, key=lambda k: (order[k[0]], order[k[1]], k[2]))),
        _reference(tuple(algorithms), reference or studies[0].reference),
        tuple(stranger for study in studies for stranger in study.strangers),
    )


def _name_among(
    known: Mapping[tuple[str, str], str],
    kinds: Mapping[tuple[str, str], str],
    name: str,
    folder: Path,
) -> str:
    """The first name, of those that an algorithm may have, that stands for no other settings."""
    mine = {environment: kind for (environment, each), kind in kinds.items() if each == name}
    place = folder.resolve().name
    numbered = (f"{name} ({place} {number})" for number in count(2))
    return next(
        each
        for each in chain((name, f"{name} ({place})"), numbered)
        if all(known.get((environment, each), kind) == kind for environment, kind in mine.items())
    )


def read_cell(root: Path, environment: str, algorithm: str, seed: int) -> Cell:
    """Read one cell of the study in the folder ``root``, whatever state it is in."""
    folder = cell_folder(root, environment, algorithm, seed)
    status: CellStatus = "unfinished"
    # A cell is worked on in a hidden folder beside its place, until it is whole.
    begun = [folder] if folder.is_dir() else sorted(folder.parent.glob(f".{folder.name}.*"))
    failure = read_json(folder / "failure.json")
    if (folder / "failure.json").is_file():
        status = "failed"
        failure.setdefault("error", "unknown, its failure.json cannot be read")
    cell = Cell(
        environment,
        algorithm,
        seed,
        folder,
        status if begun else "missing",
        error=str(failure.get("error", "")),
        traceback=str(failure.get("traceback", "")),
        settings=read_json(folder / "settings.json"),
        versions=read_json(folder / "versions.json"),
    )
    if cell.status != "unfinished" or not (folder / "done.json").is_file():
        with suppress(*UNREADABLE):
            cell = replace(cell, evaluations=_read_evaluations(begun[-1] / "evaluations.npz"))
        return cell
    try:
        if damaged := damaged_files(folder):
            raise ValueError(f"{', '.join(damaged)} was changed after the run was finished")
        timings = json.loads((folder / "timings.json").read_text(encoding="utf-8"))
        return replace(
            cell,
            status="finished",
            timings={name: float(value) for name, value in timings.items() if value is not None},
            evaluations=_read_evaluations(folder / "evaluations.npz"),
            final_episodes=_read_final_episodes(folder / "final_evaluation.csv"),
        )
    except UNREADABLE as error:
        return replace(cell, status="damaged", error=f"{type(error).__name__}: {error}")


def _read_evaluations(file: Path) -> Evaluations | None:
    if not file.is_file():  # a study may ask for none
        return None
    with np.load(file, allow_pickle=False) as content:
        names = ("timesteps", "cpu_seconds", "results", "ep_lengths")
        read = Evaluations(*(np.asarray(content[name], dtype=np.float64) for name in names))
    if not np.isfinite(read.episodes).all():
        raise ValueError(f"{file.name} holds returns that are not finite")
    return read


def _read_final_episodes(file: Path) -> pd.DataFrame:
    episodes = pd.read_csv(file)
    if episodes.empty or not np.isfinite(episodes["return"].to_numpy(dtype=np.float64)).all():
        raise ValueError(f"{file.name} holds no episode, or returns that are not finite")
    return episodes
