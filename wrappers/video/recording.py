"""One video: the encoder, the sidecar, and an end whatever happens."""

from __future__ import annotations

import contextlib
import importlib.metadata
import operator
import platform
import weakref
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import logger

from dqn_plugins.files import write_json
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.video_writer import VideoWriter

PACKAGES = ("dqn-plugins", "gymnasium", "stable-baselines3", "numpy", "torch", "imageio-ffmpeg")
# Episodes that the sidecar of one recording tells of: memory must not grow with their number.
MOST_EPISODES = 1_000


def package_versions() -> dict[str, str]:
    """Collect the versions that a recording depends on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class Video:
    """
    One video, and the file beside it that describes it. It refers to no wrapper, so that it can be
    finished when the wrapper is forgotten or the interpreter ends.
    """

    def __init__(self, name: str, owner: Any):
        self.name = name
        #: None before the first frame.
        self.writer: VideoWriter | None = None
        self._episodes: dict[tuple[int, int], dict[str, Any]] = {}
        self._head: dict[str, Any] = {}
        self._finalizer = weakref.finalize(owner, _finish_quietly, self)

    def __reduce__(self) -> Any:
        # A copy records nothing: the video stays the original's, as in a forked child.
        return type(None), ()

    @property
    def frame_count(self) -> int:
        """Frames so far."""
        return 0 if self.writer is None else self.writer.frame_count

    def follow(self, episodes: Sequence[RunningEpisode]) -> None:
        """Take note of how far the episodes are."""
        for episode in episodes:
            key = (episode.environment, episode.number)
            if key in self._episodes or len(self._episodes) < MOST_EPISODES:
                self._episodes[key] = episode.summary()

    def write(
        self,
        picture: npt.NDArray[Any],
        episodes: Sequence[RunningEpisode],
        folder: Path,
        fps: float,
        environment_id: str | None,
    ) -> None:
        """Append one frame. With the first, the file is made, so all it depends on is known now."""
        self.follow(episodes)
        if self.writer is not None:
            self.writer.write(picture)
            return
        writer = VideoWriter(folder / f"{self.name}.mp4", fps)
        writer.write(picture)
        self.writer = writer
        begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._head = {"environment_id": environment_id, "begun": begun, "fps": fps}
        # Already now, so that a recording that is killed has its sidecar too.
        self._write_sidecar(writer, complete=False)

    def finish(self) -> Path | None:
        """Finish the file, and say where it is; None if there is none."""
        self._finalizer.detach()
        writer = self.writer
        if writer is None:
            logger.warn(f"The recording {self.name!r} has no frame, so there is no video of it.")
        if writer is None or writer.abandoned:
            return None
        try:
            writer.close()
        except OSError:
            # What stopped the encoder, such as a full disk, may stop the sidecar as well; the first
            # failure is the one to tell of.
            with contextlib.suppress(OSError):
                self._write_sidecar(writer, complete=False)
            raise
        self._write_sidecar(writer, complete=True)
        return writer.path

    def _write_sidecar(self, writer: VideoWriter, complete: bool) -> None:
        assert writer.size is not None
        episodes = list(self._episodes.values())
        first = {
            key: value
            for key, value in episodes[0].items()
            if key not in {"environment", "episode"}
        }
        write_json(
            writer.path.with_suffix(".json"),
            {
                "video": writer.path.name,
                "complete": complete,
                **self._head,
                "frames": writer.frame_count if complete else None,
                "width": writer.size[0],
                "height": writer.size[1],
                # The first episode at the top: most videos show one.
                **(first if complete else {"seed": first["seed"]}),
                "episodes": episodes if complete else [],
                "versions": package_versions(),
            },
            default=lambda value: value.item() if isinstance(value, np.generic) else str(value),
        )


def checked_size(size: Any) -> tuple[int, int]:
    """Check the size of a video."""
    with contextlib.suppress(TypeError, ValueError):
        width, height = map(operator.index, size)
        if min(width, height) >= 16:
            return width, height
    raise ValueError(
        f"size: received {size!r}, it must be width and height in pixels, each at least 16. Pass "
        "(640, 480), or None for the size in which the environment renders."
    )


def _finish_quietly(video: Video) -> None:
    # Nobody is left to catch an exception here.
    try:
        if video.frame_count:
            video.finish()
    except Exception as error:
        logger.warn(f"The last recording could not be finished: {error}")
