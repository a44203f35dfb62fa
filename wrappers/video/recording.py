"""What the scalar and the vector recorder share: names, captions, the encoder, the sidecar."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
from gymnasium import logger

from dqn_plugins.files import checked_folder, write_json
from dqn_plugins.wrappers.drawing.overlay import CaptionOption, FrameDetails, Overlay
from dqn_plugins.wrappers.video.tiling import tile_frames
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

    :param value: What is shared.
    """

    def __init__(self, value: Shared):
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedReference[Shared]:
        return self


# Episodes that the sidecar of one recording tells of: memory must not grow with their number.
MOST_EPISODES = 1_000


@dataclass
class EpisodeProgress:
    """
    One running episode, as captions and sidecars tell it.

    :param episode: Number of the episode, from 0.
    :param environment: Index of the sub-environment; 0 where there is only one.
    :param seed: The seed of the last seeded reset, None if there was none.
    :param episodes_since_seed: How many episodes have begun since, 0 for the seeded one itself.
    :param step: Steps taken in this episode.
    :param reward: Reward of the last step.
    :param episode_return: Sum of the rewards so far.
    :param terminated: Whether the episode ended by itself.
    :param truncated: Whether it was cut, as by a time limit.
    """

    episode: int
    environment: int = 0
    seed: int | None = None
    episodes_since_seed: int = 0
    step: int = 0
    reward: float = 0.0
    episode_return: float = 0.0
    terminated: bool = False
    truncated: bool = False

    def add(self, reward: float, terminated: bool, truncated: bool) -> None:
        """
        Count one step.

        :param reward: Its reward.
        :param terminated: Whether it ended the episode.
        :param truncated: Whether it was the last for another reason.
        """
        self.step += 1
        self.reward = reward
        self.episode_return += reward
        self.terminated = terminated
        self.truncated = truncated

    def following(self, seed: int | None) -> EpisodeProgress:
        """
        Begin the next episode of the same environment.

        :param seed: The seed of its reset, None if that had none.
        :return: Its progress, at step 0.
        """
        return EpisodeProgress(
            self.episode + 1,
            self.environment,
            seed=self.seed if seed is None else seed,
            episodes_since_seed=self.episodes_since_seed + 1 if seed is None else 0,
        )

    def details(self, observation: Any) -> FrameDetails:
        """
        Freeze the state for one frame.

        :param observation: What the agent sees in this frame.
        :return: What an overlay may draw.
        """
        return FrameDetails(
            episode=self.episode,
            step=self.step,
            reward=self.reward,
            episode_return=self.episode_return,
            observation=observation,
        )

    def summary(self) -> dict[str, Any]:
        """
        Describe the episode for the sidecar.

        :return: Names and values that JSON can hold.
        """
        return {
            "episode": self.episode,
            "seed": self.seed,
            "episodes_since_seed": self.episodes_since_seed,
            "return": self.episode_return,
            "length": self.step,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }


def package_versions() -> dict[str, str]:
    """
    Collect the versions that a recording depends on.

    :return: Name to version, of Python and of the installed ones among the packages that matter.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


class StreamedFrames(Sequence[npt.NDArray[np.uint8]]):
    """
    The frames of a running recording, for programs that ask how many there are or add some. The
    frames themselves are in the video file, not in memory.

    :param recorder: The wrapper that records.
    """

    def __init__(self, recorder: RecorderProperties):
        self._recorder = recorder

    def __len__(self) -> int:
        return self._recorder._recorder.frame_count

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[npt.NDArray[np.uint8]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        raise LookupError(
            f"recorded_frames[{index!r}]: recorded frames are streamed to the video file and not "
            "kept. Read them from the file, or wrap the environment in "
            "gymnasium.wrappers.RenderCollection to keep them."
        )

    def append(self, frame: npt.NDArray[Any]) -> None:
        """
        Add a frame as it is, without a caption. Nothing happens if no recording is running.

        :param frame: The picture.
        """
        self.extend([frame])

    def extend(self, frames: Iterable[npt.NDArray[Any]]) -> None:
        """
        Add frames as they are; see :meth:`append`.

        :param frames: The pictures.
        """
        for frame in frames:
            if self._recorder.recording:
                self._recorder._add([frame])

    def __iadd__(self, frames: Iterable[npt.NDArray[Any]]) -> StreamedFrames:
        self.extend(frames)
        return self

    def clear(self) -> None:
        """Take the frames back; the recording goes on with the next one."""
        self._recorder._recorder.discard()


class Recorder:
    """
    One recording after another into one folder. It refers to no wrapper, so that it can finish a
    video when the wrapper is forgotten or the interpreter ends.

    :param video_folder: Folder of the videos.
    :param fps: Frames per second; None takes ``metadata["render_fps"]``, or 30 without that.
    :param metadata: The environment's metadata.
    :param environment_id: The environment's id, for the sidecar.
    :param caption: See :class:`dqn_plugins.wrappers.RecordVideo`.
    :param model: See :class:`dqn_plugins.wrappers.RecordVideo`.
    :param action_names: See :class:`dqn_plugins.wrappers.RecordVideo`.
    """

    def __init__(
        self,
        video_folder: str | os.PathLike[str],
        fps: float | None,
        metadata: Mapping[str, Any],
        environment_id: str | None,
        caption: CaptionOption = False,
        model: Any = None,
        action_names: Sequence[str] | None = None,
    ):
        if fps is None:
            fps = metadata.get("render_fps") or 30
        self.fps = fps
        find_encoder()
        self.overlay = Overlay.create(caption, model, action_names)
        self.folder = checked_folder(video_folder, "video_folder")
        self.environment_id = environment_id
        #: Name of the running recording, None if there is none.
        self.name: str | None = None
        #: Name of the next one, if it is begun without a name.
        self.next_name: str | None = None
        #: The file of the running recording, or of the last one; None before the first frame.
        self.path: Path | None = None
        self._writer: VideoWriter | None = None
        self._episodes: dict[tuple[int, int], EpisodeProgress] = {}
        self._begun = ""

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

    def start(self, name: str) -> None:
        """
        Begin a recording; one that is running is finished first.

        :param name: File name without ``.mp4``.
        """
        self.stop()
        self.name = name

    def capture(
        self,
        frames: Sequence[npt.NDArray[Any]],
        progresses: Sequence[EpisodeProgress],
        observations: Sequence[Any] | None,
    ) -> None:
        """
        Append one frame: a single picture, or several tiled into a grid.

        :param frames: One rendered picture per recorded environment.
        :param progresses: The episode each of them is in.
        :param observations: What the agent sees in each of them; None draws no caption.
        """
        pictures: Iterable[npt.NDArray[Any]] = frames
        if self.overlay is not None and observations is not None:
            pictures = [
                self.overlay.draw(frame, progress.details(observation))
                for frame, progress, observation in zip(
                    frames, progresses, observations, strict=True
                )
            ]
        picture = tile_frames(list(pictures))
        for progress in progresses:
            key = (progress.environment, progress.episode)
            if key in self._episodes or len(self._episodes) < MOST_EPISODES:
                self._episodes[key] = progress
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
        """
        Finish the running recording, if there is one.

        :return: Its file, or None if there was no recording or it has no frame.
        """
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
        episodes = [
            {"environment": progress.environment, **progress.summary()}
            for progress in self._episodes.values()
        ]
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


class RecorderProperties:
    """
    What both recording wrappers show and let be set, as the wrappers do whose place they take; they
    have a ``_recorder`` attribute.
    """

    _recorder: Recorder
    video_length: float
    name_prefix: str
    step_id: int

    @property
    def recording(self) -> bool:
        """Whether a recording is running. Setting it begins or finishes one."""
        return self._recorder.recording

    @recording.setter
    def recording(self, value: bool) -> None:
        if not value:
            self._finish()
        elif not self.recording:
            self._begin()

    @property
    def recorded_frames(self) -> StreamedFrames:
        """
        The frames of the running recording, of which only the number is kept. Setting them to a
        list has the video begin anew with the frames in it.
        """
        return StreamedFrames(self)

    @recorded_frames.setter
    def recorded_frames(self, frames: Iterable[npt.NDArray[Any]]) -> None:
        if not isinstance(frames, StreamedFrames):  # otherwise from `+=`
            self._recorder.discard()
            self.recorded_frames.extend(frames)

    @property
    def frames_per_sec(self) -> float:
        """Frames per second of the next video."""
        return self._recorder.fps

    @frames_per_sec.setter
    def frames_per_sec(self, value: float) -> None:
        self._recorder.fps = value

    @property
    def video_folder(self) -> Any:
        """The folder of the next video, as text."""
        return str(self._recorder.folder)

    @video_folder.setter
    def video_folder(self, value: str | os.PathLike[str]) -> None:
        self._recorder.folder = checked_folder(value, "video_folder")

    @property
    def _video_name(self) -> str | None:
        return self._recorder.name

    @_video_name.setter
    def _video_name(self, value: str | None) -> None:
        if self.recording and value is not None:
            self._recorder.name = value
        self._recorder.next_name = value

    @property
    def video_path(self) -> str | None:
        """
        The file of the running recording, or of the last one; None before the first. Setting it
        names the next file.
        """
        path = self._recorder.path
        return None if path is None else str(path)

    @video_path.setter
    def video_path(self, value: str | os.PathLike[str]) -> None:
        path = Path(os.path.abspath(value))
        self.video_folder = path.parent
        self._video_name = path.stem
        if not self.recorded_frames:
            self._recorder.path = path

    def _progress_shown(self) -> list[EpisodeProgress]:
        raise NotImplementedError

    def _default_name(self) -> str:
        return f"{self.name_prefix}-step-{self.step_id}"

    def _begin(self) -> None:
        self._recorder.start(self._recorder.next_name or self._default_name())
        self._recorder.next_name = None

    def _finish(self) -> Path | None:
        return self._recorder.stop()

    def stop_recording(self) -> None:
        """
        Finish the running recording.

        :raises RuntimeError: If none is running.
        """
        if not self.recording:
            raise RuntimeError(
                "stop_recording() was called, but no recording is running. Call start_recording() "
                "before it, or ask for .recording first."
            )
        self._finish()

    def _add(self, frames: Sequence[Any], observations: Sequence[Any] | None = None) -> None:
        """Record a frame, and finish if it was the last."""
        if not all(isinstance(frame, np.ndarray) for frame in frames):
            kinds = ", ".join(sorted({type(frame).__name__ for frame in frames}))
            logger.warn(f"Recording stopped: rendering gave {kinds} instead of a NumPy array.")
            self.stop_recording()
            return
        try:
            self._recorder.capture(frames, self._progress_shown(), observations)
        except Exception:
            # The program may go on without the video; what is written stays.
            with contextlib.suppress(OSError):
                self._finish()
            raise
        if self._recorder.frame_count >= self.video_length:
            self.stop_recording()


def stop_at_exit(owner: Any, recorder: Recorder) -> weakref.finalize[..., Any]:
    """
    Finish the recorder's video when its wrapper is forgotten or the interpreter ends.

    :param owner: The wrapper.
    :param recorder: Its recorder.
    :return: The finalizer.
    """
    return weakref.finalize(owner, _stop_quietly, recorder)


def _stop_quietly(recorder: Recorder) -> None:
    # Nobody is left to catch an exception here.
    try:
        if recorder.frame_count:
            recorder.stop()
    except Exception as error:
        logger.warn(f"The last recording could not be finished: {error}")
