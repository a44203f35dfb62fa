"""
Measure what one step of a loop of one's own takes, as a distribution, and the memory it needs.

``act`` and ``learn_one`` of ``StreamQ`` and ``NaiveDQN`` a million times each, on recorded
transitions of LunarLander-v3, so that no environment is measured; beside them Stable-Baselines3's
``DQN.train`` on its batch. Each case runs in a process of its own. The wall clock says what a
deadline feels, the clock of the thread's CPU time what is left where no other program interrupts.
Resumable: what is in ``results/devices.json`` is not measured again; ``--again`` forgets it. Writes
``results/devices.md`` beside this file.
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
    ("StreamQ 128-128", "on", STEPS),
    ("StreamQ 128-128", "off", STEPS),
    ("StreamQ 128-128", "frozen", STEPS),
    (SB3, "on", STEPS // 50),
    *(("NaiveDQN 16-8", collector, STEPS) for collector in COLLECTORS),
]
CLOCKS = {"wall": time.perf_counter_ns, "CPU": time.thread_time_ns}


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


def measure(name: str, collector: str, steps: int) -> dict[str, Any]:
    """Time every step of one case."""
    recorded = transitions()
    env = gym.make("LunarLander-v3")
    network = {"net_arch": [128, 128]}
    if name in ALGORITHMS:
        model: Any = ALGORITHMS[name]("MlpPolicy", env, seed=0)
        parts = ("act", "learn_one")
    else:
        model = DQN("MlpPolicy", env, seed=0, policy_kwargs=network, buffer_size=50_000)
        model.set_logger(Logger(None, []))
        for observation, action, reward, following, terminated, _ in recorded:
            model.replay_buffer.add(
                observation, following, np.array([action]), np.array([reward]),
                np.array([terminated]), [{}],
            )  # fmt: skip
        parts = ("predict", "train")

    def choose(transition: tuple[Any, ...]) -> None:
        if name in ALGORITHMS:
            model.act(transition[0], exploration_rate=0.05)
        else:
            model.predict(transition[0])

    def learn(transition: tuple[Any, ...]) -> None:
        if name in ALGORITHMS:
            model.learn_one(*transition)
        else:
            model.train(gradient_steps=1, batch_size=32)

    for number in range(min(WARM_UP, steps // 10)):
        choose(recorded[number])
        learn(recorded[number])
    found: dict[str, Any] = {"steps": steps, "times": {}}
    tune(collector)
    before = resident()
    for clock, now in CLOCKS.items():
        taken = np.zeros((2, steps))
        interrupted = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        for number in range(steps):
            transition = recorded[number % len(recorded)]
            began = now()
            choose(transition)
            chosen = now()
            learn(transition)
            learned = now()
            taken[0, number] = chosen - began
            taken[1, number] = learned - chosen
        found["times"][clock] = {
            part: {
                "median": float(np.median(row)) / 1e3,
                "99.9th": float(np.quantile(row, 0.999)) / 1e3,
                "worst": float(row.max()) / 1e3,
            }
            for part, row in zip(parts, taken, strict=True)
        }
        found["times"][clock]["interruptions"] = (
            resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - interrupted
        )
        del taken
    found["memory"] = {"before": before, "growth": resident() - before}
    return found


def write_report(results: dict[str, Any]) -> None:
    """Write the tables."""
    lines = ["# A step on a device", ""]
    lines += [
        "Times in µs. `worst / median` is what a deadline has to allow for. Of CPU time, the worst "
        "is what the program itself takes; of wall time, it includes whatever else the machine "
        "did: *interruptions* counts how often the system took the core away meanwhile.",
        "",
        "| what | collector | clock | call | median | 99.9th | worst | worst / median "
        "| steps | interruptions |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    memory = [
        "",
        "| what | collector | memory before the steps, MiB | growth, MiB |",
        "|---|---|---|---|",
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
            f"| {name} | {collector} | {numbers['before']:.0f} | {numbers['growth']:.1f} |"
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
