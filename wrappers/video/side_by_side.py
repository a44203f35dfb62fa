"""Several videos in one, for comparison."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dqn_plugins.wrappers.drawing.lettering import fitted, write
from dqn_plugins.wrappers.drawing.panel import BACKGROUND, BRIGHT, HAIRLINE
from dqn_plugins.wrappers.video.tiling import tile_frames
from dqn_plugins.wrappers.video.video_reader import VideoReader, existing_video
from dqn_plugins.wrappers.video.video_writer import Frame, VideoWriter, find_encoder

__all__ = ["side_by_side"]

GAP = 4
LABEL_HEIGHT = 30
LABEL_SIZE = 14


def labelled(frame: Frame, label: str) -> Frame:
    """Put a line of text above a picture."""
    from PIL import Image, ImageDraw

    width = frame.shape[1]
    band = Image.new("RGB", (width, LABEL_HEIGHT), BACKGROUND)
    ImageDraw.Draw(band).line([(0, LABEL_HEIGHT - 1), (width, LABEL_HEIGHT - 1)], fill=HAIRLINE)
    text = fitted(label, LABEL_SIZE, width - 16)
    write(band, (width / 2, LABEL_HEIGHT / 2 - 1), text, LABEL_SIZE, BRIGHT, "mm")
    return np.concatenate([np.asarray(band), frame])


def side_by_side(
    videos: Sequence[str | os.PathLike[str]],
    labels: Sequence[str],
    out: str | os.PathLike[str],
    columns: int | None = None,
) -> Path:
    """
    Put videos next to each other in one, each under its label: two agents on the same seed, say.
    Shorter videos hold their last frame until the longest is over. Smaller ones are centred, and
    all run in their own time where frame rates differ. Frames are decoded and encoded one at a
    time.

    :param videos: MP4 files, at least one.
    :param labels: One text per video.
    :param out: File to write, ending in ``.mp4``; if the name is taken, the next number is used.
    :param columns: Videos per row; by default all in one row up to three, else as square a grid
        as there can be.
    :return: The file that was written.
    :raises ValueError: If there are no videos, as many labels as videos are not given,
        ``columns`` is below 1, or a video holds no frame.
    :raises FileNotFoundError: If a video is missing.

    Example::

        from dqn_plugins.wrappers import side_by_side

        side_by_side(
            ["videos/naive.mp4", "videos/dqn.mp4"], ["NaiveDQN", "DQN"], "videos/compared.mp4"
        )
    """
    if not videos or len(videos) != len(labels):
        raise ValueError(
            f"videos: received {len(videos)}, and {len(labels)} labels; there must be at least "
            "one, with one label each. Pass lists of the same length."
        )
    if columns is not None and columns < 1:
        raise ValueError(f"columns: received {columns!r}, it must be at least 1. Pass 2.")
    find_encoder()
    files = [existing_video(path, "videos") for path in videos]
    if columns is None and len(files) <= 3:
        columns = len(files)
    with contextlib.ExitStack() as stack:
        readers = []
        for file in files:
            reader = VideoReader(file)
            stack.callback(reader.frames.close)
            readers.append(reader)
        writer = stack.enter_context(VideoWriter(out, float(max(reader.fps for reader in readers))))
        moment = 0
        while True:
            running = [reader.advance_to(moment / writer.fps) for reader in readers]
            if not any(running):
                break
            pictures = []
            for reader, label, file in zip(readers, labels, files, strict=True):
                if reader.frame is None:
                    raise ValueError(f"videos: {file} holds no frame. Record it again.")
                pictures.append(labelled(reader.frame, label))
            writer.write(tile_frames(pictures, columns, GAP))
            moment += 1
    if moment == 0:
        raise ValueError(f"videos: {files[0]} holds no frame. Record it again.")
    return writer.path
