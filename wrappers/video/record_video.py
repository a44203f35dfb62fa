"""Videos of a :class:`gymnasium.Env`, written while it runs."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, SupportsFloat, TypeVar, cast

import gymnasium as gym
from gymnasium import logger
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs

from dqn_plugins.wrappers.drawing.overlay import CaptionOption
from dqn_plugins.wrappers.video.recording import (
    EpisodeProgress,
    Recorder,
    RecorderProperties,
    SharedReference,
    stop_at_exit,
)

__all__ = ["RecordVideo"]

RenderFrame = TypeVar("RenderFrame")

# Frames that a render mode ending in "_list" has handed to the recording and that the program may
# still ask for; Gymnasium's wrapper keeps all of them.
RENDER_HISTORY = 64


def is_cube_or_thousandth(episode: int) -> bool:
    """
    Gymnasium's schedule of videos, without Gymnasium's module for them, which imports moviepy.

    :param episode: The episode's number, from 0.
    :return: Whether it is one of the cubes below 1000, or a multiple of 1000.
    """
    return round(episode ** (1 / 3)) ** 3 == episode if episode < 1000 else episode % 1000 == 0


class RecordVideo(
    RecorderProperties,
    gym.Wrapper[ObsType, ActType, ObsType, ActType],
    Generic[ObsType, ActType],
    RecordConstructorArgs,
):
    """
    Record videos of episodes: a drop-in for :class:`gymnasium.wrappers.RecordVideo` that streams.

    Every frame goes to the encoder as it is rendered, so memory stays constant, and the file plays
    up to the last half second whatever ends the program: an exception, Ctrl-C, SIGTERM,
    ``kill -9``, an environment that is never closed. Existing videos are never overwritten: a
    taken name gets the next number (``rl-video-episode-0_1.mp4``). Beside each video lies a
    ``.json`` file of the same name with the environment's id, seed, return, length, how the
    episode ended, and package versions.

    A recording begins when a trigger says so and ends with the next reset, after ``video_length``
    frames, or with :meth:`close`. Put this wrapper outermost: what it shows is what it wraps. Its
    vector twin is :class:`dqn_plugins.wrappers.VecRecordVideo`.

    :param env: The environment, made with a ``render_mode`` that returns pictures
        (``"rgb_array"``, or one ending in ``_list``).
    :param video_folder: Folder of the videos; made if missing.
    :param episode_trigger: Function from the episode's number, from 0, to whether its recording
        begins. Without any trigger: the cubes 0, 1, 8, 27, ... up to 1000, then every 1000th.
    :param step_trigger: Function from the number of the environment step, from 0 and over all
        episodes, to whether a recording begins there.
    :param video_length: Frames per video, exactly; 0 records whole episodes.
    :param name_prefix: Beginning of the file names: ``{name_prefix}-episode-{number}.mp4`` or
        ``{name_prefix}-step-{number}.mp4``.
    :param fps: Frames per second; by default ``metadata["render_fps"]``, or 30 without that.
    :param disable_logger: False logs each finished video through :mod:`gymnasium.logger`.
    :param gc_trigger: Function from the episode's number to whether garbage is collected after its
        video. Nothing here needs it, since no frames are kept; None by default.
    :param caption: True writes episode, step, reward and return so far under each frame; a
        function from :class:`dqn_plugins.wrappers.FrameDetails` to labels and texts writes those.
    :param model: Draws this model's Q-values under each frame, the greedy action marked: a
        Stable-Baselines3 model with ``policy.q_net``, or a function from one observation to an
        array of Q-values. It is asked about the observations of the environment below.
    :param action_names: Names for the Q-values, one per action; numbers by default.
    :raises ValueError: If the environment's render mode gives no pictures, or ``fps`` or
        ``video_length`` is out of range.
    :raises TypeError: If ``model`` or ``caption`` is of a kind that cannot be drawn.
    :raises OSError: If the folder cannot be made or written.
    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import RecordVideo

        env = gym.make("CartPole-v1", render_mode="rgb_array")
        env = RecordVideo(env, "videos", episode_trigger=lambda episode: True, caption=True)
        for _ in range(3):
            env.reset(seed=0)
            done = False
            while not done:
                _, _, terminated, truncated, _ = env.step(env.action_space.sample())
                done = terminated or truncated
        env.close()
    """

    def __init__(
        self,
        env: gym.Env[ObsType, ActType],
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
    ):
        if isinstance(model, SharedReference):  # rebuilt from a spec
            model = model.value
        RecordConstructorArgs.__init__(
            self,
            video_folder=video_folder,
            episode_trigger=episode_trigger,
            step_trigger=step_trigger,
            video_length=video_length,
            name_prefix=name_prefix,
            fps=fps,
            disable_logger=disable_logger,
            gc_trigger=gc_trigger,
            caption=caption,
            model=None if model is None else SharedReference(model),
            action_names=action_names,
        )
        gym.Wrapper.__init__(self, env)

        if env.render_mode in {None, "human", "ansi"}:
            raise ValueError(
                f"env: received render_mode={env.render_mode!r}, which gives no pictures to "
                'record. Make the environment with render_mode="rgb_array", as in '
                'gym.make("LunarLander-v3", render_mode="rgb_array").'
            )
        if isinstance(video_length, bool) or video_length < 0:
            raise ValueError(
                f"video_length: received {video_length!r}, it must be a whole number of frames of "
                "at least 0. Pass 0 to record whole episodes."
            )
        if episode_trigger is None and step_trigger is None:
            episode_trigger = is_cube_or_thousandth
        self.episode_trigger = episode_trigger
        self.step_trigger = step_trigger
        self.disable_logger = disable_logger
        self.gc_trigger = gc_trigger
        self.name_prefix = name_prefix
        self.video_length: float = video_length or float("inf")
        self.step_id = -1
        self.episode_id = -1
        self.render_history: deque[Any] = deque(maxlen=RENDER_HISTORY)
        self._progress = EpisodeProgress(episode=-1)
        self._recorder = Recorder(
            video_folder,
            fps,
            self.metadata,
            None if env.spec is None else env.spec.id,
            caption,
            model,
            action_names,
        )
        self._observation: Any = None
        self._finalizer = stop_at_exit(self, self._recorder)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """
        Reset the environment; this ends the recording of a whole episode and may begin the next.

        :param seed: Passed on.
        :param options: Passed on.
        :return: The first observation and the info.
        """
        with self._finished_on_failure():
            observation, info = self.env.reset(seed=seed, options=options)
        self.episode_id += 1
        self._progress = replace(self._progress.following(seed), episode=self.episode_id)
        self._observation = observation
        if self.recording and self.video_length == float("inf"):
            self.stop_recording()
        if self.episode_trigger is not None and self.episode_trigger(self.episode_id):
            self.start_recording(f"{self.name_prefix}-episode-{self.episode_id}")
        if self.recording:
            self._capture_frame()
        return observation, info

    def step(self, action: ActType) -> tuple[ObsType, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Take a step, and record it if a recording is running.

        :param action: Passed on.
        :return: Observation, reward, terminated, truncated and info, unchanged.
        """
        with self._finished_on_failure():
            observation, reward, terminated, truncated, info = self.env.step(action)
        self.step_id += 1
        self._observation = observation
        self._progress.add(float(reward), bool(terminated), bool(truncated))
        if self.step_trigger is not None and self.step_trigger(self.step_id):
            self.start_recording(f"{self.name_prefix}-step-{self.step_id}")
        if self.recording:
            self._capture_frame()
        return observation, reward, terminated, truncated, info

    @contextlib.contextmanager
    def _finished_on_failure(self) -> Iterator[None]:
        """Finish the video if the environment fails: there may be nobody left to close it."""
        try:
            yield
        except Exception:
            with contextlib.suppress(OSError):
                self._recorder.stop()
            raise

    def _progress_shown(self) -> list[EpisodeProgress]:
        return [self._progress]

    def _capture_frame(self) -> None:
        """Record a frame; an environment may call it for one between two steps."""
        if not self.recording:
            return
        frame: Any = self.env.render()
        if isinstance(frame, list):
            if not frame:
                logger.warn(
                    "A frame is missing from the video: env.render() was called just before and "
                    "took it."
                )
                return
            self.render_history.extend(frame)
            frame = frame[-1]
        self._add([frame], [self._observation])

    def render(self) -> Any:
        """
        Render the environment.

        :return: What the environment's ``render`` gives; for a render mode ending in ``_list``
            the frames since the last call, at most 64 of those that went into the video.
        """
        rendered = cast(Any, self.env.render())
        if isinstance(rendered, list) and self.render_history:
            rendered = [*self.render_history, *rendered]
            self.render_history.clear()
        return rendered

    def start_recording(self, video_name: str) -> None:
        """
        Begin a recording with the next frame; one that is running is finished first.

        :param video_name: File name without ``.mp4``.
        """
        if self.recording:
            self.stop_recording()
        self._recorder.start(os.fspath(video_name))

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
            logging.getLogger(__name__).info("Saved the video %s", path)
        return path

    def close(self) -> None:
        """Finish the running recording and close the environment."""
        try:
            if self.recording:
                self.stop_recording()
        finally:
            super().close()
