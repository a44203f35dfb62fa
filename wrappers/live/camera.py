"""The next episode of one of several environments as a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from dqn_plugins.wrappers.environment_id import rendered
from dqn_plugins.wrappers.live.render_switch import RenderSwitch
from dqn_plugins.wrappers.live.scene import picture_of
from dqn_plugins.wrappers.video.terminal_frame import (
    TERMINAL_FRAME,
    keep_terminal_frames,
    stop_keeping_terminal_frames,
)
from dqn_plugins.wrappers.video.video_writer import VideoWriter

__all__ = ["Camera"]


class Camera:
    """
    Films a whole episode as it is played. A ``VecEnv`` resets its environments by itself, so an
    episode that is over cannot be played again: the state of its random numbers before the reset is
    not known.

    :param venv: The environments.
    :param switch: Makes them draw.
    :param fps: Frames per second of the video.
    """

    def __init__(self, venv: VecEnv, switch: RenderSwitch, fps: float):
        self._venv = venv
        self._switch = switch
        self._fps = fps
        self._index: int | None = None
        self._video: VideoWriter | None = None
        self.path = Path()

    @property
    def is_on(self) -> bool:
        """Whether it films, or waits for an episode to begin."""
        return self._index is not None

    def film(self, path: Path, index: int) -> bool:
        """
        Film the next episode of an environment, unless one is being filmed already.

        :param path: An MP4 file.
        :param index: Index of the environment.
        :return: False: it is still to come.
        """
        if not self.is_on:
            self._index, self.path = index, path
            keep_terminal_frames(self._venv, [index])
        return False

    def look(self, dones: Sequence[bool], infos: Sequence[dict[str, Any]]) -> bool:
        """
        Film what a step led to.

        :param dones: Which episodes the step ended.
        :param infos: What the environments say of it.
        :return: Whether the video is complete.
        """
        index = self._index
        assert index is not None
        if dones[index]:
            last = infos[index].pop(TERMINAL_FRAME, None)
            if self._video is not None:
                if last is not None:
                    self._video.write(picture_of(last))
                self.stop()
                return True
            self._video = VideoWriter(self.path, self._fps)
        if self._video is not None:
            self._switch.on()
            self._video.write(picture_of(rendered(self._venv, index)))
        return False

    def stop(self) -> None:
        """Close the video, if there is one, and film no more."""
        if self._index is not None:
            stop_keeping_terminal_frames(self._venv, [self._index])
            self._index = None
            self._switch.off()
        if self._video is not None:
            self._video.close()
            self._video = None
