"""What a training shows of itself: a picture, the agent's values, and what came of its action."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from dqn_plugins.wrappers.live.agent import Agent, rounded
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.video.tiling import tile_frames

__all__ = ["Showing"]

LARGEST_GRID = 16

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Showing:
    """Tells the page where an agent is, and what it thinks there."""

    def __init__(self, scene: Scene, link: Link, actions: gym.Space[Any]):
        self.chosen: int | None = None
        self._scene = scene
        self._link = link
        self._actions = actions
        self._transition: tuple[Agent, int, str, float] | None = None
        self._picture: tuple[object, ...] | None = None
        self._rendering_failed = False

    def show(
        self,
        scene: Scene,
        agent: Agent,
        where: dict[str, Any],
        actions: Sequence[Any] | None,
        wants_frame: bool,
    ) -> None:
        """Tell the page where the agent is."""
        index = 0 if self.chosen is None or self.chosen >= scene.n_envs else self.chosen
        running = scene.running[index]
        state: dict[str, Any] = {
            **where,
            "episode": running.number,
            "length": running.length,
            "return": rounded(running.episode_return),
            "exploration_rate": agent.exploration_rate,
        }
        self._transition = None
        if actions is not None and isinstance(self._actions, gym.spaces.Discrete):
            state["action"] = int(actions[index]) - int(self._actions.start)
        possible = self._tried(agent, lambda: scene.possible_actions(index))
        if possible is not None:
            state["possible"] = possible.tolist()
        answer = self._tried(agent, lambda: agent.values(scene.observation(index)))
        if answer is not None:
            kind, values = answer
            state["kind"], state["values"] = kind, [rounded(value) for value in values.tolist()]
            if possible is not None and possible.shape == values.shape:
                values = np.where(possible, values, -np.inf)
            state["greedy"] = None if np.isnan(values).any() else int(values.argmax())
            if scene is self._scene and "action" in state:
                self._transition = agent, index, kind, float(values[state["action"]])
        message: dict[str, Any] = {"state": state}
        if wants_frame:
            message["frame"] = self._frame(scene)
        self._link.send(message)

    def show_td_error(self, next_observation: Callable[[int], Any]) -> None:
        """Show the TD error of the transition on the page, now that one knows what it led to."""
        if self._transition is None:
            return
        (agent, index, kind, value), self._transition = self._transition, None
        episode, error = self._scene.running[index], None
        if kind == "Q":
            seen, reward = next_observation(index), episode.last_reward
            error = self._tried(
                agent, lambda: agent.td_error(value, reward, seen, episode.terminated)
            )
        self._link.send({"td_error": rounded(error)})

    def _tried(self, agent: Agent, work: Callable[[], Result]) -> Result | None:
        """Ask the model; if it cannot answer, say so once, and never ask again."""
        if agent.has_failed:
            return None
        try:
            return work()
        except Exception as error:
            agent.has_failed = True
            log.warning("LiveView: the model cannot be asked for its values: %s", error)
            self._link.send(
                {
                    "notice": "The model cannot be asked for its values "
                    f"({type(error).__name__}: {error}). It may see other observations than this "
                    "wrapper: make LiveView the outermost one."
                }
            )
            return None

    def _frame(self, scene: Scene) -> tuple[int, int] | None:
        """Put the newest picture where the page takes it; None if it has that one already."""
        now = (scene, scene.running[0].length, scene.steps, self.chosen)
        if now == self._picture or self._rendering_failed:
            return None
        indices: Sequence[int] = range(min(scene.n_envs, LARGEST_GRID))
        if self.chosen is not None and self.chosen < scene.n_envs:
            indices = [self.chosen]
        try:
            frames = scene.pictures(indices)
        except Exception as error:
            # Whatever is wrong with the picture, the training is not.
            self._rendering_failed = True
            log.warning("LiveView: the environment cannot be rendered: %s", error)
            self._link.send({"blind": f"The environment cannot be rendered: {error}"})
            return None
        self._picture = now
        return self._link.put_frame(tile_frames(frames, gap=2))
