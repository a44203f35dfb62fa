"""Whatever happens while a model is saved, the earlier file is intact."""

import os
import random
import signal
import stat
import time

import numpy as np
import pytest

from dqn_plugins import NaiveDQN
from tests.environments import RecordingEnv
from tests.helpers import weights

N_KILLS = 5


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError("the child did not end")


def test_kill_9_while_saving_leaves_a_whole_file(begin, tmp_path):
    generator = random.Random(0)
    steps = []
    for _ in range(N_KILLS):
        child = begin("saving", tmp_path)
        assert child.answer() == "saving"
        time.sleep(generator.uniform(0.0, 0.1))
        child.send(signal.SIGKILL)
        wait_until_gone(child.pid)
        model = NaiveDQN.load(tmp_path / "model")
        steps.append(model.num_timesteps)
        assert np.isfinite(weights(model)).all()
    # Files were replaced, and some kill came in the middle of a saving.
    assert max(steps) > 5
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".model.zip.")]


def test_kill_9_while_a_callback_saves_leaves_whole_files(begin, tmp_path):
    child = begin("checkpoints", tmp_path)
    assert child.answer() == "saving"
    while len(list(tmp_path.glob("*.zip"))) < 5:
        time.sleep(0.01)
    child.send(signal.SIGKILL)
    wait_until_gone(child.pid)
    files = list(tmp_path.glob("*.zip"))
    assert {NaiveDQN.load(file).num_timesteps for file in files} == {*range(1, len(files) + 1)}


@pytest.fixture
def model() -> NaiveDQN:
    return NaiveDQN("MlpPolicy", RecordingEnv(), seed=0).learn(10)


def test_a_saving_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path, model):
    model.save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    model.learn(10)
    model.unpicklable = (number for number in range(3))
    with pytest.raises(TypeError, match="pickle"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_the_file_has_the_permissions_of_any_other(tmp_path, model):
    (tmp_path / "other").touch()
    model.save(tmp_path / "model")
    file = tmp_path / "model.zip"
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    file.chmod(0o600)
    model.save(tmp_path / "model")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_and_devices_stay_what_they_are(tmp_path, model):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "latest.zip"
    link.symlink_to(tmp_path / "folder" / "model.zip")
    model.save(link)
    assert link.is_symlink()
    assert NaiveDQN.load(tmp_path / "folder" / "model").num_timesteps == 10
    device = tmp_path / "device.zip"
    device.symlink_to(os.devnull)
    model.save(device)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_missing_folders_are_made_and_suffixes_kept(tmp_path, model):
    for name in ("a/b/model", "model.backup", "model.v2.zip"):
        model.save(tmp_path / name)
    assert (tmp_path / "a" / "b" / "model.zip").is_file()
    assert (tmp_path / "model.backup").is_file()
    assert NaiveDQN.load(tmp_path / "model.v2").num_timesteps == 10


def test_a_folder_in_the_way_is_walked_around_as_sb3_does(tmp_path, model):
    (tmp_path / "model.zip").mkdir()
    with pytest.warns(UserWarning, match="is a folder"):
        model.save(tmp_path / "model")
    assert (tmp_path / "model.zip_2").is_file()
