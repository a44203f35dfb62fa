"""Videos of a Stable-Baselines3 ``VecEnv``, written while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from typing_extensions import override

from dqn_plugins.wrappers.drawing.overlay import CaptionOption
from dqn_plugins.wrappers.environment_id import (
    all_rendered,
    check_pictures,
    environment_metadata,
    rendered,
)
from dqn_plugins.wrappers.observing.vec_env import ObservedVecEnv
from dqn_plugins.wrappers.video.recorders import (
    Recording,
    RecordingSeveral,
    checked_video_length,
    observation_of,
)
from dqn_plugins.wrappers.video.terminal_frame import TERMINAL_FRAME

__all__ = ["VecRecordVideo", "observation_of"]


class VecRecordVideo(RecordingSeveral, ObservedVecEnv):
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
    :param fps: See :class:`dqn_plugins.wrappers.RecordVideo`.
    :param caption: See there; in a grid each picture has its own caption.
    :param model: See there. It is asked about the observations that ``venv`` gives, so wrap a
        ``VecNormalize`` rather than be wrapped by it.
    :param action_names: See there.
    :param size: See there.
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
        size: tuple[int, int] | None = None,
    ):
        ObservedVecEnv.__init__(self, venv)
        check_pictures(venv)
        self.video_length = checked_video_length(video_length, least=1)
        self._choose(venv.num_envs, env_index)
        self.env = venv
        self.metadata = dict(environment_metadata(venv))
        self.record_video_trigger = record_video_trigger
        self.env_index = env_index
        self.step_id = 0
        self._prepare(venv, video_folder, name_prefix, fps, caption, model, action_names, size)

    @property
    def video_name(self) -> str | None:
        """The name of that file. Setting it names the next one."""
        return None if self._path is None else self._path.name

    @video_name.setter
    def video_name(self, value: str) -> None:
        self.video_path = Path(self.video_folder, value)

    def _after_begin(self, indices: Sequence[int], when: str) -> None:
        if when == "reset" and self._video_enabled():
            self._start_video_recorder()
        elif self.recording and self._shows_beginning(indices, when):
            self._capture_frame()

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        self.step_id += 1
        if self.recording:
            self._capture_step(ended, infos)

    @override
    def step_wait(self) -> VecEnvStepReturn:
        was_recording = self.recording
        results = super().step_wait()
        if not was_recording and self._video_enabled():
            self._start_video_recorder()
        return results

    def _render(self) -> list[Any]:
        if self._single and self.num_envs > 1:
            return [rendered(self.venv, self._indices[0])]
        return all_rendered(self.venv)

    def _last_frame(self, infos: Any, index: int) -> Any:
        return infos[index].pop(TERMINAL_FRAME, None)

    def _last_observation(self, infos: Any, index: int) -> Any:
        return infos[index]["terminal_observation"]

    def _before_close(self) -> None:
        Recording._finish(self)

    # The steps of Stable-Baselines3's recorder, which scripts call and override.

    def _video_enabled(self) -> bool:
        return self.record_video_trigger(self.step_id)

    def _start_video_recorder(self) -> None:
        self._start_recording()
        self._capture_frame()

    def _start_recording(self) -> None:
        self.start_recording()

    def _stop_recording(self) -> None:
        super().stop_recording()

    def stop_recording(self) -> None:
        """
        Finish the running recording.

        :raises RuntimeError: If none is running.
        """
        self._stop_recording()

    def start_recording(self) -> None:
        """Begin a recording with the next frame; one that is running is finished first."""
        self._begin_video()

    def _default_name(self) -> str:
        return f"{super()._default_name()}-to-step-{self.step_id + self.video_length}"
