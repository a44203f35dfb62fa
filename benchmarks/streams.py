"""
Measure what many environments buy: transitions learned per second, and return against seconds.

Speed is taken in rounds that take turns, so that a busy machine slows all routes alike: read the
ratios. Learning is resumable: interrupt it anywhere and run it again. Writes
``results/streams.md``, ``results/streams.json`` and ``results/streams.png`` beside this file.
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import joblib
import matplotlib.pyplot as plt
import numpy as np
import psutil
import torch as th
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from speed import cpu_model, table
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from dqn_plugins import NaiveDQN, StreamQ, make_vec_env
from dqn_plugins.comparison.statistics import interquartile_mean, iqm_estimate

RESULTS = Path(__file__).parent / "results"
LANDER, CART_POLE = "LunarLander-v3", "CartPole-v1"
PROGRESS = Console(stderr=True)
N_ENVS = (1, 8, 32, 128)
FIRST_SEED, SEEDS = 100, 10
EVALUATIONS, EPISODES = 10, 10

# Speed


@dataclass(frozen=True)
class Route:
    """One way to learn: which algorithm, and where its environments come from."""

    algorithm: Callable[..., Any]
    environments: str
    n_envs: int
    steps: int
    """Transitions of a round, so that slow routes do not take all the time."""
    n_envs_per_turn: int = 4
    """How many of EnvPool's environments step at once."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        at_once = f" ({self.n_envs_per_turn} at once)" if self.environments == "EnvPool" else ""
        return f"{self.algorithm.__name__}, {self.environments}{at_once}, {self.n_envs}"

    def make(self, env_id: str) -> Any:
        """Return the model."""
        if self.environments == "one environment":
            return self.algorithm("MlpPolicy", gym.make(env_id), seed=0, device="cpu")
        env: Any
        if self.environments.startswith("Gymnasium"):
            env = gym.make_vec(env_id, self.n_envs, vectorization_mode="sync")
        else:
            vectorization: Any = self.environments.split()[0].lower()
            at_once = self.n_envs_per_turn
            env = make_vec_env(env_id, self.n_envs, vectorization, seed=0, n_envs_per_turn=at_once)
        return self.algorithm("MlpPolicy", env, seed=0, device="cpu")


def routes(algorithm: Callable[..., Any], steps: int) -> list[Route]:
    several = N_ENVS[1:]
    return [
        Route(algorithm, "one environment", 1, steps),
        *(Route(algorithm, "sync", n, steps) for n in several),
        *(Route(algorithm, "Gymnasium's make_vec", n, steps) for n in several),
        Route(algorithm, "async", 8, steps // 5),
        *(Route(algorithm, "EnvPool", n, 4 * steps) for n in N_ENVS),
        Route(algorithm, "EnvPool", 32, 4 * steps, 16),
        Route(algorithm, "EnvPool", 128, 4 * steps, 64),
        Route(DQN, "one environment", 1, steps // 10),
    ]


SUBJECTS = {LANDER: routes(StreamQ, 10_000), CART_POLE: routes(NaiveDQN, 20_000)}


def measure_rates(env_id: str, rounds: int) -> dict[str, list[float]]:
    """Return the transitions learned from per second, of each route in each round."""
    models = {route: route.make(env_id) for route in SUBJECTS[env_id]}
    for route, model in models.items():
        model.learn(max(1_000, 4 * route.n_envs))
    rates: dict[str, list[float]] = {route.name: [] for route in models}
    for _ in track(range(rounds), description=f"{env_id}: rounds", console=PROGRESS):
        for route, model in models.items():
            before, start = model.num_timesteps, time.perf_counter()
            model.learn(route.steps, reset_num_timesteps=False)
            learned = model.num_timesteps - before
            rates[route.name].append(learned / (time.perf_counter() - start))
    for model in models.values():
        model.get_env().close()
    return rates


def memory_of(n_envs: int, queue: Any) -> None:
    """Tell how much memory a process has that learns from so many environments."""
    model = StreamQ("MlpPolicy", LANDER, n_envs=n_envs, vectorization="envpool", seed=0)
    model.learn(20 * n_envs)
    trace = sum(state["trace"][0].nbytes for state in model.policy.optimizer.state.values())
    queue.put((psutil.Process().memory_info().rss, trace))


def measure_memory() -> dict[str, Any]:
    """Return the bytes that one environment more takes, and those of its trace."""
    context = get_context("spawn")
    queue = context.Queue()
    resident = {}
    for n_envs in (32, 1_032):
        process = context.Process(target=memory_of, args=(n_envs, queue))
        process.start()
        resident[n_envs], trace = queue.get()
        process.join()
    return {"per_environment": (resident[1_032] - resident[32]) / 1_000, "trace": trace}


# Learning


class Evaluations(BaseCallback):
    """Evaluates greedily now and then, on a clock that stands still meanwhile."""

    def __init__(self, env_id: str, total_timesteps: int) -> None:
        super().__init__()
        self.env_id, self.every = env_id, total_timesteps // EVALUATIONS
        self.rows: list[dict[str, float]] = []
        self.paused = 0.0

    def _on_training_start(self) -> None:
        self.env = make_vec_env(self.env_id, EPISODES, "envpool", seed=10_000)
        self.started = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps >= (len(self.rows) + 1) * self.every:
            self.evaluate(EPISODES)
        return True

    def evaluate(self, episodes: int) -> None:
        """Note the greedy return."""
        begun = time.perf_counter()
        seconds = begun - self.started - self.paused
        value, _ = evaluate_policy(self.model, self.env, episodes, deterministic=True)
        self.rows.append({"steps": self.num_timesteps, "seconds": seconds, "return": value})
        self.paused += time.perf_counter() - begun


def learn(n_envs: int, seed: int, total_timesteps: int) -> dict[str, Any]:
    """Return what one run learned, evaluation by evaluation."""
    th.set_num_threads(1)
    route = {} if n_envs == 1 else {"n_envs": n_envs, "vectorization": "envpool"}
    # Compiled code is loaded before the clock starts, as imports are.
    StreamQ("MlpPolicy", LANDER, seed=0, **route).learn(1_000)
    model = StreamQ("MlpPolicy", LANDER, seed=seed, **route)
    evaluations = Evaluations(LANDER, total_timesteps)
    model.learn(total_timesteps, callback=evaluations)
    evaluations.rows = evaluations.rows[: EVALUATIONS - 1]
    evaluations.evaluate(5 * EPISODES)
    return {"n_envs": n_envs, "seed": seed, "total": total_timesteps, "rows": evaluations.rows}


def measure_learning(path: Path, totals: tuple[int, ...]) -> list[dict[str, Any]]:
    """Run what is not on disk yet, and return all runs."""
    path.mkdir(parents=True, exist_ok=True)
    jobs = {
        path / f"{total}-{n_envs}-{seed}.json": (n_envs, seed, total)
        for total in totals
        for n_envs in N_ENVS
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS)
    }
    missing = [name for name in jobs if not name.exists()]
    for name in track(missing, description="learning", console=PROGRESS):
        name.write_text(json.dumps(learn(*jobs[name])))
    return [json.loads(name.read_text()) for name in jobs]


def group(runs: list[dict[str, Any]], n_envs: int, total: int) -> list[dict[str, Any]]:
    return [run for run in runs if (run["n_envs"], run["total"]) == (n_envs, total)]


def curve(runs: list[dict[str, Any]], what: str) -> np.ndarray:
    """Return one number of every evaluation of every run, shape (runs, evaluations)."""
    return np.array([[row[what] for row in run["rows"]] for run in runs])


def seconds_to(runs: list[dict[str, Any]], goal: float) -> float | None:
    """Return after how many seconds of learning the runs' IQM first reached a return."""
    reached = interquartile_mean(curve(runs, "return")) >= goal
    seconds = np.median(curve(runs, "seconds"), axis=0)
    return float(seconds[reached.argmax()]) if reached.any() else None


# Results


def ratio(rates: dict[str, list[float]], one: str, other: str) -> float:
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def rate_rows(env_id: str, rates: dict[str, list[float]]) -> list[list[str]]:
    single, *_, dqn = (route.name for route in SUBJECTS[env_id])
    return [
        [
            *name.rsplit(", ", 2),
            f"{statistics.median(values):,.0f}",
            f"{ratio(rates, name, single):.2f}",
            f"{ratio(rates, name, dqn):.1f}",
        ]
        for name, values in rates.items()
    ]


def learning_rows(runs: list[dict[str, Any]], totals: tuple[int, ...]) -> list[list[str]]:
    rows = []
    for total in totals:
        for n_envs in N_ENVS:
            of = group(runs, n_envs, total)
            final = curve(of, "return")[:, -1]
            estimate = iqm_estimate(final)
            seconds = np.median(curve(of, "seconds")[:, -1])
            to_200 = seconds_to(of, 200.0)
            rows.append(
                [
                    f"{total:,}",
                    str(n_envs),
                    f"{estimate.value:.0f}",
                    f"{estimate.low:.0f} to {estimate.high:.0f}",
                    f"{final.min():.0f}",
                    f"{(final >= 200).mean():.0%}",
                    f"{seconds:.1f}",
                    "–" if to_200 is None else f"{to_200:.1f}",
                ]
            )
    return rows


def draw(results: dict[str, Any], totals: tuple[int, ...]) -> None:
    """Draw steps per second by route, and return against seconds."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    styles = {"sync": "o-", "Gymnasium's make_vec": "s--", "EnvPool": "D-"}
    for env_id, color in ((CART_POLE, "tab:orange"), (LANDER, "tab:blue")):
        rates = results["rates"][env_id]
        for environments, style in styles.items():
            points = [
                (route.n_envs, statistics.median(rates[route.name]))
                for route in SUBJECTS[env_id]
                if route.algorithm is not DQN
                and route.environments in (environments, "one environment")
                and route.n_envs_per_turn == 4
                and not (environments == "EnvPool" and route.environments == "one environment")
            ]
            label = f"{SUBJECTS[env_id][0].algorithm.__name__}, {env_id}, {environments}"
            left.plot(*zip(*points, strict=True), style, color=color, label=label, ms=4)
    left.set(xscale="log", yscale="log", xlabel="environments")
    left.set(ylabel="transitions learned from per second", xticks=N_ENVS)
    left.xaxis.set_major_formatter("{x:g}")
    left.minorticks_off()
    left.legend(fontsize=7, frameon=False)
    colors = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(N_ENVS)))
    for n_envs, color in zip(N_ENVS, colors, strict=True):
        runs = group(results["learning"], n_envs, totals[-1])
        seconds = np.median(curve(runs, "seconds"), axis=0)
        values = interquartile_mean(curve(runs, "return"))
        name = "1 environment" if n_envs == 1 else f"{n_envs} environments, EnvPool"
        right.plot(seconds, values, color=color, label=name)
    right.axhline(200, color="0.6", lw=0.8, ls=":")
    right.set(xlabel="seconds of learning", ylabel=f"StreamQ, {LANDER}: greedy return, IQM")
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / "streams.png", dpi=130)


def as_markdown(results: dict[str, Any], totals: tuple[int, ...]) -> str:
    about, memory = results["machine"], results["memory"]
    parts = [
        "# Many environments",
        "Made by `make bench-streams`. Rates depend on the machine and on what else it does; the\n"
        "ratios were taken in one run, in rounds that take turns: each is the median over rounds.",
        f"Machine: {about['cpu']}, {about['cores']} cores. Learning takes one thread; EnvPool\n"
        "steps in another.",
    ]
    columns = (
        "algorithm | environments | how many | transitions learned from per second | "
        "over one environment | over Stable-Baselines3's DQN, defaults"
    )
    for env_id, rates in results["rates"].items():
        parts += [f"## {env_id}", table(columns, rate_rows(env_id, rates))]
    columns = (
        "transitions | environments | greedy return, IQM | 95 % interval | worst seed | "
        "seeds at 200 | seconds | seconds to an IQM of 200"
    )
    parts += [
        f"## What is learned: StreamQ, {LANDER}, defaults",
        f"{SEEDS} seeds from {FIRST_SEED} on, held out; {5 * EPISODES} greedy episodes "
        f"at the end\nof each, {EPISODES} at each of the {EVALUATIONS - 1} evaluations before. "
        "Seconds are those of learning,\nwithout imports, compilation and evaluation.",
        table(columns, learning_rows(results["learning"], totals)),
        "![Speed by route, and return against seconds](streams.png)",
        "## Memory",
        f"One environment more takes {memory['per_environment'] / 1e3:.0f} kB, of which "
        f"{memory['trace'] / 1e3:.0f} kB are its trace\n(StreamQ, {LANDER}, EnvPool; from 32 to "
        "1,032 environments).",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of the measurement of speed")
    parser.add_argument("--out", type=Path, default=Path("runs/streams"), help="work in progress")
    parser.add_argument(
        "--totals", type=int, nargs="+", default=[100_000], help="transitions of a run"
    )
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*precision lowered.*")
    th.set_num_threads(1)
    totals = tuple(arguments.totals)
    results = {
        "machine": {"cpu": cpu_model(), "cores": joblib.cpu_count()},
        "rates": {env_id: measure_rates(env_id, arguments.rounds) for env_id in SUBJECTS},
        "memory": measure_memory(),
        "learning": measure_learning(arguments.out, totals),
    }
    (RESULTS / "streams.json").write_text(json.dumps(results) + "\n")
    draw(results, totals)
    text = as_markdown(results, totals)
    (RESULTS / "streams.md").write_text(text)
    Console().print(Markdown(text))


if __name__ == "__main__":
    main()
