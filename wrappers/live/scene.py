"""What is on the page: environments that are trained on, or a greedy look in one beside them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np

from dqn_plugins.wrappers.live.render_switch import RenderSwitch
from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["GreedyLook", "Scene", "picture_of"]


class Scene(ABC):
    """What is on the page: one environment or several."""

    n_envs: int
    switch: RenderSwitch

    @property
    @abstractmethod
    def has_begun(self) -> bool:
        """Whether there was a reset, so that there is something to see."""

    @abstractmethod
    def render(self, index: int) -> Any:
        """
        Draw one environment.

        :param index: Its index.
        :return: A picture, or a list of which the last is the newest.
        """

    @abstractmethod
    def observation(self, index: int) -> Any:
        """
        Tell what the agent sees.

        :param index: Index of the environment.
        :return: One observation.
        """

    @abstractmethod
    def progress(self, index: int) -> tuple[int, int, float]:
        """
        Tell how far an episode is.

        :param index: Index of the environment.
        :return: Number of the episode, its steps, and the sum of its rewards.
        """


class GreedyLook(Scene):
    """
    A greedy episode in an environment of its own: training is not touched.

    :param env: The environment, which is closed in the end.
    :param seed: Of the episode.
    """

    n_envs = 1
    has_begun = True

    def __init__(self, env: gym.Env[Any, Any], seed: int):
        self.env = env
        self.switch = RenderSwitch([])
        self.is_over = False
        self._number, self._length, self._return = seed, 0, 0.0
        self._observation, _ = env.reset(seed=seed)

    def step(self, action: Any) -> None:
        """
        Take a step.

        :param action: The action.
        """
        observation, reward, terminated, truncated, _ = self.env.step(action)
        self._observation = observation
        self._length += 1
        self._return += float(reward)
        self.is_over = bool(terminated or truncated)

    def render(self, index: int) -> Any:
        """Draw it."""
        return self.env.render()

    def observation(self, index: int) -> Any:
        """Tell what the agent sees."""
        return self._observation

    def progress(self, index: int) -> tuple[int, int, float]:
        """Tell how far it is."""
        return self._number, self._length, self._return

    def __enter__(self) -> GreedyLook:
        return self

    def __exit__(self, *_: object) -> None:
        self.env.close()


def picture_of(rendered: Any) -> Any:
    """
    Take the newest picture of what ``render`` gave.

    :param rendered: A picture, or a list of pictures.
    :return: A uint8 array of shape (height, width, 3).
    :raises ValueError: If there is none.
    :raises TypeError: If it is something else.
    """
    if isinstance(rendered, list):
        if not rendered:
            raise ValueError("render() gave no picture, somebody else took it")
        rendered = rendered[-1]
    if not isinstance(rendered, np.ndarray):
        raise TypeError(f"render() gave {type(rendered).__name__} instead of a NumPy array")
    return to_rgb(rendered)
