"""What the recording wrappers of all kinds share."""

from __future__ import annotations

import contextlib
import gc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium import logger

from dqn_plugins.arguments import is_integer
from dqn_plugins.files import checked_folder
from dqn_plugins.wrappers.drawing.overlay import CaptionOption, FrameDetails, Overlay
from dqn_plugins.wrappers.environment_id import check_pictures, environment_metadata, id_of
from dqn_plugins.wrappers.observing.infos import possible_actions
from dqn_plugins.wrappers.observing.observer import Observer, SharedReference
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.recording import Video, checked_size
from dqn_plugins.wrappers.video.terminal_frame import (
    TerminalFrame,
    keep_terminal_frames,
    stop_keeping_terminal_frames,
)
from dqn_plugins.wrappers.video.tiling import scaled, tile_frames
from dqn_plugins.wrappers.video.video_writer import checked_fps, find_encoder

Seen: TypeAlias = tuple[Any, npt.NDArray[np.bool_] | None]
"""An observation, and which actions are possible there."""

# Frames that a render mode ending in "_list" has handed to the recording and that the program may
# still ask for; Gymnasium's wrapper keeps all of them.
RENDER_HISTORY = 64

__all__ = ["Recording", "RecordingEpisodes", "RecordingSeveral", "checked_video_length"]


def checked_video_length(video_length: int, least: int) -> float:
    """Check how long videos shall be."""
    if not is_integer(video_length) or video_length < least:
        raise ValueError(
            f"video_length: received {video_length!r}, it must be a whole number of frames of at "
            f"least {least}. Pass {'200' if least else '0 to record whole episodes'}."
        )
    return video_length or float("inf")


class StreamedFrames:
    """
    The frames of a running recording, for programs that ask how many there are or add some. The
    frames themselves are in the video file, not in memory.
    """

    def __init__(self, recorder: Recording):
        self._recorder = recorder

    def __len__(self) -> int:
        video = self._recorder._video
        return 0 if video is None else video.frame_count

    def __getitem__(self, index: int | slice) -> Any:
        raise LookupError(
            f"recorded_frames[{index!r}]: recorded frames are streamed to the video file and not "
            "kept. Read them from the file, or wrap the environment in "
            "gymnasium.wrappers.RenderCollection to keep them."
        )

    def append(self, frame: npt.NDArray[Any]) -> None:
        """Add a frame as it is, without a caption. Nothing happens if no recording is running."""
        self.extend([frame])

    def extend(self, frames: Iterable[npt.NDArray[Any]]) -> None:
        """Add frames as they are; see :meth:`append`."""
        for frame in frames:
            if self._recorder.recording:
                self._recorder._add_frames([frame])

    def __iadd__(self, frames: Iterable[npt.NDArray[Any]]) -> StreamedFrames:
        self.extend(frames)
        return self

    def clear(self) -> None:
        """Take the frames back; the recording goes on with the next one."""
        self._recorder._discard()


class Recording(Observer):
    """Records what is observed, with the attributes of the wrappers whose place it takes."""

    _video: Video | None = None
    _next_name: str | None = None
    #: The file of the running recording, or of the last one; None before the first frame.
    _path: Path | None = None
    #: Width by height that a grid shall have.
    _aspect: float | None = None
    #: The environments that are recorded.
    _indices: Sequence[int] = (0,)
    env: Any
    video_length: float
    name_prefix: str
    step_id: int

    def _prepare(
        self,
        env: Any,
        video_folder: str | os.PathLike[str],
        name_prefix: str,
        fps: float | None,
        caption: CaptionOption,
        model: Any,
        action_names: Sequence[str] | None,
        size: tuple[int, int] | None,
    ) -> None:
        """Check the arguments that all recorders have, and keep them."""
        self.frames_per_sec = (
            environment_metadata(env).get("render_fps") or 30 if fps is None else fps
        )
        find_encoder()
        self._overlay = Overlay.create(caption, model, action_names)
        self.video_folder = video_folder
        self.name_prefix = name_prefix
        self._size = None if size is None else checked_size(size)
        self._environment_id = id_of(env)
        self._observe()

    @property
    def recording(self) -> bool:
        """Whether a recording is running. Setting it begins or finishes one."""
        return self._video is not None

    @recording.setter
    def recording(self, value: bool) -> None:
        if not value:
            self._finish()
        elif not self.recording:
            self._begin_video()

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
            self._discard()
            self.recorded_frames.extend(frames)

    def _discard(self) -> None:
        """Delete what the running recording has written; it begins anew with the next frame."""
        video = self._video
        if video is not None and video.writer is not None:
            with contextlib.suppress(OSError):
                video.finish()
            for suffix in (".mp4", ".json"):
                video.writer.path.with_suffix(suffix).unlink(missing_ok=True)
            self._video = Video(video.name, self)

    @property
    def frames_per_sec(self) -> float:
        """Frames per second of the next video."""
        return self._fps

    @frames_per_sec.setter
    def frames_per_sec(self, value: float) -> None:
        rate = checked_fps(value)
        self._fps = int(rate) if rate.denominator == 1 else float(rate)

    @property
    def video_folder(self) -> Any:
        """The folder of the next video, as text."""
        return str(self._folder)

    @video_folder.setter
    def video_folder(self, value: str | os.PathLike[str]) -> None:
        self._folder = checked_folder(value, "video_folder")

    @property
    def _video_name(self) -> str | None:
        return None if self._video is None else self._video.name

    @_video_name.setter
    def _video_name(self, value: str | None) -> None:
        if self._video is not None and value is not None:
            self._video.name = value
        self._next_name = value

    @property
    def video_path(self) -> str | None:
        """
        The file of the running recording, or of the last one; None before the first. Setting it
        names the next file.
        """
        return None if self._path is None else str(self._path)

    @video_path.setter
    def video_path(self, value: str | os.PathLike[str]) -> None:
        path = Path(os.path.abspath(value))
        self.video_folder = path.parent
        self._video_name = path.stem
        if not self.recorded_frames:
            self._path = path

    @contextlib.contextmanager
    def _finished_on_failure(self) -> Iterator[None]:
        """Finish the video if something fails that it needs; the program may go on without it."""
        try:
            yield
        except Exception:
            with contextlib.suppress(OSError):
                self._finish()
            raise

    def _after_failure(self, error: Exception) -> None:
        with contextlib.suppress(OSError):
            Recording._finish(self)

    def _before_close(self) -> None:
        if self.recording:
            self.stop_recording()

    def _default_name(self) -> str:
        return f"{self.name_prefix}-step-{self.step_id}"

    def _begin_video(self) -> None:
        if self.recording:
            self.stop_recording()
        self._video = Video(self._next_name or self._default_name(), self)
        self._next_name = None

    def _finish(self) -> Path | None:
        video, self._video = self._video, None
        return None if video is None else video.finish()

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

    def _seen(self) -> list[Seen]:
        """Tell of what the agent sees, and what is possible there, if it is to be drawn."""
        masks: Sequence[Any] = [None] * len(self._episodes)
        if self._overlay is not None:
            masks = possible_actions(self._infos, self.env)
        return [(self._observation_of(index), masks[index]) for index in self._indices]

    def _observation_of(self, index: int) -> Any:
        return self._observations

    def _add_frames(self, frames: Sequence[Any], seen: Sequence[Seen] | None = None) -> None:
        """Record a frame, and finish if it was the last."""
        frames = [np.asarray(each) if hasattr(each, "__array__") else each for each in frames]
        if not all(isinstance(frame, np.ndarray) for frame in frames):
            kinds = ", ".join(sorted({type(frame).__name__ for frame in frames}))
            logger.warn(f"Recording stopped: rendering gave {kinds} instead of a NumPy array.")
            self.stop_recording()
            return
        video = self._video
        assert video is not None
        with self._finished_on_failure():
            episodes = [self._episodes[index] for index in self._indices]
            picture = self._drawn(frames, episodes, seen)
            video.write(picture, episodes, self._folder, self._fps, self._environment_id)
            assert video.writer is not None
            self._path = video.writer.path
        if video.frame_count >= self.video_length:
            self.stop_recording()

    def _drawn(
        self,
        pictures: Sequence[npt.NDArray[Any]],
        episodes: Sequence[RunningEpisode],
        seen: Sequence[Seen] | None,
    ) -> npt.NDArray[Any]:
        """Make one frame: a single picture, or several tiled into a grid."""
        if self._overlay is not None and seen is not None:
            if self._size is not None and len(pictures) == 1:  # before it is written on
                pictures = [scaled(pictures[0], self._size, crop=True)]
            pictures = [
                self._overlay.draw(
                    picture,
                    FrameDetails(
                        episode=episode.number,
                        step=episode.length,
                        reward=episode.last_reward,
                        episode_return=episode.episode_return,
                        observation=observation,
                        action_mask=mask,
                    ),
                )
                for picture, episode, (observation, mask) in zip(
                    pictures, episodes, seen, strict=True
                )
            ]
        frame = tile_frames(pictures, aspect=self._aspect)
        return frame if self._size is None else scaled(frame, self._size)


def is_cube_or_thousandth(episode: int) -> bool:
    """Gymnasium's schedule of videos; its own module for them imports moviepy."""
    return round(episode ** (1 / 3)) ** 3 == episode if episode < 1000 else episode % 1000 == 0


class RecordingEpisodes(Recording):
    """Begins recordings with episodes and at steps, as Gymnasium's recorders do."""

    def __init__(
        self,
        env: Any,
        video_folder: str,
        episode_trigger: Callable[[int], bool] | None = None,
        step_trigger: Callable[[int], bool] | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: int | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        *,
        caption: CaptionOption = False,
        model: Any = None,
        action_names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        arguments = dict(locals())
        del arguments["self"], arguments["env"], arguments["__class__"]
        super().__init__(env, **arguments)  # type: ignore[call-arg]
        if isinstance(model, SharedReference):  # rebuilt from a spec
            model = model.value
        check_pictures(env)
        self.video_length = checked_video_length(video_length, least=0)
        if episode_trigger is None and step_trigger is None:
            episode_trigger = is_cube_or_thousandth
        self.episode_trigger, self.step_trigger = episode_trigger, step_trigger
        self.disable_logger, self.gc_trigger = disable_logger, gc_trigger
        self.step_id = self.episode_id = -1
        self.render_history: deque[Any] = deque(maxlen=RENDER_HISTORY)
        self._prepare(env, video_folder, name_prefix, fps, caption, model, action_names, size)

    def _capture_frame(self) -> None:
        raise NotImplementedError

    def _after_begin(self, indices: Sequence[int], when: str) -> None:
        first = self._indices[0]
        if first in indices:
            self.episode_id += 1
            self._episodes[first].number = self.episode_id
            if self.recording and self.video_length == float("inf"):
                self.stop_recording()
            if self.episode_trigger is not None and self.episode_trigger(self.episode_id):
                self.start_recording(f"{self.name_prefix}-episode-{self.episode_id}")
        if self.recording and self._shows_beginning(indices, when):
            self._capture_frame()

    def _shows_beginning(self, indices: Sequence[int], when: str) -> bool:
        return True

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        self.step_id += 1
        if self.step_trigger is not None and self.step_trigger(self.step_id):
            self.start_recording(f"{self.name_prefix}-step-{self.step_id}")
        if self.recording:
            self._capture_step(ended, infos)

    def _capture_step(self, ended: Sequence[int], infos: Any) -> None:
        self._capture_frame()

    def start_recording(self, video_name: str) -> None:
        """
        Begin a recording with the next frame; one that is running is finished first.

        :param video_name: File name without ``.mp4``.
        """
        self._next_name = os.fspath(video_name)
        self._begin_video()

    def stop_recording(self) -> None:
        """
        Finish the running recording.

        :raises RuntimeError: If none is running.
        """
        super().stop_recording()
        if self.gc_trigger is not None and self.gc_trigger(self.episode_id):
            gc.collect()

    def _finish(self) -> Path | None:
        path = super()._finish()
        if path is not None and not self.disable_logger:
            print(f"Saved the video {path}")
        return path


class RecordingSeveral(Recording):
    """Records a grid of several environments, or one of them."""

    def _choose(self, n_envs: int, env_index: int | None) -> None:
        """Check which environment is to be recorded."""
        if env_index is not None and not 0 <= env_index < n_envs:
            raise ValueError(
                f"env_index: received {env_index!r}, it must be from 0 to {n_envs - 1}, or "
                "None for a grid of all. Pass one of these."
            )
        self._indices = range(n_envs) if env_index is None else (env_index,)
        self._single = len(self._indices) == 1

    def _render(self) -> list[Any]:
        raise NotImplementedError

    def _draw(self) -> list[Any]:
        with self._finished_on_failure():
            return self._render()

    def _last_frame(self, infos: Any, index: int) -> TerminalFrame | None:
        """Take the picture of the state that an episode ended in; None if there is none."""
        raise NotImplementedError

    def _last_observation(self, infos: Any, index: int) -> Any:
        raise NotImplementedError

    def _shows_beginning(self, indices: Sequence[int], when: str) -> bool:
        """Tell whether the first states of episodes get a frame of their own."""
        if when == "after step" and self.recorded_frames:
            return self._single and self._indices[0] in indices
        return when != "in step" and not set(self._indices).isdisjoint(indices)

    def _capture_step(self, ended: Sequence[int], infos: Any) -> None:
        replaced = set(self._indices).intersection(ended) if self._resets_within_step else set()
        found = {index: self._last_frame(infos, index) for index in sorted(replaced)}
        last = {index: each for index, each in found.items() if each and each[0] is not None}
        # A subclass that takes its own pictures takes all of them.
        if not last or type(self)._capture_frame is not RecordingSeveral._capture_frame:
            if not (self._single and replaced):
                self._capture_frame()
            elif self._video is not None:  # without its picture, but its numbers are told
                self._video.follow([self._episodes[index] for index in self._indices])
            return
        frames = [None] if self._single else self._draw()
        seen = self._seen()
        for index, (frame, mask) in last.items():
            position = self._indices.index(index)
            frames[position] = frame
            seen[position] = self._last_observation(infos, index), mask
        self._add_frames(frames, seen)

    def _observation_of(self, index: int) -> Any:
        return observation_of(self._observations, index)

    def _capture_frame(self) -> None:
        if self.recording:
            frames = self._draw()
            self._add_frames(frames, self._seen() if len(frames) == len(self._indices) else None)

    def _begin_video(self) -> None:
        super()._begin_video()
        if self._resets_within_step:
            keep_terminal_frames(self.env, self._indices)

    def _finish(self) -> Path | None:
        if self.recording and self._resets_within_step:
            stop_keeping_terminal_frames(self.env, self._indices)
        return super()._finish()


def observation_of(observations: Any, index: int) -> Any:
    """Pick one sub-environment's observation."""
    if isinstance(observations, dict):
        return {key: observation_of(value, index) for key, value in observations.items()}
    parts = (np.ndarray, dict, tuple)
    if isinstance(observations, tuple) and all(isinstance(each, parts) for each in observations):
        return tuple(observation_of(value, index) for value in observations)
    return observations[index]
