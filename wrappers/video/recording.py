"""One video after another: names, captions, the encoder, the sidecar."""

from __future__ import annotations

import contextlib
import importlib.metadata
import operator
import os
import platform
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import logger

from dqn_plugins.files import checked_folder, write_json
from dqn_plugins.wrappers.drawing.overlay import CaptionOption, FrameDetails, Overlay
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.tiling import scaled, tile_frames
from dqn_plugins.wrappers.video.video_writer import (
    VideoWriter,
    checked_fps,
    find_encoder,
)

Shared = TypeVar("Shared")

PACKAGES = (
    "dqn-plugins",
    "gymnasium",
    "stable-baselines3",
    "numpy",
    "torch",
    "imageio-ffmpeg",
)


class SharedReference(Generic[Shared]):
    """
    A value that a copy of the environment's spec refers to instead of copying: a model on screen
    must stay the model in training, and a model may hold the very environment that is copied.
    """

    def __init__(self, value: Shared):
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedReference[Shared]:
        return self


# Episodes that the sidecar of one recording tells of: memory must not grow with their number.
MOST_EPISODES = 1_000


def package_versions() -> dict[str, str]:
    """Collect the versions that a recording depends on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class Recorder:
    """
    One recording after another into one folder. It refers to no wrapper, so that it can finish a
    video when the wrapper is forgotten or the interpreter ends. The arguments are those of
    :class:`dqn_plugins.wrappers.RecordVideo`, and:
    """

    def __init__(
        self,
        video_folder: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None,
        environment_id: str | None,
        fps: float | None = None,
        caption: CaptionOption = False,
        model: Any = None,
        action_names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
        aspect: float | None = None,
    ):
        if fps is None:
            fps = (metadata or {}).get("render_fps") or 30
        self.fps = fps
        find_encoder()
        self.overlay = Overlay.create(caption, model, action_names)
        self.folder = checked_folder(video_folder, "video_folder")
        self.environment_id = environment_id
        self.size = None if size is None else checked_size(size)
        self.aspect = aspect
        #: Name of the running recording, None if there is none.
        self.name: str | None = None
        #: Name of the next one, if it is begun without a name.
        self.next_name: str | None = None
        #: The file of the running recording, or of the last one; None before the first frame.
        self.path: Path | None = None
        self._writer: VideoWriter | None = None
        self._episodes: dict[tuple[int, int], dict[str, Any]] = {}
        self._begun = ""
        self._finalizer: weakref.finalize[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy records nothing: the running video stays the original's, as in a forked child.
        left_out: dict[str, Any] = {
            "name": None,
            "_writer": None,
            "_finalizer": None,
            "_episodes": {},
        }
        return vars(self) | left_out

    @property
    def fps(self) -> float:
        """Frames per second of the next video."""
        return self._fps

    @fps.setter
    def fps(self, value: float) -> None:
        rate = checked_fps(value)
        self._fps = int(rate) if rate.denominator == 1 else float(rate)

    @property
    def recording(self) -> bool:
        """Whether a recording is running."""
        return self.name is not None

    @property
    def frame_count(self) -> int:
        """Frames in the running recording."""
        return 0 if self._writer is None else self._writer.frame_count

    def start(self, name: str, owner: Any) -> None:
        """Begin a recording; one that is running is finished first."""
        self.stop()
        self.name = name
        if self._finalizer is None:
            self._finalizer = weakref.finalize(owner, _stop_quietly, self)

    def capture(
        self,
        frames: Sequence[npt.NDArray[Any]],
        episodes: Sequence[RunningEpisode],
        observations: Sequence[Any] | None,
    ) -> None:
        """Append one frame: a single picture, or several tiled into a grid."""
        pictures = list(frames)
        if self.overlay is not None and observations is not None:
            if self.size is not None and len(pictures) == 1:  # before it is written on
                pictures = [scaled(pictures[0], self.size, crop=True)]
            pictures = [
                self.overlay.draw(
                    frame,
                    FrameDetails(
                        episode=episode.number,
                        step=episode.length,
                        reward=episode.last_reward,
                        episode_return=episode.episode_return,
                        observation=seen,
                    ),
                )
                for frame, episode, seen in zip(pictures, episodes, observations, strict=True)
            ]
        picture = tile_frames(pictures, aspect=self.aspect)
        if self.size is not None:
            picture = scaled(picture, self.size)
        for episode in episodes:
            key = (episode.environment, episode.number)
            if key in self._episodes or len(self._episodes) < MOST_EPISODES:
                self._episodes[key] = episode.summary()
        if self._writer is None:
            assert self.name is not None
            writer = VideoWriter(self.folder / f"{self.name}.mp4", self.fps)
            writer.write(picture)
            self._writer = writer
            self._begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self.path = writer.path
            # Already now, so that a recording that is killed has its sidecar too.
            self._write_sidecar(writer, complete=False)
        else:
            self._writer.write(picture)

    def stop(self) -> Path | None:
        """Finish the running recording, if there is one."""
        name, self.name = self.name, None
        writer, self._writer = self._writer, None
        try:
            if writer is None:
                if name is not None:
                    logger.warn(f"The recording {name!r} has no frame, so there is no video of it.")
                return None
            if writer.abandoned:
                return None
            try:
                writer.close()
            except OSError:
                # What stopped the encoder, such as a full disk, may stop the sidecar as well;
                # the first failure is the one to tell of.
                with contextlib.suppress(OSError):
                    self._write_sidecar(writer, complete=False)
                raise
            self._write_sidecar(writer, complete=True)
            return writer.path
        finally:
            self._episodes = {}

    def discard(self) -> None:
        """Delete what the running recording has written; it begins anew with the next frame."""
        name, writer = self.name, self._writer
        if writer is not None:
            with contextlib.suppress(OSError):
                self.stop()
            for suffix in (".mp4", ".json"):
                writer.path.with_suffix(suffix).unlink(missing_ok=True)
            self.name = name

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
                "environment_id": self.environment_id,
                "begun": self._begun,
                "fps": self.fps,
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


def _stop_quietly(recorder: Recorder) -> None:
    # Nobody is left to catch an exception here.
    try:
        if recorder.frame_count:
            recorder.stop()
    except Exception as error:
        logger.warn(f"The last recording could not be finished: {error}")
