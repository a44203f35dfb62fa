"""Videos, decoded frame by frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from dqn_plugins.wrappers.video.video_writer import Frame, checked_fps

__all__ = ["VideoReader", "existing_video", "read_frames"]


def existing_video(path: str | os.PathLike[str], argument: str) -> Path:
    """Check that a video file is there."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{argument}: received {os.fspath(path)!r}, which is not a file. Pass the path of a "
            "video, such as RecordVideo's video_path."
        )
    if file.stat().st_size == 0:
        raise ValueError(
            f"{argument}: received {os.fspath(path)!r}, which is empty. Close the environment that "
            "records it first."
        )
    return file


class VideoReader:
    """One video, decoded as it is asked for."""

    def __init__(self, file: Path):
        import imageio_ffmpeg

        self.frames = imageio_ffmpeg.read_frames(str(file))
        try:
            described = next(self.frames)
        except OSError as error:
            raise ValueError(
                f"video: {file} cannot be decoded. Pass an MP4 file that a recorder finished."
            ) from error
        self.width, self.height = described["size"]
        self.fps: Fraction = checked_fps(described["fps"])
        self.frame: Frame | None = None
        self.position = -1

    def advance(self) -> bool:
        """Decode the next frame; False if there is none, and the last one stays."""
        data = next(self.frames, None)
        if data is None:
            return False
        self.frame = np.frombuffer(data, np.uint8).reshape(self.height, self.width, 3)
        self.position += 1
        return True

    def advance_to(self, seconds: Fraction) -> bool:
        """Decode up to a moment; False if the video is over by then, and its last frame stays."""
        while self.position < int(seconds * self.fps):
            if not self.advance():
                return False
        return True


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """
    Decode a video frame by frame, also one whose recording was cut short.

    :param path: An MP4 file.
    :return: Iterator over uint8 arrays of shape (height, width, 3).
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If the file is empty.

    Example::

        from dqn_plugins.wrappers import read_frames

        for frame in read_frames("videos/rl-video-episode-0.mp4"):
            print(frame.shape)
    """
    reader = VideoReader(existing_video(path, "path"))
    with contextlib.closing(reader.frames):
        while reader.advance():
            assert reader.frame is not None
            yield reader.frame
