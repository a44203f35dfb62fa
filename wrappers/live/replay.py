"""The last episode once more, as a video: played again from its beginning, by its actions."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym

from dqn_plugins.wrappers.live.scene import picture_of
from dqn_plugins.wrappers.video.video_writer import VideoWriter

__all__ = ["Replay"]


class Replay:
    """
    Remembers what the running and the last whole episode need to be played again: the state of the
    environment's random numbers at the reset, and the actions. That costs no frame in training.

    :param make_env: Makes another such environment, able to give pictures.
    :param fps: Frames per second of the video.
    """

    def __init__(self, make_env: Callable[[], gym.Env[Any, Any]], fps: float):
        self._make_env = make_env
        self._fps = fps
        self._running: _Episode | None = None
        self._last: _Episode | None = None

    def begin(self, env: gym.Env[Any, Any], seed: int | None, options: Any) -> None:
        """
        Remember how an episode begins. Call it right before the reset.

        :param env: The environment.
        :param seed: What ``reset`` is given.
        :param options: What ``reset`` is given.
        """
        state = None if seed is not None else deepcopy(env.unwrapped.np_random.bit_generator.state)
        self._running = _Episode(seed, options, state)

    def forget(self) -> None:
        """Remember nothing of the running episode."""
        self._running = None

    def step(self, action: Any, reward: float) -> None:
        """
        Remember a step.

        :param action: The action.
        :param reward: What it brought.
        """
        if self._running is not None:
            self._running.actions.append(action)
            self._running.rewards.append(reward)

    def end(self) -> None:
        """Take note that the episode is over."""
        if self._running is not None:
            self._last, self._running = self._running, None

    def film(self, path: Path, _index: int = 0) -> bool:
        """
        Play the last whole episode again, and write it to a file.

        :param path: An MP4 file.
        :return: True: it is complete.
        :raises ValueError: If there is no such episode, or it went otherwise this time.
        """
        episode, env = self._last, self._make_env()
        try:
            if episode is None:
                raise ValueError("no whole episode was watched yet. Wait for the next to end.")
            if episode.state is not None:
                env.reset(seed=0)  # makes the generator
                env.unwrapped.np_random.bit_generator.state = episode.state
            env.reset(seed=episode.seed, options=episode.options)
            with VideoWriter(path, self._fps) as video:
                video.write(picture_of(env.render()))
                for number, action in enumerate(episode.actions):
                    _, reward, *_ = env.step(action)
                    if float(reward) != episode.rewards[number]:
                        raise ValueError(
                            f"played again, its step {number} brought {float(reward):g} instead of "
                            f"{episode.rewards[number]:g}. This environment does not repeat itself."
                        )
                    video.write(picture_of(env.render()))
        finally:
            env.close()
        return True


class _Episode:
    def __init__(self, seed: int | None, options: Any, state: Any):
        self.seed = seed
        self.options = options
        self.state = state
        self.actions: list[Any] = []
        self.rewards: list[float] = []
