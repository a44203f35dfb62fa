"""Several pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["scaled", "tile_frames"]


def tile_frames(
    frames: Sequence[npt.NDArray[Any]],
    columns: int | None = None,
    gap: int = 0,
    aspect: float | None = None,
) -> npt.NDArray[Any]:
    """
    Lay pictures out in a grid, row by row, with black pixels between them and in empty cells.
    Smaller ones are centred; a single one is returned as it is. By default there are as many
    columns as rows or one more, with ``aspect`` as many as give about that width by height.
    """
    if not frames:
        raise ValueError("frames: received none, a grid needs at least one. Pass one or more.")
    if len(frames) == 1:
        return frames[0]
    pictures = [to_rgb(frame) for frame in frames]
    count = len(pictures)
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    if columns is None and aspect is not None:
        shapes = {
            each: each * width / (math.ceil(count / each) * height) for each in range(1, count + 1)
        }
        columns = min(shapes, key=lambda each: abs(math.log(shapes[each] / aspect)))
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.zeros(
        (rows * height + (rows - 1) * gap, columns * width + (columns - 1) * gap, 3), np.uint8
    )
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top = row * (height + gap) + (height - picture.shape[0]) // 2
        left = column * (width + gap) + (width - picture.shape[1]) // 2
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid


def scaled(frame: npt.NDArray[Any], size: tuple[int, int], crop: bool = False) -> npt.NDArray[Any]:
    """
    Bring a picture to a width and height. It keeps its shape: what is left beside it stays black,
    or out of the picture with ``crop``. Enlarged, its pixels stay squares.
    """
    from PIL import Image, ImageOps

    picture = Image.fromarray(np.ascontiguousarray(to_rgb(frame)))
    is_larger = size[0] > picture.width and size[1] > picture.height
    method = Image.Resampling.BOX if is_larger else Image.Resampling.LANCZOS
    return np.asarray((ImageOps.contain if crop else ImageOps.pad)(picture, size, method))
