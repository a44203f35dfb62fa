"""What the controls of the page do; those that change what is learned are booked."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np

from dqn_plugins.wrappers.live.agent import Agent
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.pace import Pace
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.live.showing import Showing

__all__ = ["Controls"]

RANDOM_ACTIONS = 8
PLAYS_ONLY = "This is a saved model, which plays and does not learn."


class Controls:
    """
    The controls of one training, which is a subclass. Each of
    :data:`dqn_plugins.wrappers.live.protocol.CONTROLS` has a method of its name.
    """

    def __init__(
        self,
        scene: Scene,
        link: Link,
        pace: Pace,
        actions: gym.Space[Any],
        folder: str | os.PathLike[str],
    ):
        self.scene, self.link, self.pace = scene, link, pace
        self.showing = Showing(scene, link, actions)
        self.agent = Agent()
        self.only_plays = self.is_watched = self.is_looking = False
        #: Whether steps are to be looked at one by one.
        self.is_held = False
        self.resets_now: set[int] = set()
        self.random_left = 0
        self.folder = os.fspath(folder)
        self._actions = actions
        self._rng = np.random.default_rng()
        self._rate: float | None = None
        self._is_learning = True
        self._happened: list[set[str]] = [set() for _ in range(scene.n_envs)]

    def reasons(self) -> dict[str, str]:
        """Tell which controls cannot work, each with the reason why."""
        reasons = self.agent.reasons()
        if self.only_plays:
            reasons |= {"learning": PLAYS_ONLY, "exploration": PLAYS_ONLY}
            reasons |= {"look": "It plays greedily.", "save": "It is saved already."}
        return reasons

    def tell(self) -> None:
        """Tell the page how the controls stand."""
        self.is_held = self.pace.is_slow or self.random_left > 0
        self.scene.switch.keep_on(self.pace.is_slow)
        self.link.send(
            {
                "controls": {
                    "pause": self.pace.is_paused,
                    "speed": self.pace.speed,
                    "exploration": self._rate,
                    "learning": self._is_learning,
                    "disturb": self.random_left > 0,
                    "look": self.is_looking,
                    "environment": self.showing.chosen,
                }
            }
        )

    def use(self, name: str, value: Any) -> None:
        """Do what a control says, unless it cannot be done with this model."""
        if name not in self.reasons():
            getattr(self, name)(value)
        self.tell()

    def take_interventions(self, index: int) -> str:
        """Tell in a few words what was changed in an episode, and begin to note for the next."""
        words = "; ".join(sorted(self._happened[index]))
        in_force = self._happened[index] = set()
        if self._rate is not None:
            in_force.add(f"exploration rate held at {self._rate:g}")
        if not self._is_learning:
            in_force.add("learning off")
        return words

    def _book(self, what: str) -> None:
        for happened in self._happened:
            happened.add(what)

    # Each as the page names it

    def watched(self, is_watched: bool) -> None:
        """Take note that the first browser has come, or the last has left."""
        self.is_watched = is_watched
        if not is_watched:
            self.pace.release()
            self.is_looking = False
            self.resets_now.clear()

    def pause(self, is_paused: bool) -> None:
        """Wait before the next step, or go on."""
        self.pace.is_paused, self.pace.steps_allowed = is_paused, 0

    def step(self, _: None) -> None:
        """Take one step, then wait."""
        self.pace.is_paused = True
        self.pace.steps_allowed += 1

    def speed(self, speed: float) -> None:
        """Go at a multiple of real time, or at full speed: 0."""
        self.pace.set_speed(speed)

    def environment(self, index: int | None) -> None:
        """Show one environment, or all."""
        if index is None or index < self.scene.n_envs:
            self.showing.chosen = index

    def exploration(self, rate: float | None) -> None:
        """Hold ε, or let it follow its schedule again."""
        self._rate = rate
        if not self.random_left:
            self.agent.hold_exploration(rate)
        self._book(
            "exploration rate released" if rate is None else f"exploration rate held at {rate:g}"
        )

    def learning(self, is_learning: bool) -> None:
        """Stop learning, or go on."""
        if is_learning != self._is_learning:
            self._is_learning = is_learning
            self.agent.learn(is_learning)
            self._book("learning on again" if is_learning else "learning off")

    def look(self, _: None) -> None:
        """Begin a greedy look, or end it."""
        self.is_looking = not self.is_looking

    def reset(self, _: None) -> None:
        """Cut the episode of the chosen environment, or of all."""
        chosen = self.showing.chosen
        self.resets_now = set(range(self.scene.n_envs)) if chosen is None else {chosen}
        self.pace.steps_allowed += self.pace.is_paused  # or else nothing would happen
        for each in self.resets_now:
            self._happened[each].add("reset")

    def save(self, _: None) -> None:
        """Save the model under a name that is free."""
        try:
            said = f"Saved {self.agent.save(self.folder, self.scene.steps)}"
        except Exception as error:
            # A full disk costs the file, not the training.
            said = f"The model could not be saved: {error}"
        self.link.send({"notice": said})

    def disturb(self, _: None) -> None:
        """Take random actions for a while."""
        if self.agent.can_explore:
            # The algorithm explores by itself, so it learns from the actions that were taken.
            self.agent.hold_exploration(1.0)
        self.random_left = RANDOM_ACTIONS + 1
        self._book(f"{RANDOM_ACTIONS} random actions")

    def disturbed(self, actions: list[Any]) -> list[Any]:
        """Replace the actions of an algorithm that does not explore by itself."""
        self.random_left -= 1
        if self.random_left:
            if self.agent.can_explore:
                return actions
            return [self._random_action(index) for index in range(len(actions))]
        if self.agent.can_explore:
            self.agent.hold_exploration(self._rate)
        self.tell()
        return actions

    def _random_action(self, index: int) -> Any:
        if not isinstance(self._actions, gym.spaces.Discrete):
            # It draws from the space's own generator, which nothing else uses.
            return self._actions.sample()
        possible = self.scene.possible_actions(index)
        choices: Any = self._actions.n
        if possible is not None and possible.size == choices:
            choices = np.flatnonzero(possible)
        return self._actions.start + self._rng.choice(choices)
