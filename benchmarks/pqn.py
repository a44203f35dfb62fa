"""
Measure PQN: steps per second beside CleanRL's ``pqn.py`` and SB3's PPO, and what is learned.

Speed is taken in rounds that take turns, so that a busy machine slows all alike: read the ratios,
those of CPU seconds first. Everything is resumable: interrupt it anywhere and run it again. Writes
``results/pqn.md`` and ``results/pqn.json`` beside this file.
"""

import argparse
import json
import os
import runpy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import joblib
import numpy as np
import torch as th
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from speed import cpu_model, table
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env as sb3_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from streams import EPISODES, EVALUATIONS, Evaluations, curve

from dqn_plugins import PQN, StreamQ, make_vec_env
from dqn_plugins.comparison.statistics import interquartile_mean, iqm_estimate

RESULTS = Path(__file__).parent / "results"
PROGRESS = Console(stderr=True)
LANDER = "LunarLander-v3"
N_ENVS = (4, 32)
ROLLOUTS = 40
"""Rollouts of 128 steps in a round with 4 environments; with more, fewer."""

# Speed


def learn_sync(env_id: str, n_envs: int, steps: int) -> None:
    PQN("MlpPolicy", env_id, n_envs=n_envs, seed=1, device="cpu").learn(steps)


def learn_envpool(env_id: str, n_envs: int, steps: int) -> None:
    model = PQN("MlpPolicy", env_id, n_envs=n_envs, vectorization="envpool", seed=1, device="cpu")
    model.learn(steps)


def learn_ppo(env_id: str, n_envs: int, steps: int) -> None:
    env = sb3_vec_env(env_id, n_envs, seed=1, env_kwargs={"render_mode": None})
    network = {"net_arch": [120, 84], "activation_fn": th.nn.ReLU}
    settings: dict[str, Any] = {"n_steps": 128, "batch_size": 128, "n_epochs": 4}
    model = PPO("MlpPolicy", env, **settings, policy_kwargs=network, seed=1, device="cpu")
    model.learn(steps)


def learn_cleanrl(script: Path, env_id: str, n_envs: int, steps: int) -> None:
    """Run CleanRL's script in this process, where all that it imports is imported already."""
    settings = {
        "env-id": env_id,
        "num-envs": n_envs,
        "total-timesteps": steps,
        "num-minibatches": n_envs,  # of 128 transitions, as everywhere here
        "seed": 1,
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    before, folder = sys.argv, Path.cwd()
    sys.argv = [str(script), *arguments, "--no-cuda"]
    with tempfile.TemporaryDirectory() as elsewhere, open(os.devnull, "w") as nowhere:
        os.chdir(elsewhere)  # it writes a folder "runs"
        try:
            with redirect_stdout(nowhere):
                runpy.run_path(str(script), run_name="__main__")
        finally:
            os.chdir(folder)
            sys.argv = before


def subjects(script: Path | None) -> dict[str, Callable[[str, int, int], None]]:
    found = {"PQN": learn_sync, "PQN, EnvPool": learn_envpool, "SB3's PPO": learn_ppo}
    if script is not None:
        found["CleanRL's pqn.py"] = partial(learn_cleanrl, script.resolve())
    return found


def timed(learn: Callable[[], None], steps: int) -> dict[str, float]:
    """Return steps per second of wall time and of CPU time."""
    start, cpu = time.perf_counter(), time.process_time()
    learn()
    return {
        "wall": steps / (time.perf_counter() - start),
        "cpu": steps / (time.process_time() - cpu),
    }


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what is in a file; make it first if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(make()))
    return json.loads(path.read_text())


def measure_rates(out: Path, rounds: int, script: Path | None) -> list[dict[str, Any]]:
    """Return one row per environment, number of environments and round."""
    jobs = [
        (env_id, n_envs, number)
        for number in range(rounds)
        for env_id in ("CartPole-v1", LANDER)
        for n_envs in N_ENVS
    ]
    rows = []
    for env_id, n_envs, number in track(jobs, description="speed", console=PROGRESS):
        steps = 128 * n_envs * max(4, ROLLOUTS * 4 // n_envs)
        for name, learn in subjects(script).items():
            path = out / "rates" / f"{env_id}-{n_envs}-{number}-{name.replace(' ', '_')}.json"
            if not path.exists() and number == 0:
                learn(env_id, n_envs, 512 * n_envs)  # what is done once per process
            rate = kept(path, lambda: timed(partial(learn, env_id, n_envs, steps), steps))  # noqa: B023
            rows.append({"env": env_id, "n_envs": n_envs, "round": number, "name": name, **rate})
    return rows


def rate_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    table_rows = []
    groups = dict.fromkeys((row["env"], row["n_envs"]) for row in rows)
    for env_id, n_envs in groups:
        of: dict[str, list[dict[str, float]]] = {}
        for row in rows:
            if (row["env"], row["n_envs"]) == (env_id, n_envs):
                of.setdefault(row["name"], []).append(row)
        for name, values in of.items():
            cells = [
                f"{statistics.median(value[clock] for value in values):,.0f}"
                for clock in ("wall", "cpu")
            ]
            for other in ("CleanRL's pqn.py", "SB3's PPO"):
                for clock in ("cpu", "wall"):
                    if other not in of or name == other:
                        cells.append("–")
                        continue
                    pairs = zip(values, of[other], strict=True)
                    cells.append(f"{statistics.median(a[clock] / b[clock] for a, b in pairs):.2f}")
            table_rows.append([env_id, str(n_envs), name, *cells])
    return table_rows


# What is learned in CleanRL's protocol

PROTOCOL = {"CartPole-v1": "495.1 ± 6.9", "Acrobot-v1": "−95.6 ± 5.7"}
"""What CleanRL's page says of 500,000 steps."""
PROTOCOL_STEPS, PROTOCOL_SEEDS = 500_000, range(100, 105)


def learn_protocol(env_id: str, seed: int, bootstrap: bool) -> dict[str, float]:
    """Return what a run of the defaults earned: at its end while exploring, and greedily."""
    model = PQN(
        "MlpPolicy", env_id, n_envs=4, seed=seed, device="cpu", bootstrap_at_truncation=bootstrap
    )
    start, cpu = time.perf_counter(), time.process_time()
    model.learn(PROTOCOL_STEPS)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    assert model.ep_info_buffer is not None
    env = make_vec_env(env_id, 10, seed=10_000)
    greedy, _ = evaluate_policy(model, env, 100, deterministic=True)
    return {
        "exploring": statistics.fmean(info["r"] for info in model.ep_info_buffer),
        "greedy": float(greedy),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
    }


def measure_protocol(out: Path) -> list[dict[str, Any]]:
    # Where a time limit ends good episodes, what is made of it matters.
    kinds = [*((env_id, True) for env_id in PROTOCOL), ("CartPole-v1", False)]
    jobs = [(env_id, seed, bootstrap) for env_id, bootstrap in kinds for seed in PROTOCOL_SEEDS]
    runs = []
    for job in track(jobs, description="500,000 steps", console=PROGRESS):
        env_id, seed, bootstrap = job
        path = out / "protocol" / f"{env_id}-{seed}{'' if bootstrap else '-terminal'}.json"
        run = kept(path, partial(learn_protocol, *job))
        runs.append({"env": env_id, "bootstrap": bootstrap, **run})
    return runs


def protocol_rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    rows = []
    for env_id, bootstrap in dict.fromkeys((run["env"], run["bootstrap"]) for run in runs):
        of = [run for run in runs if (run["env"], run["bootstrap"]) == (env_id, bootstrap)]
        limit = "bootstraps" if bootstrap else "is terminal"
        cells = [env_id, limit, str(len(of)), PROTOCOL[env_id]]
        for what in ("exploring", "greedy"):
            values = [run[what] for run in of]
            cells.append(f"{statistics.fmean(values):.1f} ± {np.std(values):.1f}")
        cells.append(f"{min(run['greedy'] for run in of):.0f}")
        cells.append(f"{statistics.median(run['cpu_seconds'] for run in of):.0f}")
        rows.append(cells)
    return rows


# Seconds until it lands

FIRST_SEED = 100
LANDER_SETTINGS: dict[str, Any] = {
    "n_envs": 32,
    "n_steps": 32,
    "learning_rate": LinearSchedule(1e-3, 0.0, 1.0),
}
"""Chosen on seeds 0 and 1."""


def make_lander(name: str, seed: int) -> Any:
    if name == "StreamQ":
        return StreamQ("MlpPolicy", LANDER, n_envs=8, vectorization="envpool", seed=seed)
    return PQN("MlpPolicy", LANDER, vectorization="envpool", seed=seed, **LANDER_SETTINGS)


LANDERS = {"StreamQ": 200_000, "PQN": 400_000}
"""How many transitions each learns from."""


class TimedEvaluations(Evaluations):
    """The same with a clock of CPU seconds, those of the environments included."""

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.cpu_started, self.cpu_paused = time.process_time(), 0.0

    def evaluate(self, episodes: int) -> None:
        """Note the greedy return."""
        begun = time.process_time()
        super().evaluate(episodes)
        self.rows[-1]["cpu_seconds"] = begun - self.cpu_started - self.cpu_paused
        self.cpu_paused += time.process_time() - begun


def learn_to_land(name: str, seed: int) -> list[dict[str, float]]:
    """Return what one run learned, evaluation by evaluation."""
    total = LANDERS[name]
    make_lander(name, 0).learn(2_000)  # compiled code is loaded before the clock starts
    model = make_lander(name, seed)
    evaluations = TimedEvaluations(LANDER, total)
    model.learn(total, callback=evaluations)
    evaluations.rows = evaluations.rows[: EVALUATIONS - 1]
    evaluations.evaluate(5 * EPISODES)
    return evaluations.rows


def measure_landing(out: Path, n_seeds: int) -> dict[str, list[dict[str, Any]]]:
    seeds = range(FIRST_SEED, FIRST_SEED + n_seeds)
    jobs = [(name, seed) for seed in seeds for name in LANDERS]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LANDERS}
    for name, seed in track(jobs, description=LANDER, console=PROGRESS):
        path = out / "landing" / f"{name}-{seed}.json"
        runs[name].append({"rows": kept(path, partial(learn_to_land, name, seed))})
    return runs


def landing_rows(runs: dict[str, list[dict[str, Any]]]) -> Iterable[list[str]]:
    for name, of in runs.items():
        returns = curve(of, "return")
        estimate = iqm_estimate(returns[:, -1])
        reached = interquartile_mean(returns) >= 200.0
        cells = [name, f"{LANDERS[name]:,}", f"{estimate.value:.0f}"]
        cells += [f"{estimate.low:.0f} to {estimate.high:.0f}", f"{returns[:, -1].min():.0f}"]
        for clock in ("seconds", "cpu_seconds"):
            seconds = np.median(curve(of, clock), axis=0)
            to_200 = f"{seconds[reached.argmax()]:.1f}" if reached.any() else "–"
            cells += [f"{seconds[-1]:.1f}", to_200]
        yield cells


# Results


def as_markdown(results: dict[str, Any]) -> str:
    about = results["machine"]
    parts = [
        "# PQN",
        "Made by `make bench-pqn`. The machine was busy with other work: wall-clock figures\n"
        "are those of that hour, the ratios of CPU seconds are what to read. They were taken in\n"
        "rounds that take turns, and each is the median over the rounds.",
        f"Machine: {about['cpu']}, {about['cores']} cores; torch with one thread.",
        "## Steps per second, learning included",
        "All with rollouts of 128 steps, four passes, minibatches of 128 and hidden layers of\n"
        "120 and 84 units. `PQN`, CleanRL's script and PPO step Gymnasium's environments one\n"
        "after the other in their own process.",
        table(
            "environment | how many | what | steps/s | steps per CPU second | over CleanRL, CPU | "
            "over CleanRL, wall | over PPO, CPU | over PPO, wall",
            rate_rows(results["rates"]),
        ),
        f"## {PROTOCOL_STEPS:,} steps with the defaults and four environments",
        f"Seeds from {PROTOCOL_SEEDS[0]} on, held out. Exploring: the last 100 episodes "
        "of\ntraining, at ε = 0.05, as CleanRL reports them. Greedy: 100 episodes.",
        table(
            "environment | a time limit | seeds | CleanRL's page | exploring | greedy | "
            "worst seed, greedy | CPU seconds of a run",
            protocol_rows(results["protocol"]),
        ),
        f"## {LANDER}: seconds until it lands",
        f"{len(results['landing']['PQN'])} seeds from {FIRST_SEED} on, EnvPool; StreamQ with its "
        f"defaults and 8 environments, PQN with\n`n_envs={LANDER_SETTINGS['n_envs']}, "
        f"n_steps={LANDER_SETTINGS['n_steps']}` and a learning rate falling from 1e-3 to 0, chosen "
        "on two other seeds.\nReached: the interquartile mean over seeds of greedy returns, "
        f"{EPISODES} episodes at each evaluation.",
        table(
            "what | transitions | greedy return, IQM | 95 % interval | worst seed | seconds | "
            "seconds to 200 | CPU seconds | CPU seconds to 200",
            list(landing_rows(results["landing"])),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cleanrl", type=Path, help="CleanRL's pqn.py; not measured if left out")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the measurement of speed")
    parser.add_argument("--seeds", type=int, default=10, help="seeds of LunarLander")
    parser.add_argument("--out", type=Path, default=Path("runs/pqn"), help="work in progress")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    gym.logger.min_level = gym.logger.ERROR
    th.set_num_threads(1)
    results = {
        "machine": {"cpu": cpu_model(), "cores": joblib.cpu_count()},
        "rates": measure_rates(arguments.out, arguments.rounds, arguments.cleanrl),
        "protocol": measure_protocol(arguments.out),
        "landing": measure_landing(arguments.out, arguments.seeds),
    }
    (RESULTS / "pqn.json").write_text(json.dumps(results) + "\n")
    text = as_markdown(results)
    (RESULTS / "pqn.md").write_text(text)
    Console().print(Markdown(text))


if __name__ == "__main__":
    main()
