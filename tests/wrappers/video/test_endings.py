"""Whatever ends the program, what was recorded until then plays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stable_baselines3.common.monitor import load_results

from dqn_plugins.wrappers import read_frames
from tests.wrappers.video.endings import FPS, FRAMES

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 60
    while left := [pid for pid in pids if not gone(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"{len(left)} of {len(pids)} processes did not end")
        time.sleep(0.02)


@pytest.fixture(scope="module")
def recorder() -> Iterator[subprocess.Popen[str]]:
    script = Path(__file__).with_name("endings.py")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


def begin(recorder: subprocess.Popen[str], scenario: str, folder: Path) -> tuple[int, int]:
    assert recorder.stdin is not None
    assert recorder.stdout is not None
    recorder.stdin.write(f"{scenario} {folder}\n")
    recorder.stdin.flush()
    word, program, encoder = recorder.stdout.readline().split()
    assert word == "ready"
    return int(program), int(encoder)


def frames_that_play(folder: Path) -> int:
    return sum(1 for _ in read_frames(folder / "rl-video-episode-0.mp4"))


def test_kill_9_of_program_and_encoder_loses_two_seconds_at_most(
    recorder: subprocess.Popen[str], tmp_path: Path
) -> None:
    program, encoder = begin(recorder, "wait", tmp_path)
    # The encoder first: it must not get to see that its input has ended.
    os.killpg(encoder, signal.SIGKILL)
    os.killpg(program, signal.SIGKILL)
    wait_until_gone(program, encoder)
    assert FRAMES - 2 * FPS <= frames_that_play(tmp_path) <= FRAMES
    sidecar = json.loads((tmp_path / "rl-video-episode-0.json").read_text())
    assert sidecar["complete"] is False
    assert sidecar["seed"] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_process_group_loses_nothing(
    recorder: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    program, encoder = begin(recorder, "wait", tmp_path)
    os.killpg(program, number)
    wait_until_gone(program, encoder)
    assert frames_that_play(tmp_path) == FRAMES


@pytest.mark.parametrize("scenario", ["exception", "never_closed", "sys_exit", "os_exit"])
def test_an_environment_that_is_never_closed_loses_nothing(
    recorder: subprocess.Popen[str], tmp_path: Path, scenario: str
) -> None:
    program, encoder = begin(recorder, scenario, tmp_path)
    wait_until_gone(program, encoder)
    assert frames_that_play(tmp_path) == FRAMES
    sidecar = json.loads((tmp_path / "rl-video-episode-0.json").read_text())
    assert sidecar["complete"] is (scenario != "os_exit")


def test_kill_9_keeps_the_rows_of_finished_episodes(
    recorder: subprocess.Popen[str], tmp_path: Path
) -> None:
    program, encoder = begin(recorder, "wait", tmp_path)
    log = tmp_path / "log.monitor.csv"
    assert len(log.read_text().splitlines()) == 2
    os.killpg(program, signal.SIGKILL)
    wait_until_gone(program, encoder)
    assert load_results(str(tmp_path)).empty
