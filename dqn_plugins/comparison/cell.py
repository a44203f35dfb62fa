"""One cell of a study: one algorithm on one environment with one seed, in a folder of its own."""

import csv
import faulthandler
import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dqn_plugins.comparison.settings import RunProtocol
from dqn_plugins.experiments.algorithms import Variant, make_model
from dqn_plugins.experiments.environments import (
    TrainingEnvironment,
    load_normalization,
    make_environment,
    save_normalization,
)
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.rollout import Episode, Player, save_episodes, save_evaluations
from dqn_plugins.experiments.running import (
    FIRST_EVALUATION_SEED,
    FIRST_FINAL_EVALUATION_SEED,
    installed_versions,
    one_torch_thread,
)
from dqn_plugins.experiments.training_clock import TrainingClock
from dqn_plugins.files import read_json, write_json

__all__ = ["CellJob", "cell_folder", "cell_name", "damaged_files", "identity_of"]

MIB = 2**20
LOOKS_PER_RUN = 100
PROGRESS = "progress.json"
NOTHING_YET = {"progress": 0.0, "steps": 0, "last_return": None, "is_compiling": False}
OUTPUT = "output.txt"
NORMALIZATION = "vecnormalize.npz"  # as `train` and `record` call it
# Added to a cell when it is finished.
VIDEO, VIDEO_FACTS = "episode.mp4", "episode.json"
# A longer video would tire its viewer.
MOST_SECONDS = 40


@dataclass(frozen=True)
class CellJob(RunProtocol):
    """
    What it takes to do one cell of a study in another process.

    :param folder: Where its files go; made when it is finished.
    :param run_id: Of the run that does it: two runs never share a working folder.
    :param variant: What is trained.
    :param environment: Id of the environment.
    :param seed: Seed of the training.
    :param hyperparameters: All that was chosen, and all defaults, readable.
    :param tensorboard: Whether TensorBoard's files are written.
    """

    folder: Path
    run_id: str
    variant: Variant
    environment: str
    seed: int
    hyperparameters: dict[str, Any]
    tensorboard: bool

    @property
    def name(self) -> str:
        """What people call it."""
        return cell_name(self.variant.name, self.environment, self.seed)

    @property
    def working_folder(self) -> Path:
        """The hidden sibling of the cell's folder in which it is worked on."""
        return self.folder.with_name(f".{self.folder.name}.{self.run_id}")

    def described(self) -> dict[str, Any]:
        """Return everything that decides the cell's results, readable, and its identity."""
        values = {
            "algorithm": self.variant.name,
            "algorithm_class": self.variant.kind.class_name,
            "environment": self.environment,
            "seed": self.seed,
            "hyperparameters": self.hyperparameters,
            **self.protocol,
        }
        return {**values, "identity": identity_of(values)}

    def run(self) -> None:
        """
        Train and evaluate in the working folder, in a process that does nothing else. As
        :meth:`put_in_place` renames it, the cell's folder is whole or not there, whatever happens.
        """
        folder = self.working_folder
        # A cluster whose worker died runs its cell anew on another.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / "settings.json", self.described())
        write_json(folder / "versions.json", installed_versions())
        # What environments print would tear the progress bars, and is looked for after a crash.
        _send_output_to(folder / OUTPUT)
        try:
            with one_torch_thread():
                _train_and_evaluate(self, folder)
        except Exception as error:
            _write_failure(folder, f"{type(error).__name__}: {error}", traceback.format_exc())

    def put_in_place(self, problem: str | None) -> str | None:
        """
        Move what the process left to its place.

        :param problem: What became of the process if it did not end by itself.
        :return: Why the cell failed; None if it is finished.
        """
        folder = self.working_folder
        if not (folder / "failure.json").exists() and not (folder / "timings.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            problem = problem or "its process ended before it was finished"
            output = folder / OUTPUT
            said = output.read_text(errors="replace")[-20_000:] if output.exists() else ""
            _write_failure(folder, problem, said)
        (folder / PROGRESS).unlink(missing_ok=True)
        failure = read_json(folder / "failure.json").get("error")
        if failure is None:
            digests = {
                path.name: _digest(path) for path in sorted(folder.iterdir()) if path.is_file()
            }
            finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
            write_json(folder / "done.json", {"finished": finished, "sha256": digests})
        folder.rename(self.folder)
        return failure

    def record_video(self, with_q_values: bool) -> None:
        """
        Record the first episode of the final evaluation, once the cell is finished. The model is
        made anew, and only its weights are read from the file, without unpickling.
        """
        folder = self.folder
        if multiprocessing.parent_process() is not None:
            _send_output_to(Path(os.devnull))
        for name in (VIDEO, VIDEO_FACTS):
            (folder / name).unlink(missing_ok=True)
        seed = FIRST_FINAL_EVALUATION_SEED
        try:
            player = Player(
                self.environment,
                self.variant.environment,
                self.max_episode_steps,
                render_mode="rgb_array",
            )
            if player.normalization is not None:
                load_normalization(player.normalization, folder / NORMALIZATION)
            model = make_model(self.variant, player.venv, self.seed)
            model.set_parameters(folder / "model.zip", device="cpu")
            fps = player.envs[0].metadata.get("render_fps") or 30
            _, episode = player.record(
                model, seed, folder / VIDEO, with_q_values, most_frames=MOST_SECONDS * fps
            )
            player.close()
            facts = {"shown": min(episode.length, int(MOST_SECONDS * fps)), **asdict(episode)}
        except Exception as error:  # whatever a renderer raises, the figures stand
            facts = {"error": f"{type(error).__name__}: {error}"}
        write_json(folder / VIDEO_FACTS, facts)


def _send_output_to(path: Path) -> None:
    """Send what this process and its libraries print to a file."""
    output = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.stdout = sys.stderr = os.fdopen(output, "a", buffering=1)
    faulthandler.enable()


def _write_failure(folder: Path, problem: str, details: str) -> None:
    write_json(folder / "failure.json", {"error": problem, "traceback": details})


def _train_and_evaluate(cell: CellJob, folder: Path) -> None:
    watch = _Watch(folder)
    _warm_up(cell, watch)
    player = Player(
        cell.environment,
        cell.variant.environment,
        cell.max_episode_steps,
        max(cell.evaluation_episodes, cell.final_evaluation_episodes),
    )
    evaluations: list[tuple[int, float, list[Episode]]] = []
    seeds = range(FIRST_EVALUATION_SEED, FIRST_EVALUATION_SEED + cell.evaluation_episodes)

    def evaluate() -> None:
        played = player.play(model, seeds)
        evaluations.append((clock.steps, clock.cpu_seconds, played))
        save_evaluations(evaluations, folder / "evaluations.npz")
        watch.last_return = float(np.mean([episode.episode_return for episode in played]))
        if cell.tensorboard:
            model.logger.record("eval/mean_reward", watch.last_return)
        look()

    def look() -> None:
        watch.look(clock.progress, clock.steps)

    environment = TrainingEnvironment(cell.environment, cell.variant, folder / "episodes")
    if environment.normalization is not None:
        player.normalization.obs_rms = environment.normalization.obs_rms
    clock = TrainingClock(cell.timesteps, cell.cpu_seconds)
    budget = cell.timesteps or cell.cpu_seconds
    assert budget is not None
    # The last evaluation is that of the trained model.
    clock.every(budget / cell.evaluations, evaluate, cell.evaluations - 1)
    clock.every(budget / LOOKS_PER_RUN, look)
    tensorboard = str(folder / "tensorboard") if cell.tensorboard else None
    clock.attached_to(environment.rewards)
    model = make_model(cell.variant, environment.env, cell.seed, tensorboard)
    gc.collect()
    watch.begin()
    clock.train(model)
    with clock.paused():
        evaluate()
    model.save(folder / "model.zip")
    if environment.normalization is not None:
        save_normalization(environment.normalization, folder / NORMALIZATION)
    environment.env.close()
    for path in folder.glob("episodes.*monitor.csv"):
        path.rename(path.with_name(path.name.replace(".monitor", "")))
    final_seeds = range(
        FIRST_FINAL_EVALUATION_SEED, FIRST_FINAL_EVALUATION_SEED + cell.final_evaluation_episodes
    )
    final = player.play(model, final_seeds)
    save_episodes(final, folder / "final_evaluation.csv")
    player.close()
    played = [*final, *chain.from_iterable(episodes for *_, episodes in evaluations)]
    _refuse_what_is_not_finite(folder, model, played)
    timings = {
        "training_steps": clock.steps,
        "training_cpu_seconds": clock.cpu_seconds,
        "training_wall_seconds": clock.wall_seconds,
        "evaluation_cpu_seconds": clock.paused_cpu_seconds,
        "steps_per_cpu_second": clock.steps / max(clock.cpu_seconds, 1e-9),
        "memory_growth_mib": watch.memory_growth / MIB,
        "peak_memory_mib": watch.peak_memory / MIB,
    }
    write_json(folder / "timings.json", timings)


def _refuse_what_is_not_finite(folder: Path, model: Any, played: Sequence[Episode]) -> None:
    """Fail where a return or a weight is NaN or infinite, which Stable-Baselines3 goes on with."""
    logs = [log.read_text().splitlines()[1:] for log in sorted(folder.glob("episodes*.csv"))]
    trained = [float(row["r"]) for log in logs for row in csv.DictReader(log)]
    evaluated = [episode.episode_return for episode in played]
    for name, returns in (("training", trained), ("evaluation", evaluated)):
        wrong = [value for value in returns if not np.isfinite(value)]
        if wrong:
            raise ValueError(
                f"{name}: received a return of {wrong[0]} in {len(wrong)} of {len(returns)} "
                "episodes, it must be finite. Find where the environment divides by zero or "
                "overflows, or clip its rewards."
            )
    if not all(bool(weights.isfinite().all()) for weights in model.policy.parameters()):
        raise ValueError(
            "training: received weights that are NaN or infinite, they must be finite. Lower the "
            "learning rate or scale the rewards down, and look for observations that overflow."
        )


def _warm_up(cell: CellJob, watch: "_Watch") -> None:
    """Load compiled code, or compile it, before the clock runs."""
    if cell.variant.kind.is_ours:
        from dqn_plugins.learning import compilation_observers

        compilation_observers.add(watch)
        env = make_environment(cell.environment, cell.variant.environment)
        make_model(cell.variant, env, seed=0).learn(2)
        env.close()


class _Watch:
    """Tells the run how far a cell is, and measures memory."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS
        self.process = psutil.Process()
        self.last_return: float | None = None
        self.memory_growth = self.peak_memory = 0

    def begin(self) -> None:
        self.memory_at_start = self.process.memory_info().rss
        self.look(0.0, 0)

    def on_compilation(self, is_compiling: bool) -> None:
        write_json(self.path, {**NOTHING_YET, "is_compiling": is_compiling})

    def look(self, progress: float, steps: int) -> None:
        memory = self.process.memory_info().rss
        self.memory_growth = memory - self.memory_at_start
        self.peak_memory = max(self.peak_memory, memory)
        state = {"progress": progress, "steps": steps, "last_return": self.last_return}
        write_json(self.path, NOTHING_YET | state)


def identity_of(settings: Mapping[str, Any]) -> str:
    """
    Tell a cell from all others by what decides its results, wherever it was run: a hash of its
    ``settings.json``, but for the name that people gave the variant.
    """
    values = {key: value for key, value in settings.items() if key not in ("identity", "algorithm")}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def cell_folder(root: Path, environment: str, algorithm: str, seed: int) -> Path:
    """Name the folder of a cell of the study in the folder ``root``."""
    return root / folder_name(environment) / algorithm / f"seed_{seed}"


def cell_name(algorithm: str, environment: str, seed: int) -> str:
    """Return what people call a cell."""
    return f"{algorithm} · {environment} · seed {seed}"


def damaged_files(folder: Path) -> list[str]:
    """Name the files of a finished cell that are not what they were when it was finished."""
    digests = json.loads((folder / "done.json").read_text())["sha256"]
    return [name for name, digest in digests.items() if _digest(folder / name) != digest]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
