"""Studies with results that are made up, written to disk by what writes real ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from dqn_plugins.comparison.cell import CellJob, _write_failure, cell_folder
from dqn_plugins.comparison.settings import ComparisonSettings
from dqn_plugins.comparison.study import _claim_folder, plan
from dqn_plugins.experiments.algorithms import ALGORITHMS
from dqn_plugins.experiments.rollout import Episode, save_episodes, save_evaluations
from dqn_plugins.files import write_json

__all__ = ["fail_cell", "finish_cell", "write_study"]

VERSIONS = {"python": "3.12.1", "dqn_plugins": "0.1.0", "gymnasium": "1.2.0", "platform": "Linux"}
TEMPLATES: dict[Path, CellJob] = {}


def write_study(
    folder: Path,
    environments: Sequence[str] = ("CartPole-v1",),
    algorithms: Sequence[str] = ("stream_q", "dqn", "random"),
    seeds: int = 5,
    timesteps: int = 10_000,
) -> Path:
    """``study.json`` alone, without any cell. Names that are no algorithm's are random actions."""
    settings = ComparisonSettings(
        env=tuple(environments),
        algo=tuple(algorithms),
        seeds=seeds,
        timesteps=timesteps,
        final_evaluation_episodes=4,
        out=folder,
        variants={name: {"algorithm": "random"} for name in algorithms if name not in ALGORITHMS},
    )
    described, cells = plan(settings, Console(quiet=True))
    folder.mkdir(parents=True, exist_ok=True)
    command = f"dqn-plugins compare --seeds {seeds} --out 'runs/<b>a & b</b>'"
    _claim_folder(folder, described, command, Console(quiet=True))
    TEMPLATES[folder] = cells[0]
    return folder


def _begin_cell(folder: Path, environment: str, algorithm: str, seed: int) -> CellJob:
    template = TEMPLATES[folder]
    cell = replace(
        template,
        folder=cell_folder(folder, environment, algorithm, seed),
        environment=environment,
        seed=seed,
        variant=replace(template.variant, name=algorithm),
        hyperparameters={"gamma": 0.99, "policy_kwargs": {"net_arch": [64, 64]}},
    )
    cell.working_folder.mkdir(parents=True, exist_ok=True)
    write_json(cell.working_folder / "settings.json", cell.described())
    write_json(cell.working_folder / "versions.json", VERSIONS)
    return cell


def finish_cell(
    folder: Path,
    environment: str,
    algorithm: str,
    seed: int,
    final: float,
    curve: Sequence[float] | None = None,
    steps: Sequence[int] | None = None,
    cpu_seconds: Sequence[float] | None = None,
    cpu_seconds_per_step: float = 1e-4,
) -> Path:
    """
    A finished cell whose final episodes average to ``final``, and whose evaluations are ``curve``
    at ``steps``, every thousandth by default, straight up to ``final`` without a curve.
    """
    cell = _begin_cell(folder, environment, algorithm, seed)
    curve = np.linspace(0, final, 10) if curve is None else np.asarray(curve, dtype=float)
    steps = 1_000 * (1 + np.arange(len(curve))) if steps is None else np.asarray(steps)
    seconds = steps * cpu_seconds_per_step if cpu_seconds is None else np.asarray(cpu_seconds)
    played = [[Episode(1, value - 1, 10), Episode(2, value + 1, 10)] for value in curve]
    evaluations = [*zip(steps, seconds, played, strict=True)]
    save_evaluations(evaluations, cell.working_folder / "evaluations.npz")
    episodes = [
        Episode(2_000_000 + number, final + offset, 10)
        for number, offset in enumerate((-2, 2, -1, 1))
    ]
    save_episodes(episodes, cell.working_folder / "final_evaluation.csv")
    timings = {
        "training_steps": int(steps[-1]),
        "training_cpu_seconds": float(seconds[-1]),
        "training_wall_seconds": float(1.1 * seconds[-1]),
        "evaluation_cpu_seconds": 0.5,
        "steps_per_cpu_second": float(steps[-1] / seconds[-1]),
        "memory_growth_mib": 1.5 + seed,
        "peak_memory_mib": 300.0,
    }
    write_json(cell.working_folder / "timings.json", timings)
    assert cell.put_in_place(None) is None
    return cell.folder


def fail_cell(folder: Path, environment: str, algorithm: str, seed: int, error: str) -> Path:
    """A cell that raised after two evaluations."""
    cell = _begin_cell(folder, environment, algorithm, seed)
    evaluations = [(steps, steps * 1e-4, [Episode(1, 20.0, 10)]) for steps in (1_000, 2_000)]
    save_evaluations(evaluations, cell.working_folder / "evaluations.npz")
    traceback = f"Traceback (most recent call last):\n  in learn\n{error}"
    _write_failure(cell.working_folder, error, traceback)
    assert cell.put_in_place(None) == error
    return cell.folder
