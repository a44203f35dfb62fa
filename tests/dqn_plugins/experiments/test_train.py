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
from dqn_plugins.experiments.algorithms import load_model
from dqn_plugins.experiments.train import TrainSettings, train
from tests.dqn_plugins.comparison.studies import episodes_of


def settings_for(out: Path, algo: str = "stream_q", **changes) -> TrainSettings:
    settings = TrainSettings(algo, "CartPole-v1", 400, seed=3, out=out, checkpoint_every=150)
    return replace(settings, **changes)


def weights(model: Path) -> bytes:
    with zipfile.ZipFile(model) as file:
        return file.read("policy.pth")


def episode_lengths(folder: Path) -> list[int]:
    return [int(row["l"]) for row in episodes_of(folder, "*monitor.csv")]


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        ("stream_q", {}),
        ("naive_dqn", {"n_envs": 2}),
        ("dqn", {"hp": ("learning_starts:20",)}),
        ("a2c", {"normalize": True}),
        ("random", {"n_envs": 2}),
    ],
)
def test_checkpoints_change_nothing_about_the_run(tmp_path, algo, changes):
    plain = settings_for(tmp_path / "plain", algo, checkpoint_every=None, **changes)
    saved = settings_for(tmp_path / "saved", algo, **changes)
    assert weights(train(plain)) == weights(train(saved))
    assert episode_lengths(plain.out) == episode_lengths(saved.out)
    names = [path.name for path in sorted((saved.out / "checkpoints").glob("*.zip"))]
    assert names == ["model_150_steps.zip", "model_300_steps.zip"]


@pytest.mark.parametrize(
    ("algo", "changes"),
    [
        ("stream_q", {}),
        ("dqn", {"hp": ("learning_starts:20",)}),
        ("a2c", {"normalize": True}),
    ],
)
def test_a_run_goes_on_from_its_newest_checkpoint(tmp_path, algo, changes):
    whole = settings_for(tmp_path / "whole", algo, **changes)
    train(whole)
    models = []
    for name in ("once", "twice"):
        stopped = replace(whole, out=tmp_path / name, resume=True)
        shutil.copytree(whole.out, stopped.out)
        (stopped.out / "model.zip").unlink()
        # As if it had been killed while it wrote a row.
        (log,) = stopped.out.glob("*monitor.csv")
        log.write_text(log.read_text() + "12.0,1")
        models.append(train(stopped))
        assert sum(episode_lengths(stopped.out)) <= 400
        assert load_model(models[-1], algo).num_timesteps == 400
    newest = whole.out / "checkpoints" / "model_300_steps.zip"
    assert weights(models[0]) == weights(models[1]) != weights(newest)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_at_any_moment_a_run_can_be_resumed(tmp_path):
    killed = settings_for(tmp_path / "killed", timesteps=6_000, checkpoint_every=1_000, resume=True)
    command = [sys.executable, "-m", "dqn_plugins", "train", "--algo", "stream_q"]
    command += ["--env", "CartPole-v1", "--timesteps", "6000", "--seed", "3"]
    command += ["--checkpoint-every", "1000", "--out", str(killed.out)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not list(killed.out.glob("checkpoints/model_*.zip")):
        assert time.monotonic() < end
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert StreamQ.load(train(killed)).num_timesteps == 6_000
    assert sum(episode_lengths(killed.out)) <= 6_000


def test_a_damaged_checkpoint_is_skipped(tmp_path, capsys):
    whole = settings_for(tmp_path / "run")
    train(whole)
    (whole.out / "model.zip").unlink()
    newest = whole.out / "checkpoints" / "model_300_steps.zip"
    newest.write_bytes(newest.read_bytes()[:500])
    train(replace(whole, resume=True))
    said = capsys.readouterr().err
    assert "Going on from" in said
    assert "model_150_steps.zip" in said
    assert "model_300_steps.zip is damaged" in said


def test_a_folder_that_is_taken_is_refused(tmp_path):
    settings = settings_for(tmp_path / "run", timesteps=20, checkpoint_every=None)
    model = train(settings)
    assert StreamQ.load(model).num_timesteps == 20
    assert json.loads((settings.out / "settings.json").read_text())["algorithm_class"] == "StreamQ"
    with pytest.raises(ValueError, match=r"holds a run already. Pass --resume"):
        train(settings)
    with pytest.raises(ValueError, match=r"another run, with another timesteps"):
        train(replace(settings, timesteps=30, resume=True))
    for damaged in ("{", "[]"):
        other = settings_for(tmp_path / "damaged", resume=True)
        other.out.mkdir(exist_ok=True)
        (other.out / "settings.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"settings\.json is damaged"):
            train(other)
    date = model.stat().st_mtime_ns
    assert train(replace(settings, resume=True)).stat().st_mtime_ns == date
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty"):
        train(replace(settings, out=tmp_path / "other"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hp": ("gamma:2.0",)}, "gamma: received 2.0"),
        ({"algo": "strem_q"}, "Did you mean 'stream_q'"),
        ({"zoo": "streamq.yml"}, "zoo: received 'streamq.yml'.*such as stream_q.yml"),
        ({"timesteps": 0}, "timesteps: received 0"),
        ({"checkpoint_every": 0}, "checkpoint_every: received 0"),
    ],
)
def test_bad_settings_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(settings_for(tmp_path / "run", **changes))
    # The command can be corrected and run again.
    assert not (tmp_path / "run").exists()
