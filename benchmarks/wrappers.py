"""
Measure the wrappers against their goals and against Gymnasium's and Stable-Baselines3's own.

    python benchmarks/wrappers.py

writes ``benchmarks/results/wrappers.json`` and ``wrappers.md``. Each ratio comes from rounds that
alternate within one run, so that a busy machine slows both sides.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers import RecordVideo as GymnasiumRecordVideo
from stable_baselines3.common.monitor import Monitor

from dqn_plugins.wrappers import EpisodeReward, RecordVideo, read_frames

RESULTS = Path(__file__).parent / "results"
MIB = 2**20


def lander() -> gym.Env[Any, Any]:
    return gym.make("LunarLander-v3", render_mode="rgb_array")


def run_episodes(env: gym.Env[Any, Any], episodes: int) -> int:
    """Play random episodes, the same in every call; return how many frames they have."""
    frames = 0
    for episode in range(episodes):
        env.action_space.seed(episode)
        env.reset(seed=episode)
        frames += 1
        done = False
        while not done:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            frames += 1
            done = terminated or truncated
    return frames


def proc_status(pid: int, key: str) -> int:
    """One of the memory figures of /proc, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


# --- memory ---


def memory_child(kind: str, frames: int, folder: str) -> dict[str, int]:
    """Render so many frames and record them with one recorder, or none; return peaks in bytes."""
    env: Any = lander()
    everything = {"video_folder": folder, "step_trigger": lambda step: step == 0}
    if kind == "ours":
        env = RecordVideo(env, video_length=10**9, **everything)
    elif kind == "gymnasium":
        env = GymnasiumRecordVideo(env, video_length=10**9, **everything)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(frames):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if kind == "none":
            env.render()
        if terminated or truncated:
            env.reset()
    peaks = {"encoder": 0, "encoder_anonymous": 0}
    if kind == "ours":
        encoder = env._video.writer._encoder.process.pid
        peaks["encoder"] = proc_status(encoder, "VmHWM")
        peaks["encoder_anonymous"] = proc_status(encoder, "RssAnon")
    env.close()
    peaks["program"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peaks


def in_child(name: str, *arguments: str) -> dict[str, int]:
    output = subprocess.run(
        [sys.executable, __file__, "--child", name, *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result: dict[str, int] = json.loads(output.splitlines()[-1])
    return result


def measure_memory(frames: int, gymnasium_frames: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        none = in_child("memory", "none", str(frames), folder)
        ours = in_child("memory", "ours", str(frames), folder)
        theirs = in_child("memory", "gymnasium", str(gymnasium_frames), folder)
    program = max(0, ours["program"] - none["program"])
    return {
        "frames": frames,
        "program_mib": program / MIB,
        "encoder_mib": ours["encoder"] / MIB,
        "encoder_anonymous_mib": ours["encoder_anonymous"] / MIB,
        "total_mib": (program + ours["encoder"]) / MIB,
        "gymnasium_frames": gymnasium_frames,
        "gymnasium_mib": (theirs["program"] - none["program"]) / MIB,
    }


# --- wall time ---


def timed(recorder: Any, episodes: int) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        env = recorder(lander(), folder, episode_trigger=lambda episode: True)
        frames = run_episodes(env, episodes)
        env.close()
        return time.perf_counter() - begun, frames


def measure_wall_time(rounds: int, episodes: int) -> dict[str, Any]:
    timed(RecordVideo, 1)
    timed(GymnasiumRecordVideo, 1)
    ours, theirs = [], []
    for index in range(rounds):
        order = [(RecordVideo, ours), (GymnasiumRecordVideo, theirs)]
        for recorder, seconds in order if index % 2 else reversed(order):
            elapsed, frames = timed(recorder, episodes)
            seconds.append(elapsed / frames)
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    return {
        "rounds": rounds,
        "frames_per_round": frames,
        "ours_ms_per_frame": 1e3 * statistics.median(ours),
        "gymnasium_ms_per_frame": 1e3 * statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


# --- kill -9 ---


def kill_child(frames: int, folder: str) -> None:
    """Record so many frames, say so, and wait to be killed."""
    env: Any = RecordVideo(lander(), folder, lambda episode: episode == 0, video_length=10**9)
    env.reset(seed=0)
    while len(env.recorded_frames) < frames:
        _, _, terminated, truncated, _ = env.step(0)
        if terminated or truncated:
            env.reset()
    encoder = env._video.writer._encoder.process.pid
    print(json.dumps([len(env.recorded_frames), encoder]), flush=True)
    time.sleep(600)


def measure_kill(frames: int, rounds: int) -> dict[str, Any]:
    fps = lander().metadata["render_fps"]
    lost = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            program = subprocess.Popen(
                [sys.executable, __file__, "--child", "kill", str(frames), folder],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            assert program.stdout is not None
            recorded, encoder = json.loads(program.stdout.readline())
            os.killpg(encoder, signal.SIGKILL)
            os.killpg(program.pid, signal.SIGKILL)
            program.communicate()
            with contextlib.suppress(ProcessLookupError):
                while os.kill(encoder, 0) is None and proc_state(encoder) != "Z":
                    time.sleep(0.01)
            (video,) = Path(folder).glob("*.mp4")
            lost.append(recorded - sum(1 for _ in read_frames(video)))
    return {"frames": recorded, "fps": fps, "rounds": rounds, "most_lost": max(lost), "lost": lost}


def proc_state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


# --- cost per step ---


class Idle(gym.Env[Any, Any]):
    """Costs next to nothing, so that the wrapper's own cost shows."""

    observation_space = gym.spaces.Box(-1, 1, (8,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def __init__(self) -> None:
        self.observation = np.zeros(8, dtype=np.float32)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode of 1,000 steps."""
        self.t = 0
        return self.observation, {}

    def step(self, action: int) -> Any:
        """Return the same observation and a reward of 1."""
        self.t += 1
        return self.observation, 1.0, False, self.t == 1000, {}


def seconds_per_step(env: gym.Env[Any, Any], steps: int) -> float:
    env.reset()
    step, reset = env.step, env.reset
    begun = time.perf_counter()
    for _ in range(steps):
        if step(0)[3]:
            reset()
    return (time.perf_counter() - begun) / steps


def measure_step_cost(rounds: int, steps: int) -> dict[str, Any]:
    makers: dict[str, Callable[[], gym.Env[Any, Any]]] = {
        "bare": Idle,
        "EpisodeReward": lambda: EpisodeReward(Idle()),
        "EpisodeReward with gamma": lambda: EpisodeReward(Idle(), gamma=0.99),
        "RecordEpisodeStatistics": lambda: RecordEpisodeStatistics(Idle()),
        "Monitor": lambda: Monitor(Idle()),
    }
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds):
        for name, maker in makers.items():
            times[name].append(seconds_per_step(maker(), steps))
    costs = {
        name: 1e6
        * statistics.median(
            one - bare for one, bare in zip(times[name], times["bare"], strict=True)
        )
        for name in makers
        if name != "bare"
    }
    return {"rounds": rounds, "steps": steps, "microseconds_per_step": costs}


# --- report ---


def machine() -> dict[str, Any]:
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    packages = ("gymnasium", "stable-baselines3", "moviepy", "imageio-ffmpeg", "numpy")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def report(results: dict[str, Any]) -> str:
    memory, wall = results["memory"], results["wall_time"]
    kill, step = results["kill"], results["step_cost"]["microseconds_per_step"]
    allowed = 2 * kill["fps"]

    def verdict(reached: bool) -> str:
        return "yes" if reached else "**no**"

    rows = [
        (
            f"peak extra memory while recording {memory['frames']:,} frames of 600×400",
            "< 60 MiB",
            f"{memory['total_mib']:.0f} MiB ({memory['program_mib']:.1f} MiB in the program, "
            f"{memory['encoder_mib']:.0f} MiB the whole encoder process)",
            verdict(memory["total_mib"] < 60),
        ),
        (
            "wall time of stepping + rendering + recording over Gymnasium's `RecordVideo`, same "
            "episodes",
            "≤ 1.0",
            f"{wall['ratio']:.2f} ({wall['ours_ms_per_frame']:.2f} against "
            f"{wall['gymnasium_ms_per_frame']:.2f} ms a frame)",
            verdict(wall["ratio"] <= 1.0),
        ),
        (
            "`kill -9` of program and encoder after n frames: frames that play",
            f"≥ n − {allowed}",
            f"n − {kill['most_lost']} at worst of {kill['rounds']} (n = {kill['frames']})",
            verdict(kill["most_lost"] <= allowed),
        ),
        (
            "cost of `EpisodeReward` per step over the bare environment",
            "≤ 1.5 µs",
            f"{step['EpisodeReward']:.2f} µs",
            verdict(step["EpisodeReward"] <= 1.5),
        ),
    ]
    lines = [
        "# Wrappers: goals and measurements",
        "",
        "| what | goal | measured | reached |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "For comparison:",
        "",
        f"- Gymnasium's `RecordVideo` took {memory['gymnasium_mib']:.0f} MiB more for "
        f"{memory['gymnasium_frames']:,} such frames.",
        f"- Of the encoder's memory, {memory['encoder_anonymous_mib']:.0f} MiB are its own data; "
        "the rest is the ffmpeg program itself.",
        *(
            f"- `{name}` costs {cost:.2f} µs a step."
            for name, cost in step.items()
            if name != "EpisodeReward"
        ),
        "",
        f"Medians over {wall['rounds']} alternating rounds of {wall['frames_per_round']} frames "
        f"(wall time) and {results['step_cost']['rounds']} of {results['step_cost']['steps']:,} "
        "steps (cost per step). To repeat: `python benchmarks/wrappers.py`.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in results["machine"].items()),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5000, help="frames of the memory test")
    parser.add_argument("--gymnasium-frames", type=int, default=1000, help="the same for Gymnasium")
    parser.add_argument("--rounds", type=int, default=9, help="alternating rounds")
    parser.add_argument("--episodes", type=int, default=4, help="episodes per round of wall time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, *rest = options.child
        if name == "memory":
            print(json.dumps(memory_child(rest[0], int(rest[1]), rest[2])))
        else:
            kill_child(int(rest[0]), rest[1])
        return
    results = {
        "machine": machine(),
        "memory": measure_memory(options.frames, options.gymnasium_frames),
        "wall_time": measure_wall_time(options.rounds, options.episodes),
        "kill": measure_kill(frames=400, rounds=5),
        "step_cost": measure_step_cost(options.rounds, steps=100_000),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "wrappers.json").write_text(json.dumps(results, indent=2) + "\n")
    text = report(results)
    (options.out / "wrappers.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
