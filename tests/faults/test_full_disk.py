"""A disk that fills up stops with a clear error, and what was written before is intact."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.monitor import load_results

from dqn_plugins import EnvironmentStepError, NaiveDQN
from dqn_plugins.wrappers import EpisodeReward, RecordVideo, read_frames
from tests.environments import RecordingEnv, ScriptedEnv
from tests.helpers import everything
from tests.wrappers.scripted import Scripted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"there is no mount command: {error}")
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, leave: int) -> None:
    """Fill a disk until so many bytes are left."""
    status = os.statvfs(disk)
    free = status.f_bavail * status.f_frsize
    (disk / "filler").write_bytes(bytes(max(free - leave, 0)))


def test_a_model_that_does_not_fit_leaves_the_earlier_one(small_disk):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0).learn(5)
    model.save(small_disk / "model")
    fill(small_disk, leave=8192)
    model.learn(5)
    with pytest.raises((OSError, RuntimeError)) as error:
        model.save(small_disk / "model")
    causes = [error.value, error.value.__cause__, error.value.__context__]
    assert any(getattr(cause, "errno", None) == errno.ENOSPC for cause in causes)
    assert NaiveDQN.load(small_disk / "model").num_timesteps == 5
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "model.zip"]


class Noise(Scripted):
    """Pictures that cannot be compressed."""

    def __init__(self) -> None:
        super().__init__([([0.0] * 50, "terminated")], size=(128, 128))

    def render(self) -> Any:
        return np.random.default_rng(self.t).integers(0, 256, (128, 128, 3), np.uint8)


def test_recording_on_a_full_disk_stops_and_earlier_videos_play(small_disk):
    env = RecordVideo(Noise(), str(small_disk), video_length=5, step_trigger=lambda step: True)
    env.step_trigger = lambda step: step == 0
    model = NaiveDQN("MlpPolicy", env, seed=0).learn(20)
    env.video_length, env.step_trigger = float("inf"), lambda step: step == 20
    fill(small_disk, leave=40_000)
    states = []

    def remember(*_: Any) -> bool:
        states.append(everything(model))
        return True

    with pytest.raises(EnvironmentStepError, match=r"video encoder (stopped|failed)") as error:
        model.learn(2_000, callback=remember, reset_num_timesteps=False)
    assert isinstance(error.value.__cause__, OSError)
    assert everything(model) == states[-1]
    assert sum(1 for _ in read_frames(small_disk / "rl-video-step-0.mp4")) == 5
    # Without recording, learning goes on.
    env.step_trigger = None
    model.learn(20, reset_num_timesteps=False)
    assert everything(model) != states[-1]


def test_logging_on_a_full_disk_stops_and_earlier_rows_are_whole(small_disk):
    env = EpisodeReward(ScriptedEnv([([1.0], "terminated")]), log_file=small_disk / "log")
    model = NaiveDQN("MlpPolicy", env, seed=0).learn(10)
    fill(small_disk, leave=0)
    with pytest.raises(EnvironmentStepError, match="No space left on device") as error:
        model.learn(2_000, reset_num_timesteps=False)
    rows = load_results(str(small_disk))
    # All episodes but the one that found no room, and no half row after them.
    assert len(rows) == error.value.step - 1 > 10
    assert (small_disk / "log.monitor.csv").read_text().endswith("\n")
    (small_disk / "filler").unlink()
    model.learn(10, reset_num_timesteps=False)
    assert len(load_results(str(small_disk))) > len(rows)
