"""Videos of a Stable-Baselines3 ``VecEnv``, written while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from dqn_plugins.wrappers.drawing.overlay import CaptionOption
from dqn_plugins.wrappers.environment_id import environment_id
from dqn_plugins.wrappers.video.recording import (
    NO_RECORDING,
    EpisodeProgress,
    Recorder,
    RecorderProperties,
    stop_at_exit,
)
from dqn_plugins.wrappers.video.terminal_frame import (
    TERMINAL_FRAME,
    keep_terminal_frames,
    stop_keeping_terminal_frames,
)

__all__ = ["VecRecordVideo"]


def observation_of(observations: Any, index: int) -> Any:
    """
    Pick one sub-environment's observation.

    :param observations: Of all of them: an array, or a dictionary or tuple of arrays.
    :param index: Of the sub-environment.
    :return: Its observation.
    """
    if isinstance(observations, dict):
        return {key: value[index] for key, value in observations.items()}
    if isinstance(observations, tuple):
        return tuple(value[index] for value in observations)
    return observations[index]


class VecRecordVideo(RecorderProperties, VecEnvWrapper):
    """
    Record videos of a vectorised environment: a drop-in for Stable-Baselines3's
    ``VecVideoRecorder`` that streams, and that shows terminal states.

    What :class:`dqn_plugins.wrappers.RecordVideo` promises holds here too: constant memory, a
    file that plays whatever ends the program, no file overwritten, a ``.json`` file beside each
    video. It records a grid of all sub-environments, or one of them, with ``DummyVecEnv`` and
    ``SubprocVecEnv``. A ``VecEnv`` resets a sub-environment within the step that ends its
    episode; the grid shows the terminal state in that frame, the video of a single
    sub-environment shows the terminal state and then the first state of the next episode.

    :param venv: The vectorised environment; its sub-environments are made with
        ``render_mode="rgb_array"``.
    :param video_folder: Folder of the videos; made if missing.
    :param record_video_trigger: Function from the number of the (vector) step, 0 for the first
        reset, to whether a recording begins there.
    :param video_length: Frames per video, exactly, from 1.
    :param name_prefix: Beginning of the file names:
        ``{name_prefix}-step-{first}-to-step-{last}.mp4``.
    :param env_index: The one sub-environment to record, from 0; None records all as a grid.
    :param fps: Frames per second; by default ``metadata["render_fps"]``, or 30 without that.
    :param caption: See :class:`dqn_plugins.wrappers.RecordVideo`; in a grid each picture has its
        own caption.
    :param model: See :class:`dqn_plugins.wrappers.RecordVideo`. It is asked about the
        observations that ``venv`` gives, so wrap a ``VecNormalize`` rather than be wrapped by it.
    :param action_names: Names for the Q-values, one per action; numbers by default.
    :raises ValueError: If the render mode gives no pictures, or ``video_length``, ``env_index`` or
        ``fps`` is out of range.
    :raises TypeError: If ``model`` or ``caption`` is of a kind that cannot be drawn.
    :raises OSError: If the folder cannot be made or written.
    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.

    Example::

        from dqn_plugins.wrappers import VecRecordVideo
        from stable_baselines3 import DQN
        from stable_baselines3.common.env_util import make_vec_env

        venv = make_vec_env("CartPole-v1", 2, env_kwargs={"render_mode": "rgb_array"})
        venv = VecRecordVideo(venv, "videos", lambda step: step % 1000 == 0, video_length=100)
        DQN("MlpPolicy", venv).learn(1200)
        venv.close()
    """

    def __init__(
        self,
        venv: VecEnv,
        video_folder: str,
        record_video_trigger: Callable[[int], bool],
        video_length: int = 200,
        name_prefix: str = "rl-video",
        *,
        env_index: int | None = None,
        fps: int | None = None,
        caption: CaptionOption = False,
        model: Any = None,
        action_names: Sequence[str] | None = None,
    ):
        VecEnvWrapper.__init__(self, venv)
        if venv.render_mode != "rgb_array":
            raise ValueError(
                f"venv: received render_mode={venv.render_mode!r}, which gives no pictures to "
                'record. Make the environments with render_mode="rgb_array", as in '
                'make_vec_env(..., env_kwargs={"render_mode": "rgb_array"}).'
            )
        if isinstance(video_length, bool) or video_length < 1:
            raise ValueError(
                f"video_length: received {video_length!r}, it must be a whole number of frames of "
                "at least 1. Pass 200."
            )
        if env_index is not None and not 0 <= env_index < venv.num_envs:
            raise ValueError(
                f"env_index: received {env_index!r}, it must be from 0 to {venv.num_envs - 1}, or "
                "None for a grid of all. Pass one of these."
            )
        self.env = venv
        self.metadata = venv.get_attr("metadata")[0]
        self.record_video_trigger = record_video_trigger
        self.video_length = video_length
        self.name_prefix = name_prefix
        self.env_index = env_index
        self.step_id = 0
        self._recorder = Recorder(
            video_folder,
            fps,
            self.metadata,
            environment_id(venv),
            caption,
            model,
            action_names,
        )
        self.video_folder = str(self._recorder.folder)
        self.frames_per_sec = self._recorder.fps
        self._indices = list(range(venv.num_envs)) if env_index is None else [env_index]
        self._single = len(self._indices) == 1
        self._progresses = [
            EpisodeProgress(-1, environment=index) for index in range(venv.num_envs)
        ]
        self._finalizer = stop_at_exit(self, self._recorder)

    @property
    def video_name(self) -> str | None:
        """The name of that file."""
        path = self._recorder.path
        return None if path is None else path.name

    def reset(self) -> VecEnvObs:
        """
        Reset all sub-environments; this may begin a recording.

        :return: The first observations.
        """
        # A VecEnv forgets its seeds in the reset that uses them.
        seeds = list(getattr(self.venv.unwrapped, "_seeds", [])) or [None] * self.num_envs
        observations = self.venv.reset()
        for index, seed in enumerate(seeds):
            self._begin_episode(index, seed)
        if self.record_video_trigger(self.step_id):
            self.start_recording()
        if self.recording:
            self._capture(self._render(), self._seen(observations))
        return observations

    def _begin_episode(self, index: int, seed: int | None = None) -> None:
        self._progresses[index] = self._progresses[index].following(seed)

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait for the step, and record it if a recording is running.

        :return: Observations, rewards, dones and infos, unchanged.
        """
        try:
            observations, rewards, dones, infos = self.venv.step_wait()
        except Exception:
            # There may be nobody left to close the video, nor an environment to ask anything.
            with contextlib.suppress(OSError):
                self._recorder.stop()
            raise
        self.step_id += 1
        was_recording = self.recording
        for index, progress in enumerate(self._progresses):
            done = bool(dones[index])
            truncated = done and bool(infos[index].get("TimeLimit.truncated", False))
            progress.add(float(rewards[index]), done and not truncated, truncated)
        if was_recording:
            self._capture_step(observations, dones, infos)
        for index in np.flatnonzero(dones).tolist():
            self._begin_episode(index)
        if self.recording:
            if self._single and dones[self._indices[0]]:
                self._capture(self._render(), self._seen(observations))
        elif not was_recording and self.record_video_trigger(self.step_id):
            self.start_recording()
            self._capture(self._render(), self._seen(observations))
        return observations, rewards, dones, infos

    def _render(self) -> list[Any]:
        if self._single:
            return self.venv.env_method("render", indices=self._indices)
        return list(self.venv.get_images())

    def _capture_step(self, observations: Any, dones: Any, infos: Sequence[dict[str, Any]]) -> None:
        terminal = {
            index: infos[index].pop(TERMINAL_FRAME)
            for index in self._indices
            if dones[index] and TERMINAL_FRAME in infos[index]
        }
        if not self._single or not dones[self._indices[0]]:
            frames = self._render()
        elif terminal:
            frames = list(terminal.values())
        else:
            return
        seen = self._seen(observations)
        for index, frame in terminal.items():
            position = self._indices.index(index)
            frames[position] = frame
            seen[position] = infos[index]["terminal_observation"]
        self._capture(frames, seen)

    def _seen(self, observations: Any) -> list[Any]:
        return [observation_of(observations, index) for index in self._indices]

    def _capture(self, frames: list[Any], seen: list[Any]) -> None:
        if not all(isinstance(frame, np.ndarray) for frame in frames):
            kinds = ", ".join(sorted({type(frame).__name__ for frame in frames}))
            logger.warn(
                f"Recording stopped: the environments rendered {kinds} instead of NumPy arrays."
            )
            self.stop_recording()
            return
        progresses = [self._progresses[index] for index in self._indices]
        try:
            self._recorder.capture(frames, progresses, seen)
        except Exception:
            # The program may go on without the video; what is written stays.
            with contextlib.suppress(OSError):
                self.stop_recording()
            raise
        if self._recorder.frame_count >= self.video_length:
            self.stop_recording()

    def start_recording(self) -> None:
        """Begin a recording with the next frame; one that is running is finished first."""
        if self.recording:
            self.stop_recording()
        keep_terminal_frames(self.venv, self._indices)
        last = self.step_id + self.video_length
        self._recorder.start(f"{self.name_prefix}-step-{self.step_id}-to-step-{last}")

    def stop_recording(self) -> None:
        """
        Finish the running recording.

        :raises RuntimeError: If none is running.
        """
        if not self.recording:
            raise RuntimeError(NO_RECORDING)
        stop_keeping_terminal_frames(self.venv, self._indices)
        self._recorder.stop()

    def close(self) -> None:
        """Finish the running recording and close the sub-environments."""
        try:
            self._recorder.stop()
        finally:
            self.venv.close()
