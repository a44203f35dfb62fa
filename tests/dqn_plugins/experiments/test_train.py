import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dqn_plugins import StreamQ
from dqn_plugins.experiments.train import TrainSettings, train


def settings_for(out: Path, algo: str = "stream_q", **changes) -> TrainSettings:
    settings = TrainSettings(algo, "CartPole-v1", 400, seed=3, out=out, checkpoint_every=150)
    return replace(settings, **changes)


def weights(model: Path) -> bytes:
    with zipfile.ZipFile(model) as file:
        return file.read("policy.pth")


def episode_lengths(folder: Path) -> list[int]:
    with (folder / "monitor.csv").open() as file:
        next(file)
        return [int(row["l"]) for row in csv.DictReader(file) if row["incomplete"] == "False"]


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        ("stream_q", {}),
        ("naive_dqn", {}),
        ("dqn", {}),
        ("a2c", {}),
    ],
)
def test_resumed_from_a_checkpoint_the_model_is_the_same(tmp_path, algo, changes):
    whole = settings_for(tmp_path / "whole", algo, **changes)
    model = train(whole)
    checkpoints = sorted((whole.out / "checkpoints").glob("*.zip"))
    assert [path.name for path in checkpoints] == ["model_150_steps.zip", "model_300_steps.zip"]

    # As if it had been killed after the last checkpoint, the log being further
    stopped = replace(whole, out=tmp_path / "stopped", resume=True)
    shutil.copytree(whole.out, stopped.out)
    (stopped.out / "model.zip").unlink()
    resumed = train(stopped)
    assert weights(resumed) == weights(model) != weights(checkpoints[1])
    assert episode_lengths(stopped.out) == episode_lengths(whole.out)

    # And as if it had never begun.
    again = replace(whole, out=tmp_path / "again", resume=True)
    assert weights(train(again)) == weights(model)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_and_resumed_the_model_is_the_same(tmp_path):
    whole = settings_for(tmp_path / "whole", timesteps=6_000, checkpoint_every=1_000)
    model = train(whole)
    killed = replace(whole, out=tmp_path / "killed", resume=True)
    command = [sys.executable, "-m", "dqn_plugins", "train", "--algo", "stream_q"]
    command += ["--env", "CartPole-v1", "--timesteps", "6000", "--seed", "3"]
    command += ["--checkpoint-every", "1000", "--out", str(killed.out)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(killed.out.glob("checkpoints/model_*")):
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert weights(train(killed)) == weights(model)


def test_a_damaged_checkpoint_is_left_aside(tmp_path, capsys):
    whole = settings_for(tmp_path / "run")
    model = weights(train(whole))
    (whole.out / "model.zip").unlink()
    newest = whole.out / "checkpoints" / "model_300_steps.zip"
    newest.write_bytes(newest.read_bytes()[:500])
    assert weights(train(replace(whole, resume=True))) == model
    assert "model_300_steps.zip is damaged" in capsys.readouterr().err


def test_a_folder_that_is_taken_is_refused(tmp_path):
    settings = settings_for(tmp_path / "run", timesteps=20, checkpoint_every=None)
    model = train(settings)
    assert StreamQ.load(model).num_timesteps == 20
    assert json.loads((settings.out / "settings.json").read_text())["algorithm_class"] == "StreamQ"
    with pytest.raises(ValueError, match=r"holds a run already. Pass --resume"):
        train(settings)
    with pytest.raises(ValueError, match=r"another run, with another timesteps"):
        train(replace(settings, timesteps=30, resume=True))
    date = model.stat().st_mtime_ns
    assert train(replace(settings, resume=True)).stat().st_mtime_ns == date
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty"):
        train(replace(settings, out=tmp_path / "other"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo": "random"}, "learns nothing"),
        ({"algo": "strem_q"}, "Did you mean 'stream_q'"),
        ({"timesteps": 0}, "timesteps: received 0"),
        ({"checkpoint_every": 0}, "checkpoint_every: received 0"),
        ({"env": "Pendulum-v1"}, "continuous"),
    ],
)
def test_bad_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(settings_for(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
