"""Videos of Gymnasium's ``VectorEnv``, written while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.core import ActType, ObsType
from gymnasium.vector import VectorEnv

from dqn_plugins.wrappers.drawing.overlay import CaptionOption
from dqn_plugins.wrappers.environment_id import sub_environments
from dqn_plugins.wrappers.observing.observer import ObservedVectorEnv
from dqn_plugins.wrappers.video.recorders import RecordingEpisodes, RecordingSeveral
from dqn_plugins.wrappers.video.terminal_frame import TERMINAL_FRAME

__all__ = ["VectorRecordVideo"]


class VectorRecordVideo(RecordingSeveral, RecordingEpisodes, ObservedVectorEnv[ObsType, ActType]):
    """
    Record videos of Gymnasium's ``VectorEnv``: a drop-in for
    :class:`gymnasium.wrappers.vector.RecordVideo` that streams, with what
    :class:`dqn_plugins.wrappers.RecordVideo` promises. It records a grid of all environments, or
    one of them. Episodes are those of the recorded one, in a grid those of the first.

    Terminal states are in the video whichever way the environments reset themselves, but for
    ``AutoresetMode.SAME_STEP`` in other processes; a grid shows them in place of the first state of
    the next episode there.

    :param env: The environments, made with a ``render_mode`` that returns pictures.
    :param video_folder: Folder of the videos; made if missing.
    :param video_aspect_ratio: Width and height of the grid in relation, kept as nearly as can be.
    :param record_first_only: The same as ``env_index=0``.
    :param episode_trigger: See :class:`dqn_plugins.wrappers.RecordVideo`.
    :param step_trigger: See there.
    :param video_length: See there.
    :param name_prefix: See there.
    :param fps: See there.
    :param disable_logger: See there.
    :param gc_trigger: See there.
    :param env_index: The one environment to record, from 0; None records all as a grid.
    :param caption: See there; in a grid each picture has its own.
    :param model: See there.
    :param action_names: See there.
    :param size: See there.
    :raises ValueError: If the render mode gives no pictures, or an argument is out of range.
    :raises TypeError: If ``model`` or ``caption`` is of a kind that cannot be drawn.
    :raises OSError: If the folder cannot be made or written.
    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import VectorRecordVideo

        envs = gym.make_vec("CartPole-v1", 4, render_mode="rgb_array")
        envs = VectorRecordVideo(envs, "videos", episode_trigger=lambda episode: episode == 0)
        envs.reset(seed=0)
        for _ in range(50):
            envs.step(envs.action_space.sample())
        envs.close()
    """

    def __init__(
        self,
        env: VectorEnv[ObsType, ActType, Any],
        video_folder: str,
        video_aspect_ratio: tuple[int, int] = (1, 1),
        record_first_only: bool = False,
        episode_trigger: Callable[[int], bool] | None = None,
        step_trigger: Callable[[int], bool] | None = None,
        video_length: int = 0,
        name_prefix: str = "rl-video",
        fps: int | None = None,
        disable_logger: bool = True,
        gc_trigger: Callable[[int], bool] | None = None,
        *,
        env_index: int | None = None,
        caption: CaptionOption = False,
        model: Any = None,
        action_names: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ):
        if env_index is None and record_first_only:
            env_index = 0
        self._choose(env.num_envs, env_index)
        self.record_first_only, self.video_aspect_ratio = record_first_only, video_aspect_ratio
        self._aspect = video_aspect_ratio[0] / video_aspect_ratio[1]
        super().__init__(
            env, video_folder, episode_trigger, step_trigger, video_length, name_prefix, fps,
            disable_logger, gc_trigger, caption=caption, model=model, action_names=action_names,
            size=size,
        )  # fmt: skip

    def _render(self) -> list[Any]:
        envs = sub_environments(self.env)
        if self._single and envs:
            frames: Any = [envs[self._indices[0]].render()]
        else:
            frames = self.env.render()
            # Of one piece, it may give a single picture of all.
            frames = [frames] if frames is None or isinstance(frames, np.ndarray) else frames
            frames = [frames[self._indices[0]]] if self._single and len(frames) > 1 else frames
        return [frame[-1] if isinstance(frame, list) and frame else frame for frame in frames]

    def _capture_step(self, ended: Sequence[int], infos: Any) -> None:
        told = infos.get("final_info", {}) if isinstance(infos, dict) else {}
        told.pop(f"_{TERMINAL_FRAME}", None)
        self._last_frames = told.pop(TERMINAL_FRAME, dict.fromkeys(ended))
        super()._capture_step(ended, infos)

    def _last_frame(self, infos: Any, index: int) -> Any:
        if not isinstance(infos, dict):  # of DictInfoToList, one for each
            return infos[index]["final_info"].pop(TERMINAL_FRAME, None)
        return self._last_frames[index]

    def _last_observation(self, infos: Any, index: int) -> Any:
        if not isinstance(infos, dict):
            return infos[index]["final_obs"]
        return infos["final_obs"][index]
