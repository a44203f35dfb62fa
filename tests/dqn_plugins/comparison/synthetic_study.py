"""Studies written to disk the way comparison runs write them, with results that are made up."""

import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

__all__ = ["fail_cell", "finish_cell", "write_study"]

VERSIONS = {"python": "3.12.1", "dqn_plugins": "0.1.0", "gymnasium": "1.2.0", "platform": "Linux"}
CLASSES = {"stream_q": "StreamQ", "naive_dqn": "NaiveDQN", "random": "RandomPolicy"}


def write_study(
    folder: Path,
    environments: Sequence[str] = ("CartPole-v1",),
    algorithms: Sequence[str] = ("stream_q", "dqn", "random"),
    seeds: int = 5,
    timesteps: int = 10_000,
) -> Path:
    """``study.json`` alone, without any cell."""
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "environments": list(environments),
        "algorithms": {name: {"algorithm": name} for name in algorithms},
        "seeds": list(range(seeds)),
        "timesteps": timesteps,
        "cpu_seconds": None,
        "final_evaluation_episodes": 4,
        "command": f"dqn-plugins compare --seeds {seeds} --out 'runs/<b>a & b</b>'",
    }
    (folder / "study.json").write_text(json.dumps(described))
    return folder


def cell_folder(folder: Path, environment: str, algorithm: str, seed: int) -> Path:
    cell = folder / environment.replace("/", "-") / algorithm / f"seed_{seed}"
    cell.mkdir(parents=True, exist_ok=True)
    settings = {
        "algorithm": algorithm,
        "algorithm_class": CLASSES.get(algorithm, algorithm.upper()),
        "environment": environment,
        "seed": seed,
        "timesteps": 10_000,
        "cpu_seconds": None,
        "hyperparameters": {"gamma": 0.99, "policy_kwargs": {"net_arch": [64, 64]}},
        "evaluation": {"every": 1_000, "episodes": 2, "seed": 1_000_000},
        "final_evaluation_episodes": 4,
    }
    (cell / "settings.json").write_text(json.dumps(settings))
    (cell / "versions.json").write_text(json.dumps(VERSIONS))
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
    cell = cell_folder(folder, environment, algorithm, seed)
    curve = np.linspace(0, final, 10) if curve is None else np.asarray(curve, dtype=float)
    steps = 1_000 * (1 + np.arange(len(curve))) if steps is None else np.asarray(steps)
    seconds = steps * cpu_seconds_per_step if cpu_seconds is None else np.asarray(cpu_seconds)
    np.savez(
        cell / "evaluations.npz",
        timesteps=steps,
        results=np.stack([curve - 1, curve + 1], axis=1),
        ep_lengths=np.full((len(curve), 2), 10),
        cpu_seconds=seconds,
    )
    with (cell / "final_evaluation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "seed", "return", "length"])
        for episode, offset in enumerate((-2, 2, -1, 1)):
            writer.writerow([episode, 2_000_000 + episode, final + offset, 10])
    timings = {
        "training_steps": int(steps[-1]),
        "training_cpu_seconds": float(seconds[-1]),
        "training_wall_seconds": float(1.1 * seconds[-1]),
        "evaluation_cpu_seconds": 0.5,
        "steps_per_cpu_second": float(steps[-1] / seconds[-1]),
        "memory_growth_mib": 1.5 + seed,
        "peak_memory_mib": 300.0,
    }
    (cell / "timings.json").write_text(json.dumps(timings))
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(cell.iterdir())
    }
    done = {"finished": "2026-01-01T00:00:00+00:00", "sha256": digests}
    (cell / "done.json").write_text(json.dumps(done))
    return cell


def fail_cell(folder: Path, environment: str, algorithm: str, seed: int, error: str) -> Path:
    """A cell that raised."""
    cell = cell_folder(folder, environment, algorithm, seed)
    traceback = f"Traceback (most recent call last):\n  in learn\n{error}"
    (cell / "failure.json").write_text(json.dumps({"error": error, "traceback": traceback}))
    return cell
