"""What is on the page: environments, where they are, and how far their episodes are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.video_writer import to_rgb

__all__ = ["RenderSwitch", "Scene", "another_environment", "picture_of"]

RENDER_MODE = "rgb_array"


class Scene:
    """
    One environment or several, as their wrapper sees them. It does not refer to the wrapper, so
    that a view nobody holds any more goes, and the page hears of it.

    :param environments: Those of this process; none where they are elsewhere.
    :param n_envs: How many there are.
    :param render: Draws one, by its index: a picture, or a list of which the last is the newest.
    :param select: Takes one's observation out of what all observe, by its index.
    """

    def __init__(
        self,
        environments: Sequence[gym.Env[Any, Any]],
        n_envs: int,
        render: Callable[[int], Any],
        select: Callable[[Any, int], Any],
    ):
        self.n_envs = n_envs
        self.switch = RenderSwitch(environments)
        self.steps = 0
        self.seen: Any = None
        self.infos: Sequence[dict[str, Any]] = [{}] * n_envs
        self.episodes = [-1] * n_envs
        self.running = [RunningEpisode(None) for _ in range(n_envs)]
        self._render = render
        self._select = select
        self._environments = environments

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> Scene:
        """
        Make the scene of one environment.

        :param env: The environment.
        :return: Its scene.
        """
        return cls([env], 1, lambda _: env.render(), lambda seen, _: seen)

    @property
    def has_begun(self) -> bool:
        """Whether there was a reset, so that there is something to see."""
        return self.episodes[0] >= 0

    def begin(self, index: int) -> None:
        """
        Take note that an episode begins.

        :param index: Index of its environment.
        """
        self.episodes[index] += 1
        self.running[index].clear()

    def observation(self, index: int) -> Any:
        """
        Tell what the agent sees.

        :param index: Index of the environment.
        :return: One observation.
        """
        return self._select(self.seen, index)

    def possible_actions(self, index: int) -> npt.NDArray[np.bool_] | None:
        """
        Tell which actions the environment can take where it is: ``info["action_mask"]``, or what
        its method ``action_masks`` says.

        :param index: Index of the environment.
        :return: One truth value per action; None if nothing is known.
        """
        mask = self.infos[index].get("action_mask")
        if mask is None and index < len(self._environments):
            env = self._environments[index]
            if env.has_wrapper_attr("action_masks"):
                mask = env.get_wrapper_attr("action_masks")()
        mask = None if mask is None else np.asarray(mask, bool).reshape(-1)
        return mask if mask is not None and mask.any() else None

    def pictures(self, indices: Sequence[int]) -> list[Any]:
        """
        Draw some environments.

        :param indices: Their indices.
        :return: A uint8 array of shape (height, width, 3) of each.
        """
        self.switch.on()
        frames = [picture_of(self._render(index)) for index in indices]
        self.switch.off()
        return frames


class RenderSwitch:
    """
    Some environments work for their pictures at every step once they have a render mode:
    LunarLander moves the particles of its exhaust, which makes it eight times slower. While nobody
    looks, or most steps are not shown, they are told that they have none.

    :param envs: Environments of this process.
    """

    def __init__(self, envs: Sequence[gym.Env[Any, Any]]):
        self._envs = [env.unwrapped for env in envs if env.unwrapped.render_mode == RENDER_MODE]
        self._is_kept_on = False
        self.off()

    def on(self) -> None:
        """Have them draw, right before they are asked for a picture."""
        self._set(RENDER_MODE)

    def off(self) -> None:
        """Have them not draw any more, unless every step is shown."""
        if not self._is_kept_on:
            self._set(None)

    def keep_on(self, is_kept_on: bool) -> None:
        """Choose whether they draw at every step, so that nothing is missing from what is shown."""
        self._is_kept_on = is_kept_on
        self._set(RENDER_MODE if is_kept_on else None)

    def _set(self, mode: str | None) -> None:
        for env in self._envs:
            env.render_mode = mode


def another_environment(spec: Any) -> gym.Env[Any, Any]:
    """
    Make an environment of the same kind, for what must not touch the one in training.

    :param spec: How to make it, a :class:`gymnasium.envs.registration.EnvSpec` or None.
    :return: An environment that gives pictures.
    :raises ValueError: If it is not known how to make it.
    """
    if spec is None:
        raise ValueError("the environment was not made by gym.make, so no second one can be made.")
    return gym.make(spec, render_mode=RENDER_MODE)


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
