import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dqn_plugins.comparison import run_comparison
from dqn_plugins.experiments.algorithms import ALGORITHMS, load_model, make_model, resolve
from dqn_plugins.experiments.record import RecordSettings, record
from dqn_plugins.wrappers import read_frames
from dqn_plugins.wrappers.notebook import caption_of
from tests.dqn_plugins.comparison.studies import ENVIRONMENT, small_study, status_of


@pytest.mark.parametrize("algorithm", sorted(set(ALGORITHMS) - {"dqn1"}))
def test_a_saved_model_of_any_algorithm_tells_what_it_is(tmp_path, algorithm):
    if not ALGORITHMS[algorithm].is_installed:
        pytest.skip("not installed")
    env = gym.make(ENVIRONMENT, render_mode="rgb_array")
    model = make_model(resolve(algorithm, ENVIRONMENT), env, seed=0)
    model.save(tmp_path / "model")
    assert type(load_model(tmp_path / "model.zip")) is type(model)
    assert type(load_model(tmp_path / "model")) is type(model)
    settings = RecordSettings(
        tmp_path / "model.zip", env=ENVIRONMENT, episodes=1, out=tmp_path / "videos"
    )
    (video,) = record(settings)
    beside = json.loads(video.with_suffix(".json").read_text())
    assert beside["length"] + 1 == sum(1 for _ in read_frames(video))
    assert beside["seed"] == 2_000_000
    assert caption_of(video).endswith(f"{beside['length']} steps")


def test_the_cells_of_a_comparison_can_be_recorded(tmp_path, capsys):
    out = tmp_path / "study"
    run_comparison(small_study(out, seeds=1, frame_stack=2, normalize=True))
    for algorithm in ("stream_q", "random"):
        cell = out / ENVIRONMENT / algorithm / "seed_0"
        videos = record(RecordSettings(cell, episodes=2, out=tmp_path / "videos"))
        assert [video.name for video in videos] == [
            f"{algorithm}-episode-0.mp4",
            f"{algorithm}-episode-1.mp4",
        ]
    # The same greedy episodes as those of the final evaluation.
    rows = (out / ENVIRONMENT / "stream_q" / "seed_0" / "final_evaluation.csv").read_text()
    first = float(rows.splitlines()[1].split(",")[2])
    assert f"return {first:.1f}, seed 2000000" in capsys.readouterr().err


def test_what_cannot_be_recorded_is_named(tmp_path: Path) -> None:
    def refused(message: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message):
            record(RecordSettings(tmp_path / "model.zip", **settings))

    refused(r"model.zip is not there")
    (tmp_path / "model.zip").write_bytes(b"no zip")
    refused("Pass --env")
    refused("cannot be read", env=ENVIRONMENT)
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        file.writestr("notes.txt", "no model")
    refused("cannot be read .*no policy", env=ENVIRONMENT)
    refused("episodes: received 0", env=ENVIRONMENT, episodes=0)
    model = make_model(resolve("naive_dqn", ENVIRONMENT), gym.make(ENVIRONMENT), seed=0)
    model.save(tmp_path / "model.zip")
    refused("Pass the environment it was trained on", env="Acrobot-v1")
    (tmp_path / "model.zip").write_bytes((tmp_path / "model.zip").read_bytes()[:500])
    refused("cannot be read", env=ENVIRONMENT, algo="naive_dqn")


def test_models_side_by_side_from_the_command_line(tmp_path, capsys):
    files = []
    for name in ("naive_dqn", "stream_q"):
        model = make_model(resolve(name, ENVIRONMENT), gym.make(ENVIRONMENT), seed=0)
        model.save(tmp_path / name)
        files.append(tmp_path / f"{name}.zip")
    out = tmp_path / "videos"
    given = ("--env", ENVIRONMENT, "--episodes", 1, "--out", out, "--side-by-side")
    assert status_of("record", *files, *given) == 0
    names = ["NaiveDQN-episode-0.mp4", "StreamQ-episode-0.mp4", "side-by-side-episode-0.mp4"]
    assert sorted(path.name for path in out.glob("*.mp4")) == names
    left, right, both = ([*read_frames(out / name)] for name in names)
    assert len(both) == max(len(left), len(right))
    height, width = left[0].shape[:2]
    # The first frame of each below its label, the second's to the right of the first's.
    for first, tile in ((left[0], both[0][:, :width]), (right[0], both[0][:, -width:])):
        seen = tile[tile.shape[0] - height :].astype(int)
        assert np.abs(seen - first).mean() < 6
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "NaiveDQN: " in shown
    assert "StreamQ: " in shown
    again = tmp_path / "again" / "stream_q.zip"
    model.save(again)
    assert status_of("record", *files, again, *given) == 0
    shown = capsys.readouterr().err.splitlines()[-1]
    labels = ["NaiveDQN", f"StreamQ ({tmp_path.name}/stream_q.zip)", "StreamQ (again/stream_q.zip)"]
    assert [each.rpartition(":")[0] for each in shown.partition(": ")[2].split(", ")] == labels
    assert status_of("record", files[0], *given) == 1
    assert "two or more of one environment" in capsys.readouterr().err.replace("\n", " ")
