"""A training as its page shows and controls it. The training's own thread does everything here."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from dqn_plugins.wrappers.live.agent import Agent
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.pace import LOOK_SECONDS, Pace
from dqn_plugins.wrappers.live.scene import Scene, another_environment, reason_against_another
from dqn_plugins.wrappers.live.showing import Showing
from dqn_plugins.wrappers.rewards.episode import RunningEpisode

__all__ = ["Training"]

FLUSH_SECONDS = 0.5
RANDOM_ACTIONS = 8
PLAYS_ONLY = "This is a saved model, which plays and does not learn."


class Training:
    """
    Answers the page, and does what its controls say: each of
    :data:`dqn_plugins.wrappers.live.protocol.CONTROLS` has a method of its name. Those that change
    what is learned are booked.
    """

    def __init__(
        self,
        scene: Scene,
        link: Link,
        pace: Pace,
        actions: gym.Space[Any],
        folder: str | os.PathLike[str],
        name: str | None,
        spec: Any,
    ):
        self.scene, self.link, self.pace = scene, link, pace
        self.showing = Showing(scene, link, actions)
        self.agent = Agent()
        self.only_plays = self.is_watched = self.is_looking = False
        #: Whether steps are to be looked at one by one.
        self.is_held = False
        self.resets_now: set[int] = set()
        self.random_left = 0
        self._actions, self._folder, self._name, self._spec = actions, folder, name, spec
        self._no_second = reason_against_another(spec)
        self._rng = np.random.default_rng()
        self._rate: float | None = None
        self._is_learning = True
        self._happened: list[set[str]] = [set() for _ in range(scene.n_envs)]
        self._episodes: list[list[Any]] = []
        self._flushed = time.perf_counter()
        self._looks = 0
        self.attach(None)

    # What the wrappers call

    def attach(self, model: Any, only_plays: bool = False) -> None:
        """Show what a model thinks, and control it; the one before gets its own settings back."""
        self.only_plays = only_plays
        if model is not self.agent.model:
            self.agent.release()
            self.agent = Agent(model)
            self._rate, self._is_learning, self.random_left = None, True, 0
        settings = self.agent.settings()
        name = self._name or settings.get("algorithm")
        self.link.send(
            {
                "settings": settings,
                "reasons": self.reasons(),
                "plays": only_plays,
                **({"name": name} if name else {}),
            }
        )
        self.tell()
        # Only a model of this package compiles, and it has brought this module along.
        learning = sys.modules.get("dqn_plugins.learning")
        if learning is not None:
            learning.compilation_observers.add(self)

    def on_compilation(self, is_compiling: bool) -> None:
        """Say on the page why there are no steps."""
        self.link.send({"compiling": is_compiling})

    def wait_until_watched(self, seconds: float) -> bool:
        """Wait for a browser, and tell whether there is one."""
        deadline = time.perf_counter() + seconds
        with self.pace.waiting():
            while not (self.is_watched or self.link.is_lost) and time.perf_counter() < deadline:
                self._attend(LOOK_SECONDS, self.scene, None)
        return self.is_watched

    def show(
        self,
        actions: Sequence[Any] | None = None,
        wants_frame: bool = True,
        scene: Scene | None = None,
    ) -> None:
        """Show where the environments are, also if nobody asked."""
        self.showing.show(scene or self.scene, self.agent, self._where(), actions, wants_frame)

    def before_step(self, actions: list[Any]) -> list[Any]:
        """Obey, show, wait; the environments are where the agent chose its actions."""
        self.obey()
        if self.random_left:
            actions = self._disturbed(actions)
        if self.link.is_asked:
            self.show(actions, self.link.wants_frame())
        if self.pace.is_slow:
            self.pace.hold_step(partial(self._attend, scene=self.scene, actions=actions))
        return actions

    def end_episode(self, index: int) -> str:
        """Put an episode that is over on the curve; tell in a few words what was changed in it."""
        running = self.scene.running[index]
        interventions = "; ".join(sorted(self._happened[index]))
        in_force = self._happened[index] = set()
        if self._rate is not None:
            in_force.add(f"exploration rate held at {self._rate:g}")
        if not self._is_learning:
            in_force.add("learning off")
        if math.isfinite(running.episode_return):
            steps, seconds = self._where().values()
            episode_return = float(f"{running.episode_return:.7g}")
            self._episodes.append([steps, seconds, episode_return, running.length, interventions])
        now = time.perf_counter()
        if self.is_watched or now - self._flushed > FLUSH_SECONDS:
            self._flush()
            self._flushed = now
        return interventions

    def fail(self, error: BaseException) -> None:
        """Say on the page that the environment raised an exception."""
        self._flush()
        self.link.send({"raised": f"{type(error).__name__}: {error}"})

    def close(self, words: str, failed: bool) -> None:
        """Release what was changed, and say good-bye to the page."""
        self.agent.release()
        self._flush()
        self.link.close({"ended": words, "failed": failed})

    def obey(self) -> None:
        """Do what has been asked for by controls, without waiting."""
        if self.link.is_asked:
            self._obey(self.scene)

    # What the page wants

    def _where(self) -> dict[str, Any]:
        return {"steps": self.scene.steps, "seconds": round(self.pace.seconds, 3)}

    def _flush(self) -> None:
        """Send the episodes that are over."""
        if self._episodes:
            self.link.send({"episodes": self._episodes})
            self._episodes = []

    def reasons(self) -> dict[str, str]:
        """Tell which controls cannot work, each with the reason why."""
        reasons = self.agent.reasons()
        if self._no_second is not None:
            reasons.setdefault("look", self._no_second)
        if self.only_plays:
            reasons |= {"learning": PLAYS_ONLY, "exploration": PLAYS_ONLY}
            reasons |= {"look": "It plays greedily.", "save": "It is saved already."}
        return reasons

    def tell(self) -> None:
        """Tell the page how the controls stand."""
        self.is_held = self.pace.is_slow or self.random_left > 0
        self.scene.draw_every_step(self.pace.is_slow)
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

    def _obey(self, scene: Scene) -> None:
        for command in self.link.commands():
            name = command["control"]
            if name not in self.reasons():
                getattr(self, name)(command["value"])
            self.tell()
        if self.is_looking and scene is self.scene:
            with self.pace.waiting():
                self._look()

    def _attend(self, seconds: float, scene: Scene, actions: Sequence[Any] | None) -> None:
        """Wait a little, and do what the page asks for meanwhile."""
        self.link.wait(seconds)
        if self.link.is_lost:
            self.watched(False)
            self.pace.set_speed(0.0)
            self.tell()
        self._obey(scene)
        if scene.has_begun and self.link.is_asked:
            self.show(actions, self.link.wants_frame(), scene)

    # The controls, each as the page names it

    def watched(self, is_watched: bool) -> None:
        """Take note that the first browser has come, or the last has left."""
        self.is_watched = is_watched
        self._flush()
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
            said = f"Saved {self.agent.save(self._folder, self.scene.steps)}"
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

    def _book(self, what: str) -> None:
        for happened in self._happened:
            happened.add(what)

    def _disturbed(self, actions: list[Any]) -> list[Any]:
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

    def _look(self) -> None:
        """Play one greedy episode beside the training, in real time."""
        self.link.send({"td_error": None})  # the training's; the look has none
        try:
            env = another_environment(self._spec)
            try:
                said = self._play_greedily(env)
            finally:
                env.close()
        except Exception as error:
            # It happens in another environment, so training can go on.
            said = f"The greedy look failed: {type(error).__name__}: {error}"
        self.is_looking = False
        self.link.send({"notice": said})
        self.tell()

    def _play_greedily(self, env: gym.Env[Any, Any]) -> str:
        running = RunningEpisode()
        scene = Scene([env], [running], lambda _: env.render())
        scene.seen, info = env.reset(seed=self._looks)
        self._looks += 1
        running.begin()
        due, is_over = time.perf_counter(), False
        while self.is_looking and not is_over:
            scene.infos = [info]
            action = self.agent.greedy_action(scene.seen)
            due = max(due + 1 / self.pace.fps, time.perf_counter())
            self.pace.wait_until(due, partial(self._attend, scene=scene, actions=[action]))
            scene.seen, reward, terminated, truncated, info = env.step(action)
            running.add(float(reward))
            is_over = terminated or truncated
        ending = "" if is_over else ", then stopped"
        return (
            f"Greedy look: return {running.episode_return:.1f} in {running.length} steps{ending}."
        )
