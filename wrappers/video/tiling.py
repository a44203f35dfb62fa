"""Several pictures in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["tile_frames"]


def tile_frames(
    frames: Sequence[npt.NDArray[Any]], columns: int | None = None, gap: int = 0
) -> npt.NDArray[Any]:
    """
    Lay pictures out in a grid, row by row; cells without a picture stay black.

    :param frames: At least one uint8 picture, each of a form that
        :func:`dqn_plugins.wrappers.video.video_writer.to_rgb` takes. Smaller ones are centred in
        cells of the largest width and height.
    :param columns: Pictures per row; by default the grid is as square as it can be.
    :param gap: Black pixels between neighbours.
    :return: A uint8 array of shape (height, width, 3); a single picture is returned as it is.
    :raises ValueError: If there is no picture.

    Example::

        import numpy as np
        from dqn_plugins.wrappers.video.tiling import tile_frames

        assert tile_frames([np.zeros((20, 30, 3), np.uint8)] * 3).shape == (40, 60, 3)
    """
    if not frames:
        raise ValueError("frames: received none, a grid needs at least one. Pass one or more.")
    if len(frames) == 1:
        return frames[0]
    pictures = [to_rgb(frame) for frame in frames]
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    grid = np.zeros(
        (rows * height + (rows - 1) * gap, columns * width + (columns - 1) * gap, 3), np.uint8
    )
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        top = row * (height + gap) + (height - picture.shape[0]) // 2
        left = column * (width + gap) + (width - picture.shape[1]) // 2
        grid[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return grid
