"""What is on the page: environments, where they are, and how far their episodes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.observing.infos import possible_actions
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["Scene", "another_environment", "reason_against_another"]

RENDER_MODE = "rgb_array"

#: Wrappers that count, record or show the training, which another environment is not part of.
OF_TRAINING = {"EpisodeReward", "LiveView", "Monitor", "RecordEpisodeStatistics", "RecordVideo"}


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
        self._busy: list[Any] = [each.unwrapped for each in environments]
        self._busy = [env for env in self._busy if _works_at_every_step(env)]
        for env in self._busy:
            env.render = _RenderWithMode(env)
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
        return [_picture_of(self._render(index)) for index in indices]

    def draw_every_step(self, is_every_step_drawn: bool) -> None:
        """
        Choose whether the environments that work for their pictures at every step do so. While
        nobody looks, or most steps are not shown, they have a render mode only where they are asked
        for a picture.
        """
        for env in self._busy:
            env.render_mode = RENDER_MODE if is_every_step_drawn else None

    def leave(self) -> None:
        """Leave the environments as they were found."""
        self.draw_every_step(True)
        for env in self._busy:
            del env.render
        self._busy = []


class _RenderWithMode:
    """Stands in for the ``render`` of one environment, which then has its render mode."""

    def __init__(self, env: Any):
        self.env, self.render = env, env.render

    def __call__(self) -> Any:
        before, self.env.render_mode = self.env.render_mode, RENDER_MODE
        try:
            return self.render()
        finally:
            self.env.render_mode = before


def _works_at_every_step(env: Any) -> bool:
    """Tell whether it is LunarLander, which moving its exhaust's particles slows down eightfold."""
    module = "gymnasium.envs.box2d.lunar_lander"
    is_lander = any(kind.__module__ == module for kind in type(env).__mro__)
    return is_lander and env.render_mode == RENDER_MODE


def _for_another(spec: Any) -> Any:
    """Leave out of a spec what belongs to the training."""
    if spec is None:
        raise ValueError("The environment was not made by gym.make, so no second one can be made.")
    kept = []
    for wrapper in spec.additional_wrappers:
        package = wrapper.entry_point.partition(".")[0]
        known = package in ("dqn_plugins", "gymnasium", "stable_baselines3")
        if known and wrapper.name in OF_TRAINING:
            continue
        if wrapper.kwargs is None:
            raise ValueError(
                f"{wrapper.name} is not a gymnasium.utils.RecordConstructorArgs, so no second "
                "environment can be made."
            )
        kept.append(wrapper)
    return dataclasses.replace(spec, additional_wrappers=tuple(kept))


def reason_against_another(spec: Any) -> str | None:
    """Tell why no second environment can be made; None if it can."""
    try:
        _for_another(spec)
    except ValueError as error:
        return str(error)
    return None


def another_environment(spec: Any) -> gym.Env[Any, Any]:
    """Make an environment of the same kind, for what must not touch the one in training."""
    return gym.make(_for_another(spec), render_mode=RENDER_MODE)


def _picture_of(rendered: Any) -> Any:
    """Take the newest picture of what ``render`` gave: one, or a list."""
    if isinstance(rendered, list):
        if not rendered:
            raise ValueError("render() gave no picture, somebody else took it")
        rendered = rendered[-1]
    if not isinstance(rendered, np.ndarray):
        raise TypeError(f"render() gave {type(rendered).__name__} instead of a NumPy array")
    return to_rgb(rendered)
