"""Comparison videos: tiled, labelled, the shorter ones holding their last frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dqn_plugins.wrappers import VideoWriter, read_frames, side_by_side
from dqn_plugins.wrappers.video.side_by_side import GAP, LABEL_HEIGHT
from dqn_plugins.wrappers.video.tiling import tile_frames
from tests.wrappers.scripted import describe


def greys(path: Path, values: list[int], fps: float = 10, size: tuple[int, int] = (60, 80)) -> Path:
    with VideoWriter(path, fps) as writer:
        for value in values:
            writer.write(np.full(size, value, dtype=np.uint8))
    return writer.path


def tile_means(path: Path, count: int, width: int = 80, height: int = 60) -> np.ndarray:
    """The brightness of each tile in each frame, shape (frames, tiles)."""
    means = []
    for frame in read_frames(path):
        tiles = (
            frame[LABEL_HEIGHT : LABEL_HEIGHT + height, index * (width + GAP) :][:, :width]
            for index in range(count)
        )
        means.append([tile[6:-6, 6:-6].mean() for tile in tiles])
    return np.array(means)


def test_the_shorter_one_holds_its_last_frame(tmp_path: Path) -> None:
    long = greys(tmp_path / "long.mp4", [10, 60, 110, 160, 210])
    short = greys(tmp_path / "short.mp4", [200, 100])
    out = side_by_side([long, short], ["long", "short"], tmp_path / "out.mp4")
    assert out == tmp_path / "out.mp4"
    expected = [[10, 200], [60, 100], [110, 100], [160, 100], [210, 100]]
    np.testing.assert_allclose(tile_means(out, 2), expected, atol=4)
    assert describe(out)["size"] == (2 * 80 + GAP, 60 + LABEL_HEIGHT)
    assert describe(out)["fps"] == 10


def test_the_labels_are_there(tmp_path: Path) -> None:
    video = greys(tmp_path / "a.mp4", [0, 0], size=(60, 200))
    named = side_by_side([video], ["NaiveDQN"], tmp_path / "named.mp4")
    blank = side_by_side([video], [""], tmp_path / "blank.mp4")
    brightest = [next(read_frames(path))[:LABEL_HEIGHT].max() for path in (named, blank)]
    assert brightest[0] > 180
    assert brightest[1] < 90


def test_each_runs_in_its_own_time(tmp_path: Path) -> None:
    fast = greys(tmp_path / "fast.mp4", [0, 50, 100, 150], fps=20)
    slow = greys(tmp_path / "slow.mp4", [40, 120], fps=10)
    out = side_by_side([fast, slow], ["fast", "slow"], tmp_path / "out.mp4")
    assert describe(out)["fps"] == 20
    np.testing.assert_allclose(
        tile_means(out, 2), [[0, 40], [50, 40], [100, 120], [150, 120]], atol=4
    )


def test_sizes_differ_and_names_are_taken(tmp_path: Path) -> None:
    big = greys(tmp_path / "big.mp4", [200], size=(60, 80))
    small = greys(tmp_path / "small.mp4", [200], size=(20, 40))
    (tmp_path / "out.mp4").write_text("mine")
    out = side_by_side([big, small, big, small], list("abcd"), tmp_path / "out.mp4")
    assert out.name == "out_1.mp4"
    assert (tmp_path / "out.mp4").read_text() == "mine"
    assert describe(out)["size"] == (2 * 80 + GAP, 2 * (60 + LABEL_HEIGHT) + GAP)


def test_bad_input(tmp_path: Path) -> None:
    video = greys(tmp_path / "a.mp4", [0])
    with pytest.raises(ValueError, match="videos: received 1, and 2 labels"):
        side_by_side([video], ["a", "b"], tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="videos: received 0"):
        side_by_side([], [], tmp_path / "out.mp4")
    with pytest.raises(ValueError, match="columns: received 0"):
        side_by_side([video], ["a"], tmp_path / "out.mp4", columns=0)
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        side_by_side([tmp_path / "nothing.mp4"], ["a"], tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_tiles() -> None:
    pictures = [np.full((10, 20, 3), value, dtype=np.uint8) for value in (1, 2, 3)]
    grid = tile_frames(pictures)
    assert grid.shape == (20, 40, 3)
    assert grid[:10, :20].max() == grid[:10, :20].min() == 1
    assert grid[:10, 20:].max() == grid[:10, 20:].min() == 2
    assert grid[10:, :20].max() == 3
    assert grid[10:, 20:].max() == 0
    assert tile_frames(pictures, columns=3).shape == (10, 60, 3)
    assert tile_frames(pictures[:1]) is pictures[0]
    with pytest.raises(ValueError, match="at least one"):
        tile_frames([])
