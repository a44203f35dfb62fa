"""What is on the page: environments, where they are, and how far their episodes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.observing.infos import possible_actions
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["Scene", "another_environment"]

RENDER_MODE = "rgb_array"


class Scene:
    """
    One environment or several, as their wrapper sees them. It does not refer to the wrapper, so
    that a view nobody holds any more goes, and the page hears of it.
    """

    def __init__(
        self,
        environments: Sequence[gym.Env[Any, Any]],
        running: Sequence[RunningEpisode],
        render: Callable[[int], Any],
        select: Callable[[Any, int], Any] = lambda seen, _: seen,
    ):
        self.environments, self.running = environments, running
        self.n_envs = len(running)
        self.seen: Any = None
        self.infos: Sequence[dict[str, Any]] = ()
        self._render, self._select = render, select
        self._drawn = [each.unwrapped for each in environments]
        self._drawn = [each for each in self._drawn if each.render_mode == RENDER_MODE]
        self.draw_every_step(False)

    @property
    def steps(self) -> int:
        """Steps of all environments so far."""
        return sum(running.steps for running in self.running)

    @property
    def has_begun(self) -> bool:
        """Whether there was a reset, so that there is something to see."""
        return self.running[0].number >= 0

    def observation(self, index: int) -> Any:
        """Tell what the agent sees."""
        return self._select(self.seen, index)

    def possible_actions(self, index: int) -> npt.NDArray[np.bool_] | None:
        """Tell which actions the environment can take where it is."""
        env = self.environments[index] if index < len(self.environments) else None
        (mask,) = possible_actions([self.infos[index]], env)
        return mask if mask is not None and mask.any() else None

    def pictures(self, indices: Sequence[int]) -> list[Any]:
        """Draw some environments."""
        self.draw(True)
        frames = [_picture_of(self._render(index)) for index in indices]
        self.draw(False)
        return frames

    def draw_every_step(self, is_every_step_drawn: bool) -> None:
        """
        Choose whether the environments draw at every step. Some work for their pictures once they
        have a render mode: LunarLander moves the particles of its exhaust, which makes it eight
        times slower. While nobody looks, or most steps are not shown, they are told to have none.
        """
        self._is_every_step_drawn = is_every_step_drawn
        self.draw(False)

    def draw(self, is_drawn: bool) -> None:
        """Have the environments draw, right before they are asked for a picture."""
        mode = RENDER_MODE if is_drawn or self._is_every_step_drawn else None
        for env in self._drawn:
            env.render_mode = mode


def another_environment(spec: Any) -> gym.Env[Any, Any]:
    """Make an environment of the same kind, for what must not touch the one in training."""
    if spec is None:
        raise ValueError("the environment was not made by gym.make, so no second one can be made.")
    return gym.make(spec, render_mode=RENDER_MODE)


def _picture_of(rendered: Any) -> Any:
    """Take the newest picture of what ``render`` gave: one, or a list."""
    if isinstance(rendered, list):
        if not rendered:
            raise ValueError("render() gave no picture, somebody else took it")
        rendered = rendered[-1]
    if not isinstance(rendered, np.ndarray):
        raise TypeError(f"render() gave {type(rendered).__name__} instead of a NumPy array")
    return to_rgb(rendered)
