"""
Measure what ``dqn-plugins compare`` costs over the bare training and evaluation it does.

The same runs twice, two at a time: once as a study, from the start of its process to the end of
its report (without videos), and once as scripts do it, ``learn`` with Stable-Baselines3's
``EvalCallback``, then ``evaluate_policy``. Writes ``results/comparison.json`` and
``results/comparison.md`` beside this file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym
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
GOAL = 1.15


def train_and_evaluate(algorithm: str, seed: int, timesteps: int) -> float:
    """Return the seconds that a script would have taken for one run."""
    th.set_num_threads(1)
    start = time.perf_counter()
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
    return time.perf_counter() - start


def study(seeds: int, timesteps: int, out: Path) -> float:
    """Return the seconds that ``dqn-plugins compare`` took."""
    command = [sys.executable, "-m", "dqn_plugins", "compare", "--env", ENVIRONMENT]
    for algorithm in ALGORITHMS:
        command += ["--algo", algorithm]
    command += ["--seeds", str(seeds), "--first-seed", str(FIRST_SEED)]
    command += ["--timesteps", str(timesteps)]
    command += ["--evaluations", str(EVALUATIONS)]
    command += ["--evaluation-episodes", str(EVALUATION_EPISODES)]
    command += ["--final-evaluation-episodes", str(FINAL_EPISODES)]
    command += ["--jobs", str(JOBS), "--no-videos", "--out", str(out)]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--timesteps", type=int, default=50_000)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as out:
        seconds_of_study = study(arguments.seeds, arguments.timesteps, Path(out) / "study")

    # The longest first, so that no core is idle at the end.
    runs = [
        (algorithm, seed)
        for algorithm in reversed(ALGORITHMS)
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    ]
    seconds = list(
        track(
            Parallel(JOBS, return_as="generator")(
                delayed(train_and_evaluate)(algorithm, seed, arguments.timesteps)
                for algorithm, seed in runs
            ),
            total=len(runs),
            description="the same as scripts",
        )
    )
    bare = sum(seconds) / JOBS
    results = {
        "environment": ENVIRONMENT,
        "algorithms": ALGORITHMS,
        "seeds": arguments.seeds,
        "timesteps": arguments.timesteps,
        "jobs": JOBS,
        "seconds_of_study": seconds_of_study,
        "seconds_of_scripts": bare,
        "ratio": seconds_of_study / bare,
        "goal": GOAL,
    }
    (RESULTS / "comparison.json").write_text(json.dumps(results, indent=2) + "\n")
    text = (
        "# What a comparison costs\n\n"
        f"Made by `make bench-comparison`: {', '.join(ALGORITHMS)}, {arguments.seeds} seeds of "
        f"{arguments.timesteps:,} steps each on {ENVIRONMENT},\n"
        f"{EVALUATIONS} evaluations of {EVALUATION_EPISODES} episodes and one of {FINAL_EPISODES}, "
        f"{JOBS} runs at a time.\n\n"
        "| | seconds |\n|---|---|\n"
        f"| `dqn-plugins compare`, start, fan-out and report without videos included | "
        f"{seconds_of_study:.0f} |\n"
        "| the same runs as scripts (`learn`, `EvalCallback`, `evaluate_policy`): their sum / "
        f"{JOBS} | {bare:.0f} |\n"
        f"| ratio, goal ≤ {GOAL} | {results['ratio']:.2f} |\n"
    )
    (RESULTS / "comparison.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
