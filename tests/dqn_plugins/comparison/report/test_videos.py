"""Videos of models that were really trained, and reports without them."""

import base64
import re

import numpy as np
import pytest

from dqn_plugins.cli import main
from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.report.videos import record_comparison, shrunk_to
from dqn_plugins.comparison.report.write import write_report
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.summary import summarise
from dqn_plugins.wrappers import VideoWriter, read_frames

ENVIRONMENT = "CartPole-v1"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two algorithms and random actions, barely trained."""
    out = tmp_path_factory.mktemp("study") / "runs"
    settings = ComparisonSettings(
        env=(ENVIRONMENT,),
        algo=("stream_q", "ppo", "random"),
        seeds=1,
        timesteps=300,
        evaluations=2,
        evaluation_episodes=2,
        final_evaluation_episodes=2,
        out=out,
        jobs=1,
    )
    assert not run_comparison(settings).failed
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
    video = record_comparison(summary, ENVIRONMENT, tmp_path)
    assert video.episode_seed == 2_000_000
    assert [episode.algorithm for episode in video.episodes] == ["stream_q", "ppo", "random"]
    for row, episode in zip(summary.rows[:2], video.episodes[:2], strict=True):
        assert episode.episode_return == row.cells[0].final_episodes["return"].iloc[0]
        assert episode.length == row.cells[0].final_episodes["length"].iloc[0]
    longest = max(episode.length for episode in video.episodes)
    assert len(frames) >= longest


def test_without_an_encoder_the_report_says_so(study, no_encoder, capsys):
    page = write_report(study).read_text()
    assert "<video" not in page
    assert "/nowhere/ffmpeg" in page
    assert "No video: The ffmpeg at" in " ".join(capsys.readouterr().out.split())


def test_a_model_that_cannot_be_read_is_named(study, tmp_path):
    summary = summarise(read_study(study))
    model = summary.rows[0].cells[0].model_file
    content = model.read_bytes()
    try:
        model.unlink()
        with pytest.raises(FileNotFoundError, match=r"stream_q on CartPole-v1, seed 0: its model"):
            record_comparison(summary, ENVIRONMENT, tmp_path)
    finally:
        model.write_bytes(content)


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
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(study), "--no-videos"])
    assert not exit_.value.code
    page = (study / "report.html").read_text()
    assert "data:video" not in page
    assert "not asked for" in page
    assert "No video" not in capsys.readouterr().out
