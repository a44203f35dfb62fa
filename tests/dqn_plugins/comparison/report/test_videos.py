"""Videos of models that were really trained, and reports without them."""

import base64
import hashlib
import json
import re
import shutil
import zipfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from rich.console import Console

from dqn_plugins.comparison import run_comparison
from dqn_plugins.comparison.report.page import write_report
from dqn_plugins.comparison.report.videos import shrunk_to
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.study import plan
from dqn_plugins.comparison.summary import summarise
from dqn_plugins.files import read_json
from dqn_plugins.wrappers import VideoWriter, read_frames
from tests.dqn_plugins.comparison.studies import ENVIRONMENT, small_study, status_of

ALGORITHMS = ("stream_q", "ppo", "random")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two algorithms and random actions, barely trained."""
    out = tmp_path_factory.mktemp("study") / "runs"
    assert not run_comparison(small_study(out, algo=ALGORITHMS, seeds=1, videos=True)).failed
    return out


@pytest.fixture
def no_encoder(monkeypatch):
    monkeypatch.setenv("FFMPEG_BINARY", "/nowhere/ffmpeg")


def test_the_page_holds_the_video_of_every_algorithm_on_one_episode(study, tmp_path):
    page = write_report(study).read_text()
    (address,) = re.findall(r'src="data:video/mp4;base64,([^"]*)"', page)
    content = base64.b64decode(address)
    assert content == (study / "videos" / f"{ENVIRONMENT}.mp4").read_bytes()
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(content)
    frames = list(read_frames(copy))
    assert frames[0].shape[1] >= 3 * 600
    assert [path.name for path in (study / "videos").iterdir()] == [f"{ENVIRONMENT}.mp4"]
    # The deterministic ones play the first final episode again.
    summary = summarise(read_study(study))
    for row in summary.rows[:2]:
        facts = row.cells[0].video_facts
        assert facts["seed"] == 2_000_000
        assert facts["episode_return"] == row.cells[0].final_episodes["return"].iloc[0]
        assert facts["length"] == row.cells[0].final_episodes["length"].iloc[0]
        assert len(frames) > facts["length"]


def test_without_an_encoder_the_report_says_so(study, no_encoder, capsys):
    page = write_report(study).read_text()
    assert "<video" not in page
    assert "/nowhere/ffmpeg" in page
    assert "No video: The ffmpeg at" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def bomb(tmp_path):
    """What leaves a trace when it is unpickled; there must be none."""

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    yield cloudpickle.dumps(Bomb())
    assert not (tmp_path / "exploded").exists()


def test_a_report_runs_nothing_from_the_study(study, tmp_path, bomb):
    """A model that would run a command when it is unpickled is never even opened."""
    copy = shutil.copytree(study, tmp_path / "copy")
    cell = copy / ENVIRONMENT / "ppo" / "seed_0"
    (cell / "model.zip").write_bytes(bomb)
    done = json.loads((cell / "done.json").read_text())
    digest = hashlib.sha256((cell / "model.zip").read_bytes()).hexdigest()
    done["sha256"]["model.zip"] = digest
    (cell / "done.json").write_text(json.dumps(done))
    assert "data:video" in write_report(copy).read_text()


def test_a_recording_reads_weights_and_unpickles_nothing(study, tmp_path, bomb):
    out = shutil.copytree(study, tmp_path / "copy")
    _, (_, job, _) = plan(small_study(out, algo=ALGORITHMS, seeds=1), Console(quiet=True))
    with zipfile.ZipFile(job.folder / "model.zip") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    data = json.loads(entries["data"])
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(bomb).decode()
    entries["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(job.folder / "model.zip", "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    (job.folder / "episode.mp4").unlink()
    job.record_video(with_q_values=False)
    assert read_json(job.folder / "episode.json")["shown"] > 0
    assert (job.folder / "episode.mp4").exists()


def test_an_environment_that_cannot_be_drawn_is_named(study, tmp_path):
    out = shutil.copytree(study, tmp_path / "copy")
    for cell in read_study(out).cells:
        cell.video.unlink()
        (cell.folder / "episode.json").write_text('{"error": "RuntimeError: no screen"}')
    assert "RuntimeError: no screen" in write_report(out).read_text()


def test_videos_that_are_too_large_are_shrunk(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 160, 240, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "large.mp4", fps=10) as writer:
        for frame in noise:
            writer.write(frame)
    size = writer.path.stat().st_size
    assert shrunk_to(writer.path, size) == writer.path.read_bytes()
    small = shrunk_to(writer.path, size // 3)
    assert len(small) <= size // 3
    (tmp_path / "small.mp4").write_bytes(small)
    frames = list(read_frames(tmp_path / "small.mp4"))
    assert len(frames) == 12
    assert frames[0].shape[:2] in {(80, 120), (53, 80), (54, 80), (40, 60)}
    assert shrunk_to(writer.path, 100) is None


def test_videos_are_left_out_on_request(study, capsys):
    assert not status_of("report", study, "--no-videos")
    page = (study / "report.html").read_text()
    assert "data:video" not in page
    assert "not asked for" in page
    assert "No video" not in capsys.readouterr().out
