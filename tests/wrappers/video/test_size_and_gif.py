"""Videos of a size that was asked for, and GIFs, by their frames."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins.wrappers import RecordVideo, VecRecordVideo, VideoWriter, read_frames, to_gif
from dqn_plugins.wrappers.video.tiling import scaled
from tests.wrappers.scripted import Scripted, colour_of, play


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((128, 96), (slice(0, 96), slice(0, 128))),  # twice as large
        ((32, 24), (slice(0, 24), slice(0, 32))),  # half as large
        ((128, 48), (slice(0, 48), slice(32, 96))),  # black at the left and right
        ((64, 96), (slice(24, 72), slice(0, 64))),  # black above and below
    ],
)
def test_the_picture_keeps_its_shape(tmp_path: Path, size: Any, inside: Any) -> None:
    env = RecordVideo(Scripted(size=(48, 64)), str(tmp_path), size=size)
    play(env, 1)
    env.close()
    frames = list(read_frames(str(env.video_path)))
    assert len(frames) == 4
    rows, columns = inside
    for t, frame in enumerate(frames):
        assert frame.shape == (size[1], size[0], 3)
        picture = frame[rows, columns][4:-4, 4:-4]
        assert np.abs(picture.mean(axis=(0, 1)) - colour_of(0, t)).max() <= 6
        outside = frame.astype(float)
        outside[
            max(0, rows.start - 4) : rows.stop + 4, max(0, columns.start - 4) : columns.stop + 4
        ] = 0
        assert outside.max() < 12


def test_pixels_stay_squares() -> None:
    board = np.zeros((2, 3, 3), np.uint8)
    board[0, 1] = 255
    large = scaled(board, (30, 20)).copy()
    assert large.shape == (20, 30, 3)
    assert large[:10, 10:20].min() == 255
    large[:10, 10:20] = 0
    assert large.max() == 0


def test_pictures_may_change_their_size(tmp_path: Path) -> None:
    class Grows(Scripted):
        def render(self) -> Any:
            self.size = (48 + 16 * self.t, 64)
            return super().render()

    env = RecordVideo(Grows(), str(tmp_path), size=(64, 64))
    play(env, 1)
    env.close()
    frames = list(read_frames(str(env.video_path)))
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    for t, frame in enumerate(frames):
        assert np.abs(frame[28:36, 28:36].mean(axis=(0, 1)) - colour_of(0, t)).max() <= 6


def test_a_grid_with_captions_has_the_size_too(tmp_path: Path) -> None:
    venv = VecRecordVideo(
        DummyVecEnv([Scripted] * 3),
        str(tmp_path),
        lambda step: step == 0,
        video_length=2,
        caption=True,
        size=(320, 240),
    )
    venv.reset()
    venv.step(np.zeros(3, int))
    venv.close()
    frames = list(read_frames(str(venv.video_path)))
    assert [frame.shape for frame in frames] == [(240, 320, 3)] * 2
    assert np.abs(frames[0][30:60, 40:120].mean(axis=(0, 1)) - colour_of(0, 0)).max() <= 8


@pytest.mark.parametrize("size", [5, (640,), (8, 480), (640, 4.5), "large", (1, 2, 3)])
def test_what_is_no_size_is_refused(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match=r"size: received .*each at least 16"):
        RecordVideo(Scripted(), str(tmp_path), size=size)


# --- GIFs ---


def greys(path: Path, values: list[int], fps: float) -> Path:
    with VideoWriter(path, fps) as writer:
        for value in values:
            writer.write(np.full((60, 80), value, np.uint8))
    return writer.path


def shown(path: Path) -> list[float]:
    """The brightness of each frame of a GIF."""
    with Image.open(path) as image:
        brightness = []
        for number in range(image.n_frames):
            image.seek(number)
            brightness.append(float(np.asarray(image.convert("L")).mean()))
        return brightness


def test_a_gif_shows_the_video_to_its_last_frame(tmp_path: Path) -> None:
    video = greys(tmp_path / "a.mp4", list(range(20, 240, 20)), fps=20)
    path = to_gif(video, fps=10)
    assert path == tmp_path / "a.gif"
    np.testing.assert_allclose(shown(path), [20, 60, 100, 140, 180, 220], atol=4)
    with Image.open(path) as image:
        assert (image.size, image.info["duration"], image.info["loop"]) == ((80, 60), 100, 0)


def test_a_gif_is_made_smaller_and_overwrites_nothing(tmp_path: Path) -> None:
    video = greys(tmp_path / "a.mp4", [40, 80, 200], fps=5)
    (tmp_path / "b.gif").write_text("mine")
    path = to_gif(video, tmp_path / "b.gif", width=40)
    assert path == tmp_path / "b_1.gif"
    np.testing.assert_allclose(shown(path), [40, 80, 200], atol=4)  # no frame twice
    with Image.open(path) as image:
        assert image.size == (40, 30)
    assert (tmp_path / "b.gif").read_text() == "mine"


@pytest.mark.parametrize("fps", [60, 30, 15])
def test_a_gif_lasts_as_long_as_the_video(tmp_path: Path, fps: int) -> None:
    path = to_gif(greys(tmp_path / "a.mp4", [40, 80] * fps, fps=fps), fps=fps)
    with Image.open(path) as image:
        seconds = 0.0
        for number in range(image.n_frames):
            image.seek(number)
            assert image.info["duration"] >= 20
            seconds += image.info["duration"] / 1000
    assert seconds == pytest.approx(2.0, abs=0.08)


def test_a_gif_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="video: received"):
        to_gif(tmp_path / "nothing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"video: .*cannot be decoded"):
        to_gif(tmp_path / "text.mp4")
    (tmp_path / "text.mp4").unlink()
    video = greys(tmp_path / "a.mp4", [40], fps=5)
    for arguments, fix in (
        ({"out": tmp_path / "a.webp"}, r"out: received .*\.gif"),
        ({"width": 3}, "width: received 3.*at least 16"),
        ({"fps": 0}, "fps: received 0"),
    ):
        with pytest.raises(ValueError, match=fix):
            to_gif(video, **arguments)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_moviepy_is_imported_for_a_gif_only() -> None:
    assert "dqn_plugins.wrappers.video.gif" in sys.modules
    source = Path(sys.modules["dqn_plugins.wrappers.video.gif"].__file__ or "").parents[1]
    users = [path.name for path in source.rglob("*.py") if "from moviepy" in path.read_text()]
    assert users == ["gif.py"]
