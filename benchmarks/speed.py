"""
Measure environment steps per second and memory: ours, Stable-Baselines3's, and stepping alone.

Everything runs in one process, one thread, in rounds that take turns, so that a busy machine slows
all of them alike: read the ratios. Memory is measured in a process per subject. Writes
``results/speed.json`` and ``results/speed.md`` beside this file.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch as th
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ, __version__

RESULTS = Path(__file__).parent / "results"
ENVIRONMENTS = ("LunarLander-v3", "CartPole-v1")
Stepper = Callable[[int], None]


@dataclass(frozen=True)
class Subject:
    """Something to measure: ``make(env_id)`` returns a function that does a number of steps."""

    name: str
    make: Callable[[str], Stepper]
    share: float = 1.0
    """Fraction of a round's steps, so that slow subjects do not take all the time."""


def random_bare(env_id: str) -> Stepper:
    env = gym.make(env_id)
    env.reset(seed=0)
    rng = np.random.default_rng(0)

    def run(n_steps: int) -> None:
        for action in rng.integers(env.action_space.n, size=n_steps):
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    return run


def random_vec_env(env_id: str) -> Stepper:
    env = DummyVecEnv([lambda: Monitor(gym.make(env_id))])
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(0)

    def run(n_steps: int) -> None:
        for action in rng.integers(env.action_space.n, size=(n_steps, 1)):
            env.step(action)

    return run


def learner(algorithm: type, n_envs: int = 1, **kwargs: Any) -> Callable[[str], Stepper]:
    def make(env_id: str) -> Stepper:
        env = gym.make(env_id) if n_envs == 1 else make_vec_env(lambda: gym.make(env_id), n_envs)
        model = algorithm("MlpPolicy", env, seed=0, device="cpu", **kwargs)
        model.learn(n_envs)

        def run(n_steps: int) -> None:
            model.learn(n_steps, reset_num_timesteps=False)

        return run

    return make


RANDOM = "random actions, DummyVecEnv + Monitor"
NAIVE, NAIVE_TORCH = "NaiveDQN, compiled", "NaiveDQN, torch"
STREAM, STREAM_TORCH = "StreamQ, compiled", "StreamQ, torch"
NAIVE_8, SB3_DQN = "NaiveDQN, compiled, 8 environments", "Stable-Baselines3 DQN, defaults"
BARE = "random actions, bare environment"
SUBJECTS = (
    Subject(BARE, random_bare),
    Subject(RANDOM, random_vec_env),
    Subject(NAIVE, learner(NaiveDQN, backend="compiled")),
    Subject(NAIVE_8, learner(NaiveDQN, n_envs=8, backend="compiled")),
    Subject(STREAM, learner(StreamQ, backend="compiled")),
    Subject(NAIVE_TORCH, learner(NaiveDQN, backend="torch"), 0.1),
    Subject(STREAM_TORCH, learner(StreamQ, backend="torch"), 0.05),
    Subject(SB3_DQN, learner(DQN), 0.1),
)


def measure_rates(env_id: str, rounds: int, n_steps: int) -> dict[str, list[float]]:
    """Return the steps per second of each subject in each round."""
    steppers = {subject.name: subject.make(env_id) for subject in SUBJECTS}
    for stepper in steppers.values():
        stepper(500)
    rates: dict[str, list[float]] = {subject.name: [] for subject in SUBJECTS}
    for _ in track(range(rounds), description=f"{env_id}: rounds"):
        for subject in SUBJECTS:
            n = max(int(n_steps * subject.share) // 8, 1) * 8
            start = time.perf_counter()
            steppers[subject.name](n)
            rates[subject.name].append(n / (time.perf_counter() - start))
    return rates


def measure_updates(n_updates: int) -> dict[str, float]:
    """Return microseconds of one compiled update, the best of ten runs, per network."""
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 1, 8)).astype(np.float32)
    transition = (
        obs,
        np.array([1]),
        np.array([0.5], np.float32),
        next_obs,
        np.array([False]),
        np.array([False]),
        next_obs,
    )
    costs = {}
    for name, algorithm, policy_kwargs in (
        ("NaiveDQN, 16-8", NaiveDQN, {"net_arch": [16, 8]}),
        (
            "NaiveDQN, 128-128 with layer normalisation",
            NaiveDQN,
            {"net_arch": [128, 128], "layer_norm": True},
        ),
        ("StreamQ, 128-128", StreamQ, {}),
    ):
        model = algorithm(
            "MlpPolicy",
            gym.make("LunarLander-v3"),
            policy_kwargs=policy_kwargs,
            backend="compiled",
            seed=0,
        )
        model._learner.learn(*transition)
        times = []
        for _ in range(10):
            start = time.perf_counter()
            for _ in range(n_updates):
                model._learner.learn(*transition)
            times.append((time.perf_counter() - start) / n_updates * 1e6)
        costs[name] = min(times)
    return costs


def _memory(name: str, env_id: str, first: int, last: int, queue: Any) -> None:
    th.set_num_threads(1)
    subject = next(subject for subject in SUBJECTS if subject.name == name)
    stepper = subject.make(env_id)
    process = psutil.Process()
    stepper(first)
    before = process.memory_info().rss
    stepper(last - first)
    queue.put((before, process.memory_info().rss))


def measure_memory(name: str, env_id: str, first: int, last: int) -> dict[str, float]:
    """Return resident memory after ``last`` steps and its growth since step ``first``, in MiB."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_memory, args=(name, env_id, first, last, queue))
    process.start()
    before, after = queue.get()
    process.join()
    return {"resident_mib": after / 2**20, "growth_mib": (after - before) / 2**20}


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def machine() -> dict[str, Any]:
    from importlib.metadata import version

    packages = ("gymnasium", "numba", "numpy", "stable-baselines3", "torch")
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "dqn-plugins": __version__,
        **{package: version(package) for package in packages},
    }


def goals(results: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """Return the goals: what, goal, measured, reached."""
    rates = results["rates"]["LunarLander-v3"]

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))

    rows = [
        (
            "NaiveDQN.learn over random stepping through DummyVecEnv + Monitor",
            1.0,
            ratio(NAIVE, RANDOM),
        ),
        ("NaiveDQN.learn over SB3 DQN with defaults", 20.0, ratio(NAIVE, SB3_DQN)),
        ("NaiveDQN.learn, compiled over torch", 6.0, ratio(NAIVE, NAIVE_TORCH)),
        ("NaiveDQN.learn, 8 environments over 1", 1.0, ratio(NAIVE_8, NAIVE)),
        (
            "StreamQ.learn over random stepping through DummyVecEnv + Monitor",
            0.65,
            ratio(STREAM, RANDOM),
        ),
        ("StreamQ.learn over SB3 DQN with defaults", 12.0, ratio(STREAM, SB3_DQN)),
    ]
    table = [(what, f"≥ {goal:g}", value, value >= goal) for what, goal, value in rows]
    updates = results["update_us"]
    limits = {"NaiveDQN, 16-8": 4.0, "NaiveDQN, 128-128 with layer normalisation": 15.0}
    for name, limit in limits.items():
        table.append(
            (
                f"one compiled update in µs: {name}",
                f"≤ {limit:g}",
                updates[name],
                updates[name] <= limit,
            )
        )
    first, last = results["memory_steps"]
    for env_id, subjects in results["memory"].items():
        for name in (NAIVE, STREAM):
            growth = subjects[name]["growth_mib"]
            what = f"growth of memory in MiB, step {first:,} to {last:,}: {name}, {env_id}"
            table.append((what, "< 2", growth, growth < 2))
    return table


def as_markdown(results: dict[str, Any]) -> str:
    about = results["machine"]
    lines = [
        "# Speed",
        "",
        "Made by `make bench-speed`. Rates depend on the machine and on what else it does; the",
        "ratios were taken in one run, in rounds that take turns: each is the median over rounds.",
        "",
        f"Machine: {about['cpu']}, {about['cores']} cores, one thread used. "
        + ", ".join(
            f"{name} {value}" for name, value in about.items() if name not in ("cpu", "cores")
        )
        + ".",
        "",
        "| what (LunarLander-v3 where not said) | goal | measured | reached |",
        "|---|---|---|---|",
        *(
            f"| {what} | {goal} | {value:.2f} | {'yes' if reached else 'no'} |"
            for what, goal, value, reached in goals(results)
        ),
        "",
    ]
    for env_id, rates in results["rates"].items():
        base = statistics.median(rates[RANDOM])
        lines += [
            f"## {env_id}",
            "",
            "| what | steps/s, median | range | over random actions through DummyVecEnv |",
            "|---|---|---|---|",
        ]
        for name, values in rates.items():
            median = statistics.median(values)
            span = f"{min(values):,.0f} to {max(values):,.0f}"
            lines.append(f"| {name} | {median:,.0f} | {span} | {median / base:.2f} |")
        lines.append("")
    lines += ["## One compiled update", "", "| network | µs, best of ten |", "|---|---|"]
    lines += [f"| {name} | {value:.1f} |" for name, value in results["update_us"].items()]
    first, _ = results["memory_steps"]
    lines += [
        "",
        "## Memory",
        "",
        "Resident memory of a process of its own. What the bare environment grows by is Box2D's.",
        "",
        f"| environment | what | last step | resident then, MiB | growth since step {first:,} |",
        "|---|---|---|---|---|",
    ]
    for env_id, subjects in results["memory"].items():
        for name, memory in subjects.items():
            resident, growth = memory["resident_mib"], memory["growth_mib"]
            steps = memory["steps"]
            lines.append(f"| {env_id} | {name} | {steps:,} | {resident:.0f} | {growth:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each subject")
    parser.add_argument("--steps", type=int, default=8_000, help="steps of a round")
    parser.add_argument("--memory-steps", type=int, default=500_000, help="steps of the memory run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    th.set_num_threads(1)

    results: dict[str, Any] = {"machine": machine()}
    results["update_us"] = measure_updates(5_000)
    results["rates"] = {
        env_id: measure_rates(env_id, arguments.rounds, arguments.steps) for env_id in ENVIRONMENTS
    }
    first, last = 10_000, arguments.memory_steps
    results["memory_steps"] = (first, last)
    # A long run of Stable-Baselines3's DQN would take ten minutes, and show its buffer filling.
    subjects = [(BARE, last), (RANDOM, last), (NAIVE, last), (STREAM, last), (SB3_DQN, 4 * first)]
    results["memory"] = {env_id: {} for env_id in ENVIRONMENTS}
    cells = [(env_id, *subject) for env_id in ENVIRONMENTS for subject in subjects]
    for env_id, name, end in track(cells, description="memory"):
        memory = measure_memory(name, env_id, first, end)
        results["memory"][env_id][name] = {**memory, "steps": end}

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "speed.md").write_text(as_markdown(results))

    table = Table(
        "what (LunarLander-v3 where not said)", "goal", "measured", "reached", title="Speed"
    )
    for what, goal, value, reached in goals(results):
        table.add_row(what, goal, f"{value:.2f}", "yes" if reached else "no")
    console = Console()
    console.print(table)
    console.print(f"Written: {arguments.out / 'speed.md'} and speed.json")


if __name__ == "__main__":
    main()
