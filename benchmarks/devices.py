"""
Measure what one step of a loop of one's own takes, as a distribution, and the memory it needs.

``act`` and ``learn_one`` of ``StreamQ`` and ``NaiveDQN`` a million times each, on recorded
transitions of LunarLander-v3, so that no environment is measured; beside them Stable-Baselines3's
``DQN.train`` on its batch. Each case runs in a process of its own. Of the wall clock, which is what
a deadline feels, one run. Of the thread's CPU time, four runs of the very same steps, and of each
step the shortest: what another program's interruption adds to a step comes once, what the step
itself takes comes each time. Collections of garbage, which need not fall on the same step, are
timed by themselves. Resumable: what is in ``results/devices.json`` is not measured again;
``--again`` forgets it. Writes ``results/devices.md`` beside this file.
"""

import argparse
import gc
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger

import dqn_plugins
from dqn_plugins import NaiveDQN, StreamQ

RESULTS = Path(__file__).parent / "results"
STEPS = 1_000_000
WARM_UP = 2_000
COLLECTORS = {
    "on": "as Python has it",
    "frozen": "`gc.collect(); gc.freeze()` before the loop",
    "off": "`gc.collect(); gc.freeze(); gc.disable()` before the loop",
}
ALGORITHMS = {"StreamQ 128-128": StreamQ, "NaiveDQN 16-8": NaiveDQN}
SB3 = "SB3 DQN 128-128, batch of 32"
CASES = [
    ("StreamQ 128-128", "off", STEPS),
    ("StreamQ 128-128", "on", STEPS),
    ("StreamQ 128-128", "frozen", STEPS),
    (SB3, "on", STEPS // 50),
    *(("NaiveDQN 16-8", collector, STEPS) for collector in COLLECTORS),
]
RUNS = {"wall": (time.perf_counter_ns, 1), "CPU": (time.thread_time_ns, 4)}


def transitions(count: int = 5_000) -> list[tuple[Any, ...]]:
    """Record transitions of LunarLander-v3 with random actions."""
    env = gym.make("LunarLander-v3")
    env.action_space.seed(0)
    recorded = []
    observation, _ = env.reset(seed=0)
    while len(recorded) < count:
        action = int(env.action_space.sample())
        following, reward, terminated, truncated, _ = env.step(action)
        recorded.append((observation, action, float(reward), following, terminated, truncated))
        observation = following
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    return recorded


def tune(collector: str) -> None:
    """Set up Python's garbage collector."""
    gc.collect()
    if collector != "on":
        gc.freeze()
    if collector == "off":
        gc.disable()


def resident() -> float:
    """Memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss / 2**20)


def make(name: str, recorded: list[tuple[Any, ...]]) -> tuple[Any, Any, Any]:
    """Make a model, the same each time, what chooses an action, and what learns."""
    env = gym.make("LunarLander-v3")
    if name in ALGORITHMS:
        model: Any = ALGORITHMS[name]("MlpPolicy", env, seed=0)
        return (
            model,
            lambda transition: model.act(transition[0], exploration_rate=0.05),
            lambda transition: model.learn_one(*transition),
        )
    network = {"net_arch": [128, 128]}
    model = DQN("MlpPolicy", env, seed=0, policy_kwargs=network, buffer_size=50_000)
    model.set_logger(Logger(None, []))
    for observation, action, reward, following, terminated, _ in recorded:
        model.replay_buffer.add(
            observation, following, np.array([action]), np.array([reward]),
            np.array([terminated]), [{}],
        )  # fmt: skip
    return (
        model,
        lambda transition: model.predict(transition[0]),
        lambda _: model.train(gradient_steps=1, batch_size=32),
    )


def measure(name: str, collector: str, steps: int) -> dict[str, Any]:
    """Time every step of one case."""
    recorded = transitions()
    parts = ("act", "learn_one") if name in ALGORITHMS else ("predict", "train")
    collections: list[int] = []
    began_collecting = 0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal began_collecting
        if phase == "start":
            began_collecting = time.thread_time_ns()
        else:
            collections.append(time.thread_time_ns() - began_collecting)

    found: dict[str, Any] = {"steps": steps, "times": {}}
    for clock, (now, runs) in RUNS.items():
        shortest = np.full((2, steps), np.inf)
        interrupted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        for _ in range(runs):
            _, choose, learn = make(name, recorded)
            for number in range(min(WARM_UP, steps // 10)):
                choose(recorded[number])
                learn(recorded[number])
            taken = np.ones((2, steps))
            tune(collector)
            collections.clear()
            gc.callbacks.append(note)
            before = resident()
            for number in range(steps):
                transition = recorded[number % len(recorded)]
                began = now()
                choose(transition)
                chosen = now()
                learn(transition)
                learned = now()
                taken[0, number] = chosen - began
                taken[1, number] = learned - chosen
            growth = resident() - before
            gc.callbacks.remove(note)
            gc.unfreeze()
            np.minimum(shortest, taken, out=shortest)
        found["times"][clock] = {
            part: {
                "median": float(np.median(row)) / 1e3,
                "99.9th": float(np.quantile(row, 0.999)) / 1e3,
                "worst": float(row.max()) / 1e3,
            }
            for part, row in zip(parts, shortest, strict=True)
        }
        found["times"][clock]["interruptions"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - interrupted
        ) // runs
    found["collections"] = {"count": len(collections), "longest": max(collections, default=0) / 1e3}
    found["memory"] = {"before": before, "growth": growth}
    return found


def write_report(results: dict[str, Any]) -> None:
    """Write the tables."""
    lines = ["# A step on a device", ""]
    lines += [
        "Times in µs. `worst / median` is what a deadline has to allow for. Wall time includes "
        "whatever else the machine did: *interruptions* counts how often the system took the core "
        "away. CPU time is of each step the shortest of four runs of the very same steps, which "
        "leaves what the step itself takes.",
        "",
        "| what | collector | clock | call | median | 99.9th | worst | worst / median "
        "| steps | interruptions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    memory = [
        "",
        "| what | collector | collections in the last run | longest, µs of CPU time "
        "| memory before the steps, MiB | growth, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for key, found in results.items():
        name, collector = key.split(" / ")
        for clock, parts in found["times"].items():
            for part, row in parts.items():
                if part == "interruptions":
                    continue
                lines.append(
                    f"| {name} | {collector} | {clock} | `{part}` | {row['median']:.1f} "
                    f"| {row['99.9th']:.1f} | {row['worst']:.0f} "
                    f"| {row['worst'] / row['median']:.0f} | {found['steps']:,} "
                    f"| {parts['interruptions']:,} |"
                )
        numbers = found["memory"]
        memory.append(
            f"| {name} | {collector} | {found['collections']['count']:,} "
            f"| {found['collections']['longest']:.0f} "
            f"| {numbers['before']:.0f} | {numbers['growth']:.1f} |"
        )
    lines += [*memory, ""]
    lines += [f"Collector {name}: {what}.  " for name, what in COLLECTORS.items()]
    lines += [
        "",
        f"Machine: {platform.machine()}, {psutil.cpu_count()} cores, {platform.system()}, Python "
        f"{platform.python_version()}, dqn-plugins {dqn_plugins.__version__}, one thread. "
        "`make bench-devices`",
        "",
    ]
    (RESULTS / "devices.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Measure what is not there yet, each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    arguments = parser.parse_args()
    if arguments.case is not None:
        name, collector, steps = CASES[arguments.case]
        print(json.dumps(measure(name, collector, int(steps * arguments.scale))))
        return
    place = RESULTS / "devices.json"
    results = {} if arguments.again or not place.exists() else json.loads(place.read_text())
    for number, (name, collector, _) in enumerate(CASES):
        key = f"{name} / {collector}"
        if key in results:
            continue
        command = [sys.executable, __file__, "--case", str(number), "--scale", str(arguments.scale)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        results[key] = json.loads(output.splitlines()[-1])
        print(key, json.dumps(results[key]["times"]), flush=True)
        place.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        write_report(results)


if __name__ == "__main__":
    main()
