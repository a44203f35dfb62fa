"""
Measure what users write: steps per second of ``learn``, microseconds of ``learn_one``, and more.

Everything runs in one thread, in rounds that take turns, so that a busy machine slows all of them
alike: read the ratios. Memory and compilation are measured in processes of their own. Writes
``results/speed.json`` and ``results/speed.md`` beside this file.
"""

import argparse
import json
import multiprocessing
import operator
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import gymnasium as gym
import numba
import numpy as np
import psutil
import rich
import torch as th
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ, __version__
from dqn_plugins.learning import Transition

RESULTS = Path(__file__).parent / "results"
LUNAR_LANDER, CART_POLE = ENVIRONMENTS = ("LunarLander-v3", "CartPole-v1")
ALGORITHMS = {"NaiveDQN": NaiveDQN, "StreamQ": StreamQ}
PACKAGES = ("gymnasium", "numba", "numpy", "stable-baselines3", "torch")
PROGRESS = Console(stderr=True)
# The bars that are measured go nowhere, but are drawn as on a terminal.
rich.reconfigure(force_terminal=True)
RUNS = 50
"""How often short parts are timed. Some of many short runs fall where nothing else disturbs."""
Stepper = Callable[[int], None]


class DoNothing(BaseCallback):
    """The smallest callback."""

    def _on_step(self) -> bool:
        return True


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


def learner(
    algorithm: Callable[..., Any], make_env: Callable[[str], Any] = gym.make, **arguments: Any
) -> Callable[[str], Stepper]:
    """
    Describe a model that learns.

    :param algorithm: Makes the model.
    :param make_env: Makes from an id what the model is given as its environment.
    :param arguments: Arguments of ``learn``.
    :return: What a :class:`Subject` needs.
    """

    def make(env_id: str) -> Stepper:
        model = algorithm("MlpPolicy", make_env(env_id), seed=0, device="cpu")

        def run(n_steps: int) -> None:
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                model.learn(n_steps, reset_num_timesteps=False, **arguments)

        return run

    return make


def larger(*args: Any, **kwargs: Any) -> NaiveDQN:
    """Make a NaiveDQN with a network as large as StreamQ's."""
    network = {"net_arch": [128, 128], "layer_norm": True}
    return NaiveDQN(*args, policy_kwargs=network, **kwargs)


def eight(env_id: str) -> DummyVecEnv:
    return make_vec_env(lambda: gym.make(env_id), 8)


RANDOM, BARE = "random actions, DummyVecEnv + Monitor", "random actions, bare environment"
BY_ID, BAR, CALLBACK = ", environment by id", ", progress bar", ", callback that does nothing"
LARGER = "NaiveDQN, 128-128 with layer normalisation"
NAIVE, STREAM, SB3_DQN = "NaiveDQN", "StreamQ", "Stable-Baselines3 DQN"
SUBJECTS = (
    Subject(BARE, random_bare),
    Subject(RANDOM, random_vec_env),
    *(
        subject
        for name, algorithm in ALGORITHMS.items()
        for subject in (
            Subject(name, learner(algorithm)),
            Subject(name + CALLBACK, learner(algorithm, callback=DoNothing())),
            Subject(name + BY_ID, learner(algorithm, make_env=str)),  # the id itself
            Subject(name + BAR, learner(algorithm, progress_bar=True)),
        )
    ),
    Subject("NaiveDQN, 8 environments", learner(NaiveDQN, make_env=eight)),
    Subject("NaiveDQN, torch", learner(partial(NaiveDQN, backend="torch")), 0.1),
    Subject("StreamQ, torch", learner(partial(StreamQ, backend="torch")), 0.05),
    Subject(SB3_DQN, learner(DQN), 0.1),
)


def measure_rates(env_id: str, rounds: int, n_steps: int) -> dict[str, list[float]]:
    """Return the steps per second of each subject in each round."""
    steppers = {subject.name: subject.make(env_id) for subject in SUBJECTS}
    for stepper in steppers.values():
        stepper(504)
    rates: dict[str, list[float]] = {subject.name: [] for subject in SUBJECTS}
    for _ in track(range(rounds), description=f"{env_id}: rounds", console=PROGRESS):
        for subject in SUBJECTS:
            n = max(int(n_steps * subject.share) // 8, 1) * 8
            start = time.perf_counter()
            steppers[subject.name](n)
            rates[subject.name].append(n / (time.perf_counter() - start))
    return rates


@numba.njit
def repeat(n: int, function: Callable[..., int], arguments: tuple[Any, ...]) -> None:
    for _ in range(n):
        function(*arguments)


def update_runs(make: Callable[..., Any], n: int) -> dict[str, Callable[[], None]]:
    """Return what does ``n`` compiled updates: called from Python, and their arithmetic alone."""
    learner = make("MlpPolicy", gym.make(LUNAR_LANDER), backend="compiled", seed=0)._learner
    obs, next_obs = np.random.default_rng(0).normal(size=(2, 1, 8)).astype(np.float32)
    action, reward = np.array([1]), np.array([0.5], np.float32)
    no, yes = np.array([False]), np.array([True])
    transition = Transition(obs, action, reward, next_obs, no, no, next_obs, yes)
    # What `CompiledLearner.learn` gives to compiled code, whatever that is
    compiled = learner._learn
    learner._learn = Mock(wraps=compiled)
    learner.learn(transition)
    arguments, learner._learn = learner._learn.call_args.args, compiled

    def call() -> None:
        for _ in range(n):
            learner.learn(transition)

    return {"update": call, "arithmetic": lambda: repeat(n, compiled, arguments)}


def own_loop_runs(algorithm: Callable[..., Any], n: int) -> dict[str, Callable[[], None]]:
    """Return what learns from ``n`` transitions, by ``learn_one`` alone and after ``act``."""
    model = algorithm("MlpPolicy", gym.make(LUNAR_LANDER), seed=0)
    observations = np.random.default_rng(0).normal(size=(n + 1, 8)).astype(np.float32)
    pairs = list(pairwise(observations))

    def learn_one() -> None:
        for obs, next_obs in pairs:
            model.learn_one(obs, 1, 0.5, next_obs, False)

    def act_and_learn_one() -> None:
        for obs, next_obs in pairs:
            model.learn_one(obs, model.act(obs), 0.5, next_obs, False)

    return {"learn_one": learn_one, "act + learn_one": act_and_learn_one}


def measure_costs(n: int) -> dict[str, dict[str, float]]:
    """Return microseconds of an update and of ``learn_one``, the best of ``RUNS`` runs of ``n``."""
    runs = {name: update_runs(make, n) for name, make in (ALGORITHMS | {LARGER: larger}).items()}
    for name, algorithm in ALGORITHMS.items():
        runs[name] |= own_loop_runs(algorithm, n)
    best: dict[str, dict[str, float]] = {name: {} for name in runs}
    for _ in track(range(RUNS), description="one transition", console=PROGRESS):
        for name, parts in runs.items():
            for part, run in parts.items():
                start = time.perf_counter()
                run()
                cost = (time.perf_counter() - start) / n * 1e6
                best[name][part] = min(cost, best[name].get(part, cost))
    return best


FIRST_STEPS = f"""
import sys, gymnasium, torch, dqn_plugins
torch.set_num_threads(1)
algorithm = getattr(dqn_plugins, sys.argv[1])
algorithm("MlpPolicy", gymnasium.make("{LUNAR_LANDER}")).learn(10)
"""


def cpu_of_first_steps(algorithm: str, cache: str) -> float:
    """Return the CPU seconds of a process that makes a model and learns ten steps."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-c", FIRST_STEPS, algorithm],
        cwd=cache,
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        check=True,
    )
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def measure_compilation(algorithm: str) -> float:
    """Return the CPU seconds that nothing but compiling takes, the median of three."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as cache:
            cold = cpu_of_first_steps(algorithm, cache)
            seconds.append(cold - cpu_of_first_steps(algorithm, cache))
    return statistics.median(seconds)


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
    return {"steps": last, "resident_mib": after / 2**20, "growth_mib": (after - before) / 2**20}


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def ratio(rates: dict[str, list[float]], one: str, other: str = RANDOM) -> float:
    """Return how many times as fast one subject is as another, the median over rounds."""
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def added_us(rates: dict[str, list[float]], one: str, other: str) -> float:
    """Return by how many microseconds a step of one takes longer, the median over rounds."""
    pairs = zip(rates[one], rates[other], strict=True)
    return statistics.median(1e6 / a - 1e6 / b for a, b in pairs)


def goal(what: str, measured: float, sign: str, limit: float) -> list[str]:
    reached = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}[sign](measured, limit)
    return [what, f"{sign} {limit:g}", f"{measured:.2f}", "yes" if reached else "no"]


GOALS = "what (LunarLander-v3 where not said) | goal | measured | reached"


def goals(results: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table of goals: what, goal, measured, reached."""
    rates, on_cart_pole = (results["rates"][env_id] for env_id in ENVIRONMENTS)
    over_random = {NAIVE: 1.1, NAIVE + BY_ID: 1.1, NAIVE + BAR: 1.0, STREAM: 0.85}
    rows = [
        goal(f"`learn` over {RANDOM}: {name}", ratio(rates, name), "≥", limit)
        for name, limit in {**over_random, STREAM + BAR: 0.8}.items()
    ]
    for name in ALGORITHMS:
        what = f"`learn` over {SB3_DQN}: {name}"
        rows.append([what, "–", f"{ratio(rates, name, SB3_DQN):.2f}", "–"])
    for name in ALGORITHMS:
        added = added_us(on_cart_pole, name + CALLBACK, name)
        rows.append(goal(f"µs that a callback adds to a step, CartPole-v1: {name}", added, "≤", 3))
    for name, limit in {NAIVE: 12, STREAM: 25}.items():
        learn_one = results["us"][name]["learn_one"]
        rows.append(goal(f"µs of `learn_one`: {name}", learn_one, "≤", limit))
    for name in ALGORITHMS:
        beyond = results["us"][name]["update"] - results["us"][name]["arithmetic"]
        rows.append(goal(f"µs of one compiled call beyond its arithmetic: {name}", beyond, "≤", 1))
    for name, seconds in results["compilation_cpu_s"].items():
        rows.append(goal(f"CPU seconds of cold compilation: {name}", seconds, "≤", 11))
    first, last = results["memory_steps"]
    for env_id, subjects in results["memory"].items():
        for name in ALGORITHMS:
            what = f"growth of memory in MiB, step {first:,} to {last:,}: {name}, {env_id}"
            rows.append(goal(what, subjects[name]["growth_mib"], "<", 2))
    return rows


def rows_of_rates(rates: dict[str, list[float]]) -> list[list[str]]:
    rows = []
    for name, values in rates.items():
        span = f"{min(values):,.0f} to {max(values):,.0f}"
        rows.append([name, f"{statistics.median(values):,.0f}", span, f"{ratio(rates, name):.2f}"])
    return rows


def rows_of_costs(costs: dict[str, dict[str, float]]) -> list[list[str]]:
    parts = ("update", "arithmetic", "learn_one", "act + learn_one")
    return [
        [name, *(f"{of[part]:.1f}" if part in of else "–" for part in parts)]
        for name, of in costs.items()
    ]


def rows_of_memory(memory: dict[str, dict[str, dict[str, float]]]) -> list[list[str]]:
    rows = []
    for env_id, subjects in memory.items():
        for name, of in subjects.items():
            mib = f"{of['resident_mib']:.0f}", f"{of['growth_mib']:.2f}"
            rows.append([env_id, name, f"{of['steps']:,}", *mib])
    return rows


def table(columns: str, rows: list[list[str]]) -> str:
    """Return a Markdown table; the names of the columns are separated by bars."""
    rule = "---".join("|" * (columns.count("|") + 2))
    return "\n".join([f"| {columns} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def as_markdown(results: dict[str, Any]) -> str:
    about = results["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in about["versions"].items())
    parts = [
        "# Speed",
        "Made by `make bench-speed`. Rates depend on the machine and on what else it does; the\n"
        "ratios were taken in one run, in rounds that take turns: each is the median over rounds.",
        f"Machine: {about['cpu']}, {about['cores']} cores, one thread used. {versions}.",
        table(GOALS, goals(results)),
    ]
    columns = "what | steps/s, median | range | over random actions through DummyVecEnv"
    for env_id, rates in results["rates"].items():
        parts += [f"## {env_id}", table(columns, rows_of_rates(rates))]
    columns = "what | update | its arithmetic alone | `learn_one` | `act` and `learn_one`"
    parts += [
        "## One transition, µs",
        f"The best of {RUNS} short runs, which take turns. An update is called from Python.",
        table(columns, rows_of_costs(results["us"])),
        "## Memory",
        "Resident memory of a process of its own. What the bare environment grows by is Box2D's.",
    ]
    first, _ = results["memory_steps"]
    columns = f"environment | what | last step | resident then, MiB | growth since step {first:,}"
    parts.append(table(columns, rows_of_memory(results["memory"])))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each subject")
    parser.add_argument("--steps", type=int, default=8_000, help="steps of a round")
    parser.add_argument("--memory-steps", type=int, default=500_000, help="steps of the memory run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    first, last = 10_000, arguments.memory_steps
    versions = {package: version(package) for package in PACKAGES}
    versions = {"python": platform.python_version(), "dqn-plugins": __version__, **versions}
    results: dict[str, Any] = {
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "versions": versions},
        "us": measure_costs(1_000),
        "rates": {
            env_id: measure_rates(env_id, arguments.rounds, arguments.steps)
            for env_id in ENVIRONMENTS
        },
        "compilation_cpu_s": {
            name: measure_compilation(name)
            for name in track(ALGORITHMS, description="compilation", console=PROGRESS)
        },
        "memory_steps": (first, last),
        "memory": {env_id: {} for env_id in ENVIRONMENTS},
    }
    # A long run of Stable-Baselines3's DQN would take ten minutes, and show its buffer filling.
    subjects = {BARE: last, RANDOM: last, NAIVE: last, STREAM: last, SB3_DQN: 4 * first}
    cells = [(env_id, *subject) for env_id in ENVIRONMENTS for subject in subjects.items()]
    for env_id, name, end in track(cells, description="memory", console=PROGRESS):
        results["memory"][env_id][name] = measure_memory(name, env_id, first, end)

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "speed.md").write_text(as_markdown(results))
    console = Console()
    console.print(Markdown(table(GOALS, goals(results))))
    console.print(f"Written: {arguments.out / 'speed.md'} and speed.json")


if __name__ == "__main__":
    main()
