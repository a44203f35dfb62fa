"""One cell of a study: one algorithm on one environment with one seed, in a folder of its own."""

import gc
import hashlib
import json
import os
import shutil
import threading
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil

from dqn_plugins.experiments.algorithms import Variant, make_model
from dqn_plugins.experiments.environments import make_environment
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.running import installed_versions, one_torch_thread
from dqn_plugins.experiments.seeds import FIRST_FINAL_EVALUATION_SEED
from dqn_plugins.files import write_json

__all__ = ["CellJob", "cell_folder", "damaged_files", "reason_to_redo", "run_cell"]

MIB = 2**20
PROGRESS = "progress.json"
TRAINING_LOG = "episodes.monitor.csv"

# Random numbers, CPU seconds and memory are a whole process's: in a cluster whose workers have
# several threads, cells take turns.
_one_cell_per_process = threading.Lock()
_warmed_up: set[str] = set()


@dataclass(frozen=True)
class CellJob:
    """
    What it takes to do one cell of a study in another process.

    :param folder: Where its files go; made when it is finished.
    :param variant: What is trained.
    :param environment: Id of the environment.
    :param seed: Seed of the training.
    :param timesteps: Budget in environment steps, None if it is CPU seconds.
    :param cpu_seconds: Budget in CPU seconds, None if it is steps.
    :param evaluations: Number of periodic evaluations.
    :param evaluation: How these are taken: "every", "episodes" and "seed".
    :param final_evaluation_episodes: Episodes of the evaluation at the end.
    :param hyperparameters: All hyperparameters, readable.
    """

    folder: Path
    variant: Variant
    environment: str
    seed: int
    timesteps: int | None
    cpu_seconds: float | None
    evaluations: int
    evaluation: dict[str, Any]
    final_evaluation_episodes: int
    hyperparameters: dict[str, Any]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.variant.name} · {self.environment} · seed {self.seed}"

    def described(self) -> dict[str, Any]:
        """
        Describe the cell for its ``settings.json``.

        :return: Everything that decides its results, readable.
        """
        return {
            "algorithm": self.variant.name,
            "algorithm_class": self.variant.class_name,
            "environment": self.environment,
            "seed": self.seed,
            "timesteps": self.timesteps,
            "cpu_seconds": self.cpu_seconds,
            "hyperparameters": self.hyperparameters,
            "evaluation": self.evaluation,
            "final_evaluation_episodes": self.final_evaluation_episodes,
        }

    def working_folder(self, run_id: str) -> Path:
        """
        Name the folder in which the cell is worked on.

        :param run_id: Of the run that does it. Two runs never share a folder, so that a worker
            that outlived its run cannot spoil what the next one does.
        :return: A hidden sibling of the cell's folder.
        """
        return self.folder.with_name(f".{self.folder.name}.{run_id}")


def run_cell(cell: CellJob, run_id: str, owner: int) -> str | None:
    """
    Train, evaluate, and write the cell's folder.

    The files are written to a hidden folder beside it, which is renamed at the end: whatever ends
    the process, the cell's folder is either whole or not there.

    :param cell: What to do.
    :param run_id: Of the run that asks for it.
    :param owner: Process that asks for it. If this process is its child and it is gone, the cell
        is given up.
    :return: None, or the error if there was one; its traceback is in ``failure.json``.
    """
    with _one_cell_per_process, one_torch_thread():
        folder = cell.working_folder(run_id)
        folder.mkdir(parents=True)
        write_json(folder / "settings.json", cell.described())
        write_json(folder / "versions.json", installed_versions())
        problem = None
        try:
            _train_and_evaluate(cell, folder, _Watch(folder, owner))
            _mark_finished(folder)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            (folder / PROGRESS).unlink(missing_ok=True)
            report = {"error": problem, "traceback": traceback.format_exc()}
            write_json(folder / "failure.json", report)
        _put_in_place(folder, cell.folder)
        return problem


def _train_and_evaluate(cell: CellJob, folder: Path, watch: "_Watch") -> None:
    from dqn_plugins.experiments.rollout import EvaluationLog, play_episodes, save_episodes
    from dqn_plugins.experiments.training_clock import TrainingClock
    from dqn_plugins.wrappers import EpisodeReward

    _warm_up(cell)
    first_seed, episodes = cell.evaluation["seed"], cell.evaluation["episodes"]
    seeds = range(first_seed, first_seed + episodes)
    evaluation_envs = [make_environment(cell.environment) for _ in seeds]
    evaluations = EvaluationLog()

    def evaluate() -> None:
        played = play_episodes(model, evaluation_envs, seeds)
        evaluations.add(clock.steps, clock.cpu_seconds, played)
        watch.last_return = sum(episode.episode_return for episode in played) / episodes
        look()

    def look() -> None:
        watch.look(clock.progress, clock.steps)

    env = EpisodeReward(make_environment(cell.environment), log_file=folder / TRAINING_LOG)
    clock = TrainingClock(env, cell.timesteps, cell.cpu_seconds, cell.evaluations, evaluate, look)
    model = make_model(cell.variant, clock, cell.seed)
    gc.collect()
    watch.begin()
    clock.train(model)
    if clock.steps not in evaluations.timesteps:
        clock.evaluate()
    look()
    if cell.variant.algorithm != "random":
        model.save(folder / "model.zip")
    for each in (clock, *evaluation_envs):
        each.close()
    (folder / TRAINING_LOG).rename(folder / "episodes.csv")
    evaluations.save(folder / "evaluations.npz")
    timings = {
        "training_steps": clock.steps,
        "training_cpu_seconds": clock.cpu_seconds,
        "training_wall_seconds": clock.wall_seconds,
        "evaluation_cpu_seconds": clock.evaluation_cpu_seconds,
        "steps_per_cpu_second": clock.steps / max(clock.cpu_seconds, 1e-9),
        "memory_growth_mib": watch.memory_growth / MIB,
        "peak_memory_mib": watch.peak_memory / MIB,
    }
    write_json(folder / "timings.json", timings)

    last_seed = FIRST_FINAL_EVALUATION_SEED + cell.final_evaluation_episodes
    final_seeds = range(FIRST_FINAL_EVALUATION_SEED, last_seed)
    final_envs = [make_environment(cell.environment) for _ in final_seeds]
    save_episodes(play_episodes(model, final_envs, final_seeds), folder / "final_evaluation.csv")
    for each in final_envs:
        each.close()


def _warm_up(cell: CellJob) -> None:
    """Load compiled code before the clock runs: once per process and algorithm."""
    if cell.variant.class_name in ("NaiveDQN", "StreamQ"):
        if cell.variant.algorithm in _warmed_up:
            return
        env = make_environment(cell.environment)
        make_model(cell.variant, env, seed=0).learn(2)
        env.close()
        _warmed_up.add(cell.variant.algorithm)


class _Watch:
    """
    Tells the run how far a cell is, measures memory, and notices when nobody waits any more.

    :param folder: Where the cell is worked on.
    :param owner: Process that asked for the cell.
    """

    def __init__(self, folder: Path, owner: int) -> None:
        self.path = folder / PROGRESS
        self.owner = owner if os.getppid() == owner else None
        self.process = psutil.Process()
        self.last_return: float | None = None
        self.memory_growth = 0
        self.peak_memory = 0

    def begin(self) -> None:
        self.memory_at_start = self.process.memory_info().rss
        self.look(0.0, 0)

    def look(self, progress: float, steps: int) -> None:
        """
        Take notice of how far the cell is.

        :param progress: Fraction of the budget that is spent.
        :param steps: Environment steps done.
        """
        if self.owner is not None and os.getppid() != self.owner:
            # Nobody is left to tell, and the next run does this cell anew.
            os._exit(1)
        memory = self.process.memory_info().rss
        self.memory_growth = memory - self.memory_at_start
        self.peak_memory = max(self.peak_memory, memory)
        state = {"progress": progress, "steps": steps, "last_return": self.last_return}
        write_json(self.path, state)


def _mark_finished(folder: Path) -> None:
    (folder / PROGRESS).unlink()
    digests = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    write_json(folder / "done.json", {"finished": finished, "sha256": digests})


def _put_in_place(folder: Path, place: Path) -> None:
    if place.exists():  # a worker that outlived an earlier run was faster
        shutil.rmtree(folder)
    else:
        folder.rename(place)


def cell_folder(root: Path, environment: str, algorithm: str, seed: int) -> Path:
    """
    Where a cell's files are.

    :param root: Folder of the study.
    :param environment: Its id.
    :param algorithm: Name of the variant.
    :param seed: Of the training.
    :return: The folder, which may not exist.
    """
    return root / folder_name(environment) / algorithm / f"seed_{seed}"


def damaged_files(folder: Path) -> list[str]:
    """
    Find the files of a finished cell that are not what they were when it was finished.

    :param folder: Of the cell.
    :return: Their names.
    :raises OSError: If one is not there.
    :raises ValueError: If ``done.json`` cannot be read.
    """
    digests = json.loads((folder / "done.json").read_text())["sha256"]
    return [name for name, digest in digests.items() if _digest(folder / name) != digest]


def reason_to_redo(cell: CellJob) -> str | None:
    """
    Look whether a cell's folder can be kept.

    :param cell: The cell.
    :return: None if it is finished and whole; otherwise what is the matter with it, "" if it is
        not there.
    """
    if not cell.folder.exists():
        return ""
    if (cell.folder / "failure.json").exists():
        return "it failed"
    try:
        damaged = damaged_files(cell.folder)
        settings = json.loads((cell.folder / "settings.json").read_text())
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({type(error).__name__}: {error})"
    if damaged:
        return f"{', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged"
    if settings != json.loads(json.dumps(cell.described())):
        return "it was made with other settings"
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
