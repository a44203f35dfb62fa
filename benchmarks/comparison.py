"""
Measure what ``dqn-plugins compare`` costs over the bare training and evaluation it does.

The same runs twice, two at a time: once as a study, from the start of its process to the end of
its report (without videos), and once as scripts do it, ``learn`` with Stable-Baselines3's
``EvalCallback``, then ``evaluate_policy``. Both are repeated in turn, so that what else the machine
does falls on both alike; CPU seconds, which it does not change, stand beside. Then what a process
per cell costs: CPU seconds of a study of so many more cells that hardly train. Writes
``results/comparison.json`` and ``results/comparison.md`` beside this file, after each step.
"""

import argparse
import ctypes
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import psutil
import torch as th
from joblib import Parallel, delayed
from rich.progress import track
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from dqn_plugins.experiments.algorithms import make_model, resolve

RESULTS = Path(__file__).parent / "results"
ALGORITHMS = ("stream_q", "naive_dqn", "dqn")
ENVIRONMENT = "LunarLander-v3"
FIRST_SEED = 100
JOBS = 2
EVALUATIONS, EVALUATION_EPISODES, FINAL_EPISODES = 10, 10, 20
# The figure of one process for all cells, of which each has its own now.
GOAL = 0.63
SECONDS_PER_CELL_GOAL = 2.0
FEW_CELLS, MORE_CELLS = 2, 8
PR_SET_CHILD_SUBREAPER = 36  # of Linux


def train_and_evaluate(algorithm: str, seed: int, timesteps: int) -> tuple[float, float]:
    """Return the seconds and CPU seconds that a script would have taken for one run."""
    th.set_num_threads(1)
    start, cpu_start = time.perf_counter(), time.process_time()
    model = make_model(resolve(algorithm, ENVIRONMENT), gym.make(ENVIRONMENT), seed)
    evaluation_env = Monitor(gym.make(ENVIRONMENT))
    evaluation_env.reset(seed=1_000_000)
    callback = EvalCallback(
        evaluation_env,
        n_eval_episodes=EVALUATION_EPISODES,
        eval_freq=timesteps // EVALUATIONS,
        verbose=0,
    )
    model.learn(timesteps, callback)
    evaluate_policy(model, evaluation_env, FINAL_EPISODES)
    return time.perf_counter() - start, time.process_time() - cpu_start


def scripts(first_seed: int, seeds: int, timesteps: int) -> tuple[float, float]:
    """Return the seconds of all runs as scripts, divided by the jobs, and their CPU seconds."""
    # The longest first, so that no core is idle at the end.
    runs = [
        (algorithm, seed)
        for algorithm in reversed(ALGORITHMS)
        for seed in range(first_seed, first_seed + seeds)
    ]
    spent = Parallel(JOBS)(delayed(train_and_evaluate)(*run, timesteps) for run in runs)
    wall, cpu = (sum(column) for column in zip(*spent, strict=True))
    return wall / JOBS, cpu


def study(
    first_seed: int,
    seeds: int,
    timesteps: int,
    algorithms: tuple[str, ...] = ALGORITHMS,
    evaluations: int = EVALUATIONS,
    evaluation_episodes: int = EVALUATION_EPISODES,
    final_episodes: int = FINAL_EPISODES,
) -> tuple[float, float]:
    """Return the seconds and CPU seconds that ``dqn-plugins compare`` took, all told."""
    command = [sys.executable, "-m", "dqn_plugins", "compare", "--env", ENVIRONMENT]
    for algorithm in algorithms:
        command += ["--algo", algorithm]
    command += ["--seeds", str(seeds), "--first-seed", str(first_seed)]
    command += ["--timesteps", str(timesteps), "--evaluations", str(evaluations)]
    command += ["--evaluation-episodes", str(evaluation_episodes)]
    command += ["--final-evaluation-episodes", str(final_episodes)]
    with tempfile.TemporaryDirectory() as out:
        command += ["--jobs", str(JOBS), "--no-videos", "--out", str(Path(out) / "study")]
        before = set(psutil.Process().children())
        start, cpu_start = time.perf_counter(), _cpu_seconds_of_children()
        subprocess.run(command, check=True, capture_output=True)
        psutil.wait_procs(set(psutil.Process().children()) - before)
        return time.perf_counter() - start, _cpu_seconds_of_children() - cpu_start


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds_per_cell(algorithm: str) -> dict[str, float]:
    """Return what each further cell adds that trains for 10 steps and plays two episodes."""
    few, more = (study(FIRST_SEED, n, 10, (algorithm,), 1, 1, 1) for n in (FEW_CELLS, MORE_CELLS))
    wall, cpu = (
        (after - before) / (MORE_CELLS - FEW_CELLS) for before, after in zip(few, more, strict=True)
    )
    return {"wall_seconds_times_jobs": JOBS * wall, "cpu_seconds": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--timesteps", type=int, default=50_000)
    arguments = parser.parse_args()
    sizes = (arguments.seeds, arguments.timesteps)

    # What the study leaves behind is waited for, so that its CPU seconds are counted: its cells are
    # children of a server that outlives it.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    rounds: list[dict[str, Any]] = []
    cells: dict[str, dict[str, float]] = {}
    for number in track(range(arguments.rounds), description="study and scripts in turn"):
        first_seed = FIRST_SEED + number * arguments.seeds
        studied, scripted = study(first_seed, *sizes), scripts(first_seed, *sizes)
        rounds.append(
            {
                "study": dict(zip(("seconds", "cpu_seconds"), studied, strict=True)),
                "scripts": dict(zip(("seconds", "cpu_seconds"), scripted, strict=True)),
                "ratio": studied[0] / scripted[0],
                "cpu_ratio": studied[1] / scripted[1],
            }
        )
        write(arguments, rounds, cells)
    for algorithm in ALGORITHMS:
        cells[algorithm] = seconds_per_cell(algorithm)
        write(arguments, rounds, cells)


def write(
    arguments: argparse.Namespace,
    rounds: list[dict[str, Any]],
    cells: dict[str, dict[str, float]],
) -> None:
    """Write what was measured so far."""
    results = {
        "environment": ENVIRONMENT,
        "algorithms": ALGORITHMS,
        **vars(arguments),
        "jobs": JOBS,
        "measured": rounds,
        "ratio": statistics.median(each["ratio"] for each in rounds),
        "cpu_ratio": statistics.median(each["cpu_ratio"] for each in rounds),
        "goal": GOAL,
        "per_cell": cells,
    }
    (RESULTS / "comparison.json").write_text(json.dumps(results, indent=2) + "\n")
    lines = [
        "# What a comparison costs",
        "",
        f"Made by `make bench-comparison`: {', '.join(ALGORITHMS)} on {ENVIRONMENT}, "
        f"{arguments.seeds} seeds of {arguments.timesteps:,} steps each,",
        f"{EVALUATIONS} evaluations of {EVALUATION_EPISODES} episodes and one of "
        f"{FINAL_EPISODES}, {JOBS} runs at a time. As a study: start, a process per cell and the "
        "report without videos",
        "included. As scripts: `learn`, `EvalCallback`, `evaluate_policy`, their sum divided by "
        f"{JOBS}. In turn, with other seeds each round.",
        "",
        "| round | study, s | scripts, s | ratio | study, CPU s | scripts, CPU s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, each in enumerate(rounds, start=1):
        figures = [
            *(each[kind]["seconds"] for kind in ("study", "scripts")), each["ratio"],
            *(each[kind]["cpu_seconds"] for kind in ("study", "scripts")), each["cpu_ratio"],
        ]  # fmt: skip
        text = " | ".join(f"{x:.2f}" if i in (2, 5) else f"{x:.0f}" for i, x in enumerate(figures))
        lines.append(f"| {number} | {text} |")
    lines += [
        f"| median, goal ≤ {GOAL} | | | **{results['ratio']:.2f}** | | | "
        f"**{results['cpu_ratio']:.2f}** |",
        "",
        "What each further cell costs that trains for 10 steps and plays two episodes, goal ≤ "
        f"{SECONDS_PER_CELL_GOAL:g} s:",
        "",
        "| | CPU seconds | seconds |",
        "|---|---|---|",
        *(
            f"| {name} | {cell['cpu_seconds']:.1f} | {cell['wall_seconds_times_jobs']:.1f} |"
            for name, cell in cells.items()
        ),
        "",
    ]
    (RESULTS / "comparison.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
