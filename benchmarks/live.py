"""
Measure the live page against its goals.

    python benchmarks/live.py

writes ``benchmarks/results/live.json`` and ``live.md``. Ratios of speed come from periods that
alternate within one run, so that a busy machine slows both sides. The first paint needs Chromium
with chromedriver.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch as th
from websockets.asyncio.client import connect

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import LivePage, LiveView

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "wrappers" / "live" / "page"
BROWSERS = Path(__file__).with_name("live_browsers.py")
MIB = 2**20


@contextlib.contextmanager
def browsers(url: str, number: int) -> Iterator[list[int]]:
    """Have so many browsers show a page; how many pictures they have had."""
    pictures = [0]
    with subprocess.Popen(
        [sys.executable, BROWSERS, url, str(number)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def count() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                pictures[0] = int(line)

        counting = threading.Thread(target=count, daemon=True)
        counting.start()
        try:
            while pictures[0] == 0:
                time.sleep(0.05)
            yield pictures
        finally:
            process.kill()
            counting.join()


# What a step costs


class Nothing(gym.Env[Any, Any]):
    """Costs nothing, so that the wrapper's cost is not lost in it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    render_mode = "rgb_array"

    def __init__(self) -> None:
        self.observation = np.zeros(1, np.float32)
        self.renders = 0
        self.step_count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation, {}

    def step(self, action: Any) -> Any:
        self.step_count += 1
        return self.observation, 1.0, self.step_count % 200 == 0, False, {}

    def render(self) -> Any:
        self.renders += 1
        return np.zeros((400, 600, 3), np.uint8)


def measure_step(rounds: int, steps: int) -> dict[str, float]:
    bare, below = Nothing(), Nothing()
    view = LiveView(below, page=LivePage(port=0, quiet=True))

    def time_of(env: Any) -> float:
        env.reset()
        began = time.perf_counter()
        for _ in range(steps):
            if env.step(0)[2]:
                env.reset()
        return (time.perf_counter() - began) / steps * 1e6

    costs = [time_of(view) - time_of(bare) for _ in range(rounds)]
    view.close()
    return {
        "microseconds": statistics.median(costs),
        "worst": max(costs),
        "renders": float(below.renders),
    }


# What watching costs


class Clock(gym.Wrapper[Any, Any, Any, Any]):
    """Adds up how much CPU time rendering takes."""

    seconds = 0.0
    pictures = 0

    def render(self) -> Any:
        began = time.thread_time()
        try:
            return self.env.render()
        finally:
            self.seconds += time.thread_time() - began
            self.pictures += 1


class Trained:
    """A StreamQ that learns LunarLander, watched through a page, in a thread of its own."""

    def __init__(self) -> None:
        self.page = LivePage(port=0, quiet=True)
        self.clock = Clock(gym.make("LunarLander-v3", render_mode="rgb_array"))
        self.view = LiveView(self.clock, page=self.page)
        self.model = StreamQ("MlpPolicy", self.view, seed=0)
        self.view.attach(self.model)
        self.is_stopped = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        # For a long time at one ε, so that all periods are alike
        self.model.exploration_schedule = lambda _: 0.1
        while not self.is_stopped:
            self.model.learn(10_000, reset_num_timesteps=False)

    def __enter__(self) -> Trained:
        self.thread.start()
        time.sleep(5)  # compiled by then
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopped = True
        self.thread.join()
        self.view.close()
        self.page.close()

    def period(self, seconds: float) -> Period:
        """Watch for some time what it does."""
        before, began = self._numbers(), time.perf_counter()
        time.sleep(seconds)
        elapsed = time.perf_counter() - began
        return Period(
            elapsed, *(after - then for after, then in zip(self._numbers(), before, strict=True))
        )

    def _numbers(self) -> tuple[float, ...]:
        used = psutil.Process().cpu_times()
        clock = self.clock
        return self.model.num_timesteps, used.user + used.system, clock.pictures, clock.seconds


@dataclass
class Period:
    """What training did in some time: the CPU seconds are those of its process."""

    seconds: float
    steps: float
    cpu_seconds: float
    pictures: float
    rendering_seconds: float

    @property
    def speed(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds

    @property
    def speed_per_cpu(self) -> float:
        """Steps per second of CPU time: what others do on the machine is not in it."""
        return self.steps / self.cpu_seconds

    def cost_of_a_picture(self, alone: Period) -> float:
        """CPU seconds of training for each picture, besides rendering it."""
        more = self.cpu_seconds - self.steps / alone.speed_per_cpu - self.rendering_seconds
        return more / self.pictures


def measure_watching(pairs: int, seconds: float) -> dict[str, float]:
    with Trained() as trained:
        periods = []
        for _ in range(pairs):
            alone = trained.period(seconds)
            with browsers(trained.page.url, 1):
                time.sleep(1)
                periods.append((alone, trained.period(seconds)))
            while trained.view.is_watched:
                time.sleep(0.01)
    ratios = [watched.speed / alone.speed for alone, watched in periods]
    median = statistics.median
    return {
        "pairs": pairs,
        "pictures_per_second": median(each.pictures / each.seconds for _, each in periods),
        "ratio": median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
        "rendering_ms": median(1e3 * each.rendering_seconds / each.pictures for _, each in periods),
        "picture_ms": median(1e3 * each.cost_of_a_picture(alone) for alone, each in periods),
        "cores_for_training": median(each.cpu_seconds / each.seconds for each, _ in periods),
    }


def measure_crowd(pairs: int, seconds: float, number: int) -> dict[str, Any]:
    periods: dict[int, list[Period]] = {1: [], number: []}
    server_memory, training_memory, received_by_each = [], [], []
    with Trained() as trained:
        server = psutil.Process(trained.page._process.pid)
        for _ in range(pairs):
            for count, share in ((1, 0.25), (number, 0.75)):
                with browsers(trained.page.url, count) as received:
                    time.sleep(2)
                    before, began = received[0], time.perf_counter()
                    periods[count].append(trained.period(share * seconds))
                    rate = (received[0] - before) / (time.perf_counter() - began)
                    if count == number:
                        received_by_each.append(rate / (number - 2))
                        server_memory.append(server.memory_info().rss / MIB)
                        training_memory.append(psutil.Process().memory_info().rss / MIB)
    pairs_of_periods = list(zip(periods[1], periods[number], strict=True))
    ratios = [many.speed / one.speed for one, many in pairs_of_periods]
    cpu_ratios = [many.speed_per_cpu / one.speed_per_cpu for one, many in pairs_of_periods]
    return {
        "browsers": number,
        "pairs": pairs,
        "seconds_with_all": sum(each.seconds for each in periods[number]),
        "ratio": statistics.median(ratios),
        "ratio_least": min(ratios),
        "ratio_most": max(ratios),
        "ratio_per_cpu_second": statistics.median(cpu_ratios),
        "pictures_per_second_of_each": statistics.median(received_by_each),
        "server_mib": server_memory,
        "training_mib": training_memory,
    }


# The rest


def measure_equality(steps: int) -> dict[str, Any]:
    weights, pictures = [], 0
    for is_watched in (False, True):
        env: Any = gym.make("LunarLander-v3", render_mode="rgb_array")
        page = LivePage(port=0, quiet=True)
        if is_watched:
            env = LiveView(env, page=page)
        model = StreamQ("MlpPolicy", env, seed=0)
        if is_watched:
            env.attach(model)
            env.reset(seed=0)
            env.show()
            with browsers(page.url, 1) as received:
                env.wait_until_watched()
                model.learn(steps)
                time.sleep(1.5)
                pictures = received[0]
            env.close()
        else:
            model.learn(steps)
        page.close()
        weights.append(th.cat([each.detach().ravel() for each in model.policy.parameters()]))
    return {"steps": steps, "pictures": pictures, "equal": bool(th.equal(*weights))}


def measure_first_frame(repeats: int, algorithms: tuple[str, ...]) -> list[float]:
    """Seconds from the command to the first frame that a browser has, warm."""

    async def first_frame(url: str) -> None:
        address, origin = url.replace("http", "ws", 1) + "socket", url.rstrip("/")
        async with connect(address, origin=origin, max_size=None) as page:  # type: ignore[arg-type]
            async for message in page:
                if isinstance(message, bytes):
                    length = int.from_bytes(message[:4], "little")
                    if len(message) > 4 + length:
                        return

    seconds = []
    names = [word for name in algorithms for word in ("--algo", name)]
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats + 1):
            command = [Path(sys.executable).with_name("dqn-plugins"), "watch"]
            began = time.perf_counter()
            with subprocess.Popen(
                [*command, "--env", "LunarLander-v3", *names, "--port", "0", "--out", folder],
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stderr is not None
                found = re.search(r"http://\S+", process.stderr.readline())
                assert found is not None
                asyncio.run(first_frame(found[0]))
                seconds.append(time.perf_counter() - began)
                process.send_signal(signal.SIGINT)
                process.stderr.read()
    return seconds[1:]  # the first compiles


def measure_paint(repeats: int) -> list[float] | None:
    """Milliseconds to the first paint in headless Chromium; None without it."""
    driver = shutil.which("chromedriver")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or browser is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    page = LivePage(port=0, quiet=True)
    view = LiveView(Nothing(), page=page)
    paints = []
    with webdriver.Chrome(options=options, service=Service(driver)) as chromium:
        for _ in range(repeats):
            chromium.get("about:blank")
            chromium.get(page.url)
            paint = None
            while paint is None:
                time.sleep(0.05)
                paint = chromium.execute_script(
                    "return performance.getEntriesByType('paint')"
                    ".find(entry => entry.name === 'first-contentful-paint')?.startTime"
                )
            paints.append(float(paint))
    view.close()
    page.close()
    return paints


def machine() -> str:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        model = model if found is None else found[1]
    names = ("gymnasium", "stable-baselines3", "starlette", "uvicorn", "websockets")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"


def table(result: dict[str, Any]) -> str:
    step, watching, crowd = result["step"], result["watching"], result["crowd"]
    first, paint = result["first_frame"], result["paint"]
    flat = crowd["server_mib"]
    size = sum(file.stat().st_size for file in PAGE.iterdir()) / 1000
    equality = result["equality"]
    rows = [
        (
            "cost while nobody watches",
            "≤ 2 µs per step, no rendering",
            f"{step['microseconds']:.2f} µs (worst of the rounds {step['worst']:.2f}), "
            f"{step['renders']:.0f} frames rendered",
            step["microseconds"] <= 2 and step["renders"] == 0,
        ),
        (
            "cost while watched at 30 frames/s, full speed, LunarLander",
            "≤ 25 % of steps/s besides rendering itself",
            f"{3 * watching['picture_ms']:.0f} % of a core (CPU time: {watching['picture_ms']:.1f} "
            f"ms a frame, and {watching['rendering_ms']:.1f} ms for rendering it); in wall time "
            f"{100 * (1 - watching['ratio']):.0f} % with rendering (pairs from "
            f"{100 * (1 - watching['ratio_most']):.0f} to "
            f"{100 * (1 - watching['ratio_least']):.0f} %), where training had "
            f"{watching['cores_for_training']:.2f} cores",
            3 * watching["picture_ms"] <= 25,
        ),
        (
            "weights after training watched",
            "the same bit for bit as unwatched",
            f"{'the same' if equality['equal'] else 'DIFFERENT'} after {equality['steps']:,} steps "
            f"and {equality['pictures']} frames",
            equality["equal"],
        ),
        (
            "from `watch` with one algorithm to the first frame, warm",
            "≤ 4 s",
            f"{statistics.median(first['one']):.1f} s ({min(first['one']):.1f} to "
            f"{max(first['one']):.1f})",
            statistics.median(first["one"]) <= 4,
        ),
        (
            "the same with two algorithms",
            "≤ 4 s",
            f"{statistics.median(first['two']):.1f} s ({min(first['two']):.1f} to "
            f"{max(first['two']):.1f})",
            statistics.median(first["two"]) <= 4,
        ),
        (
            f"{crowd['browsers']} browsers, one stalled, one reconnecting every second, for "
            f"{crowd['seconds_with_all'] / 60:.1f} minutes: training's speed over one browser's",
            "≥ 0.90",
            f"{crowd['ratio_per_cpu_second']:.2f} per CPU second of training; in wall time "
            f"{crowd['ratio']:.2f} (pairs from {crowd['ratio_least']:.2f} to "
            f"{crowd['ratio_most']:.2f}), browsers and server being on the same cores; "
            f"{crowd['pictures_per_second_of_each']:.0f} frames/s for each",
            min(crowd["ratio"], crowd["ratio_per_cpu_second"]) >= 0.9,
        ),
        (
            "memory of the page's process meanwhile",
            "flat",
            f"{flat[0]:.0f} MiB at first, {flat[len(flat) // 2]:.0f} half-way, {flat[-1]:.0f} at "
            "the end",
            flat[-1] - flat[len(flat) // 2] < 5,
        ),
        ("the page", "≤ 200 KB", f"{size:.0f} KB", size <= 200),
        (
            "first paint in headless Chromium",
            "≤ 300 ms",
            "not measured, no Chromium here"
            if paint is None
            else f"{statistics.median(paint):.0f} ms (median of {len(paint)}, worst "
            f"{max(paint):.0f})",
            paint is not None and statistics.median(paint) <= 300,
        ),
    ]
    lines = ["| what | goal | measured | reached |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {goal} | {measured} | {'yes' if reached else 'no'} |"
        for what, goal, measured, reached in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works")
    arguments = parser.parse_args()
    quick = arguments.quick
    th.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine()}
    load = os.getloadavg()[1]
    result["step"] = measure_step(3 if quick else 11, 20_000 if quick else 100_000)
    print(json.dumps(result["step"]), flush=True)
    result["watching"] = measure_watching(2 if quick else 6, 2 if quick else 4)
    print(json.dumps(result["watching"]), flush=True)
    result["equality"] = measure_equality(10_000 if quick else 100_000)
    print(json.dumps(result["equality"]), flush=True)
    result["first_frame"] = {
        "one": measure_first_frame(1 if quick else 3, ("stream_q",)),
        "two": measure_first_frame(1 if quick else 3, ("stream_q", "naive_dqn")),
    }
    print(json.dumps(result["first_frame"]), flush=True)
    result["paint"] = measure_paint(3 if quick else 9)
    print(json.dumps(result["paint"]), flush=True)
    result["crowd"] = measure_crowd(2 if quick else 5, 6 if quick else 72, 50)
    print(json.dumps(result["crowd"]), flush=True)
    result["load"] = load, os.getloadavg()[1]
    text = "\n\n".join(
        [
            "# The live page: goals and measurements",
            table(result),
            "Speeds are medians of pairs of periods that alternate within one run: "
            f"{result['watching']['pairs']} pairs for one browser, {result['crowd']['pairs']} for "
            "the crowd, whose browsers run on the same cores. To repeat: `make bench-live`.",
            f"Machine: {result['machine']}; load average {result['load'][0]:.1f} before and "
            f"{result['load'][1]:.1f} after, from this and other work.",
        ]
    )
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "live.json").write_text(json.dumps(result, indent=2) + "\n")
        (RESULTS / "live.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
