"""A video as a GIF, for pages that play nothing else."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from dqn_plugins.wrappers.video.tiling import scaled
from dqn_plugins.wrappers.video.video_reader import VideoReader, existing_video
from dqn_plugins.wrappers.video.video_writer import checked_fps, reserve_path

__all__ = ["to_gif"]


def to_gif(
    video: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    width: int = 360,
    fps: float = 10,
) -> Path:
    """
    Make a GIF of a video, small enough for a README; it plays over and over.

    :param video: An MP4 file.
    :param out: File to write; by default it lies beside the video, with ``.gif`` for ``.mp4``. If
        the name is taken, the next number is used.
    :param width: In pixels, at least 16; the height follows. Smaller videos stay as they are.
    :param fps: Frames per second, at most 50; of faster videos frames are left out. A GIF shows
        each frame for whole hundredths of a second, so the next lower rate of 100 / n is taken.
    :return: The file that was written.
    :raises FileNotFoundError: If there is no such video.
    :raises ValueError: If it is empty, ``width`` or ``fps`` is out of range, or ``out`` does not
        end in ``.gif``.

    Example::

        from dqn_plugins.wrappers import to_gif

        print(to_gif("videos/naive.mp4", width=240))
    """
    try:
        from moviepy import VideoClip
    except ImportError:  # before version 2
        from moviepy.editor import VideoClip

    file = existing_video(video, "video")
    place = file.with_suffix(".gif") if out is None else Path(out)
    if place.suffix.lower() != ".gif":
        raise ValueError(f"out: received {os.fspath(place)!r}, it must end in .gif.")
    if width < 16:
        raise ValueError(f"width: received {width!r}, it must be at least 16. Pass 360.")
    reader = VideoReader(file)
    # A GIF counts in hundredths of a second, and browsers slow down one that shows a frame for 1.
    rate = Fraction(100, max(2, math.ceil(100 / min(checked_fps(fps), reader.fps))))
    count = sum(1 for _ in iter(reader.advance, False))
    if not count:
        raise ValueError(f"video: {file} holds no frame. Record it again.")
    # The last frame, which often tells how it ended, is not left out.
    count = math.ceil((count - 1) * rate / reader.fps) + 1
    reader = VideoReader(file)

    def frame_at(seconds: float) -> Any:
        reader.advance_to(Fraction(seconds).limit_denominator(10_000))
        assert reader.frame is not None
        return scaled(reader.frame, (width, reader.height), crop=True)

    place = reserve_path(place)
    try:
        clip = VideoClip(frame_at, duration=float((count + Fraction(1, 4)) / rate))
        clip.write_gif(str(place), fps=float(rate), loop=0, logger=None)
    finally:
        reader.frames.close()
    return place
