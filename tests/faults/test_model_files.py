"""A model file that is cut short, foreign or malicious is refused before anything in it runs."""

import base64
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN

from dqn_plugins import NaiveDQN, StreamQ
from tests.algorithms import ALGORITHMS, each_algorithm
from tests.environments import RecordingEnv
from tests.helpers import everything


@pytest.fixture
def model() -> StreamQ:
    return StreamQ("MlpPolicy", RecordingEnv(), seed=0).learn(20)


@pytest.fixture
def file(tmp_path: Path, model: StreamQ) -> Path:
    model.save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.place,)


def rewritten(file: Path, change: dict[str, bytes | None]) -> Path:
    """A copy of a model file with some of its entries replaced, or left out."""
    copy = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = change.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return copy


def with_bomb_in_data(file: Path, place: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        data = json.loads(archive.read("data"))
    data["lr_schedule"][":serialized:"] = base64.b64encode(pickle.dumps(Bomb(place))).decode()
    return rewritten(file, {"data": json.dumps(data).encode()})


def test_weights_are_read_without_unpickling_anything(tmp_path, model, file):
    place = tmp_path / "made by the file"
    malicious = with_bomb_in_data(file, place)
    other = StreamQ("MlpPolicy", RecordingEnv(), seed=1)
    other.set_parameters(malicious)
    assert everything(other) == everything(model)
    assert not place.exists()
    # It is a real danger: `load` unpickles, as Stable-Baselines3's does.
    with pytest.raises(Exception):  # noqa: B017, PT011
        StreamQ.load(malicious).learn(1)
    assert place.exists()


def test_a_pickle_in_place_of_weights_is_refused(tmp_path, model, file):
    place = tmp_path / "made by the file"
    bomb = io.BytesIO()
    th.save(Bomb(place), bomb)
    malicious = rewritten(file, {"policy.pth": bomb.getvalue()})
    before = everything(model)
    with pytest.raises(ValueError, match="cannot be read as tensors"):
        model.set_parameters(malicious)
    assert not place.exists()
    assert everything(model) == before


@pytest.mark.parametrize("left", [0, 3, 100, 0.5, 0.99, -1])
@pytest.mark.parametrize("read", ["load", "set_parameters"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, model, file, left, read):
    place = tmp_path / "made by the file"
    whole = with_bomb_in_data(file, place).read_bytes()
    length = int(len(whole) * left) if isinstance(left, float) else left % len(whole)
    file.write_bytes(whole[:length])
    words = "is empty" if length == 0 else "cut short" if length > 3 else "no zip file"
    before = everything(model)
    with pytest.raises(ValueError, match=f"path: .*model.zip.* {words}"):
        StreamQ.load(file) if read == "load" else model.set_parameters(file)
    assert not place.exists()
    assert everything(model) == before


def test_a_flipped_bit_is_found(tmp_path, file):
    content = bytearray(file.read_bytes())
    content[content.index(b"policy.pth") + 500] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        StreamQ.load(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"import os\n", "no zip file: it begins with b'impo'"), (None, "has no data, policy.pth")],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, words):
    file = tmp_path / "model.zip"
    if content is None:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        NaiveDQN.load(file)


@each_algorithm
def test_the_model_of_another_algorithm_is_refused(tmp_path, row):
    for other in (*(each.algorithm for each in ALGORITHMS), DQN):
        if other is not row.algorithm:
            other("MlpPolicy", RecordingEnv(), seed=0).save(tmp_path / "model")
            own = "q_step_size|trace_decay|bootstrap_at_truncation"
            with pytest.raises(ValueError, match=rf"model of another algorithm.*({own})"):
                row.algorithm.load(tmp_path / "model")


def test_a_description_that_is_no_json_is_refused(file):
    with pytest.raises(ValueError, match=r"description of the model .* cannot be read"):
        StreamQ.load(rewritten(file, {"data": b"\x80\x04N."}))


def test_parameters_of_another_architecture_change_nothing(file):
    other = StreamQ("MlpPolicy", RecordingEnv(), policy_kwargs={"net_arch": [7]}, seed=1).learn(9)
    before = everything(other)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.set_parameters(file)
    assert everything(other) == before
    other.learn(5, reset_num_timesteps=False)


def test_a_file_object_is_read_and_stays_open(model, file):
    other = StreamQ("MlpPolicy", RecordingEnv(), seed=1)
    with file.open("rb") as opened:
        other.set_parameters(opened)
        assert everything(StreamQ.load(opened)) == everything(other) == everything(model)
    assert np.isfinite(other.q_net.q_net[0].weight.detach().numpy()).all()
