"""Pictures of a few pixels, made large enough to be seen."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.core import ActType, ObsType
from gymnasium.utils import RecordConstructorArgs

from dqn_plugins.wrappers.video.video_writer import to_bytes

__all__ = ["EnlargeFrames", "enlarged"]


class EnlargeFrames(gym.Wrapper[ObsType, ActType, ObsType, ActType], RecordConstructorArgs):
    """
    Enlarges what an environment renders, each pixel to a square, so that nothing is blurred.

    MinAtar renders 10×10 pixels, as numbers from 0 to 1, which become 0 to 255. Large pictures stay
    as they are, and so do observations.

    :param env: An environment made with ``render_mode="rgb_array"``.
    :param side: How many pixels the longer side shall have at least, at least 1.
    :raises ValueError: If ``side`` is below 1.

    Example::

        import gymnasium as gym
        import minatar.gym
        from dqn_plugins.wrappers import EnlargeFrames, RecordVideo

        minatar.gym.register_envs()
        env = gym.make("MinAtar/Breakout-v1", render_mode="rgb_array")
        env = RecordVideo(EnlargeFrames(env), "videos")
    """

    def __init__(self, env: gym.Env[ObsType, ActType], side: int = 300) -> None:
        if side < 1:
            raise ValueError(f"side: received {side}, it must be at least 1. Try 300.")
        RecordConstructorArgs.__init__(self, side=side)
        gym.Wrapper.__init__(self, env)
        self.side = side

    def render(self) -> Any:
        """
        Draw the environment.

        :return: The frame, in uint8.
        """
        frame = super().render()
        return enlarged(frame, self.side) if isinstance(frame, np.ndarray) else frame


def enlarged(frame: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Enlarge a picture by a whole factor."""
    frame = to_bytes(frame)
    factor = -(-side // max(frame.shape[:2]))
    if factor > 1:
        frame = frame.repeat(factor, axis=0).repeat(factor, axis=1)
    return frame
