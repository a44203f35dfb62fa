"""Videos of a Stable-Baselines3 ``VecEnv``, written while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from dqn_plugins.wrappers.drawing.overlay import CaptionOption
from dqn_plugins.wrappers.environment_id import (
    all_rendered,
    environment_id,
    environment_metadata,
    rendered,
)
from dqn_plugins.wrappers.video.recording import (
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
        self.metadata = dict(environment_metadata(venv))
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
        self._indices = list(range(venv.num_envs)) if env_index is None else [env_index]
        self._single = len(self._indices) == 1
        self._progresses = [
            EpisodeProgress(-1, environment=index) for index in range(venv.num_envs)
        ]
        self._observations: Any = None
        self._finalizer = stop_at_exit(self, self._recorder)

    @property
    def video_name(self) -> str | None:
        """The name of that file. Setting it names the next one."""
        path = self._recorder.path
        return None if path is None else path.name

    @video_name.setter
    def video_name(self, value: str) -> None:
        self.video_path = Path(self.video_folder, value)

    def reset(self) -> VecEnvObs:
        """
        Reset all sub-environments; this may begin a recording.

        :return: The first observations.
        """
        # A VecEnv forgets its seeds in the reset that uses them.
        seeds = list(getattr(self.venv.unwrapped, "_seeds", ())) or [None] * self.num_envs
        observations = self._observations = self.venv.reset()
        for index, seed in enumerate(seeds):
            self._begin_episode(index, seed)
        if self._video_enabled():
            self._start_video_recorder()
        elif self.recording:
            self._capture_frame()
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
        self._observations = observations
        was_recording = self.recording
        for index, progress in enumerate(self._progresses):
            done = bool(dones[index])
            truncated = done and bool(infos[index].get("TimeLimit.truncated", False))
            progress.add(float(rewards[index]), done and not truncated, truncated)
        if was_recording:
            self._capture_step(dones, infos)
        for index in np.flatnonzero(dones).tolist():
            self._begin_episode(index)
        if self.recording:
            if self._single and dones[self._indices[0]]:
                self._capture_frame()
        elif not was_recording and self._video_enabled():
            self._start_video_recorder()
        return observations, rewards, dones, infos

    def _capture_step(self, dones: Any, infos: Sequence[dict[str, Any]]) -> None:
        terminal = {
            index: infos[index].pop(TERMINAL_FRAME)
            for index in self._indices
            if dones[index] and TERMINAL_FRAME in infos[index]
        }
        # A subclass that takes its own pictures takes all of them.
        if not terminal or type(self)._capture_frame is not VecRecordVideo._capture_frame:
            if not self._single or not dones[self._indices[0]]:
                self._capture_frame()
            return
        frames = list(terminal.values()) if self._single else self._render()
        seen = self._seen()
        for index, frame in terminal.items():
            position = self._indices.index(index)
            frames[position] = frame
            seen[position] = infos[index]["terminal_observation"]
        self._add(frames, seen)

    def _render(self) -> list[Any]:
        if self._single and self.num_envs > 1:
            return [rendered(self.venv, self._indices[0])]
        return all_rendered(self.venv)

    def _seen(self) -> list[Any]:
        return [observation_of(self._observations, index) for index in self._indices]

    def _progress_shown(self) -> list[EpisodeProgress]:
        return [self._progresses[index] for index in self._indices]

    # The steps of Stable-Baselines3's recorder, which scripts call and override.

    def _video_enabled(self) -> bool:
        return self.record_video_trigger(self.step_id)

    def _start_video_recorder(self) -> None:
        self._start_recording()
        self._capture_frame()

    def _capture_frame(self) -> None:
        if self.recording:
            frames = self._render()
            self._add(frames, self._seen() if len(frames) == len(self._indices) else None)

    def _start_recording(self) -> None:
        self.start_recording()

    def _stop_recording(self) -> None:
        self.stop_recording()

    def start_recording(self) -> None:
        """Begin a recording with the next frame; one that is running is finished first."""
        if self.recording:
            self.stop_recording()
        self._begin()

    def _default_name(self) -> str:
        return f"{super()._default_name()}-to-step-{self.step_id + self.video_length}"

    def _begin(self) -> None:
        keep_terminal_frames(self.venv, self._indices)
        super()._begin()

    def _finish(self) -> Path | None:
        if self.recording:
            stop_keeping_terminal_frames(self.venv, self._indices)
        return super()._finish()

    def close(self) -> None:
        """Finish the running recording and close the sub-environments."""
        try:
            self._recorder.stop()
        finally:
            self.venv.close()
