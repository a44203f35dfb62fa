"""A training as its page shows and controls it. The training's own thread does everything here."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym

from dqn_plugins.wrappers.live.agent import Agent
from dqn_plugins.wrappers.live.controls import Controls
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.live_page import PageAddress
from dqn_plugins.wrappers.live.pace import LOOK_SECONDS, Pace
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.rewards.episode import RunningEpisode
from dqn_plugins.wrappers.video.recording import package_versions

__all__ = ["Training"]

FLUSH_SECONDS = 0.5
DEFAULT_FPS = 30


class Training(Controls):
    """Answers the page, and does what its controls say."""

    def __init__(
        self,
        scene: Scene,
        page: PageAddress,
        name: str | None,
        shown: dict[str, Any],
        *,
        fps: float | None,
        actions: gym.Space[Any],
        folder: str | os.PathLike[str],
        make_env: Callable[[], gym.Env[Any, Any]],
        speed: float,
    ):
        # SDL, with which many environments draw, would take SIGTERM from the training.
        os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
        pace = Pace(float(fps or DEFAULT_FPS), speed)
        self._name = name
        self._make_env = make_env
        self._began = self._flushed = time.perf_counter()
        self._episodes: list[list[Any]] = []
        self._looks = 0
        more = {"folder": os.fspath(folder), "versions": package_versions()}
        hello = {"name": name or shown["environment"], "n_envs": scene.n_envs, **shown, **more}
        super().__init__(scene, Link(page, hello), pace, actions, folder)
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
            while not (self.is_watched or self.link.is_lost):
                if time.perf_counter() >= deadline:
                    break
                self._attend(LOOK_SECONDS, self.scene, None)
        return self.is_watched

    def show(self, actions: Sequence[Any] | None = None, wants_frame: bool = True) -> None:
        """Show where the environments are, also if nobody asked."""
        self.showing.show(self.scene, self.agent, self._where(), actions, wants_frame)

    def before_step(self, actions: list[Any]) -> list[Any]:
        """Obey, show, wait; the environments are where the agent chose its actions."""
        self.obey()
        if self.random_left:
            actions = self.disturbed(actions)
        if self.link.is_asked:
            self.show(actions, self.link.wants_frame())
        if self.pace.is_slow:
            self.pace.hold_step(partial(self._attend, scene=self.scene, actions=actions))
        return actions

    def end_episode(self, index: int) -> str:
        """Put an episode that is over on the curve; tell what controls changed in it."""
        running = self.scene.running[index]
        interventions = self.take_interventions(index)
        if math.isfinite(running.episode_return):
            steps, seconds = self._where().values()
            episode_return = float(f"{running.episode_return:.7g}")
            self._episodes.append([steps, seconds, episode_return, running.length, interventions])
        now = time.perf_counter()
        if self.is_watched or now - self._flushed > FLUSH_SECONDS:
            self.flush()
            self._flushed = now
        return interventions

    def fail(self, error: BaseException) -> None:
        """Say on the page that the environment raised an exception."""
        self.flush()
        self.link.send({"raised": f"{type(error).__name__}: {error}", **self._where()})

    def close(self, words: str = "Training is over.", failed: bool = False) -> None:
        """Release what was changed, and say good-bye to the page."""
        self.agent.release()
        self.flush()
        self.link.close({"ended": words, "failed": failed, **self._where()})

    # What the page wants

    def _where(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began - self.pace.seconds_waited
        return {"steps": self.scene.steps, "seconds": round(seconds, 3)}

    def flush(self) -> None:
        """Send the episodes that are over."""
        if self._episodes:
            self.link.send({"episodes": self._episodes})
            self._episodes = []

    def obey(self) -> None:
        """Do what has been asked for by controls, without waiting."""
        if self.link.is_asked:
            self._obey(self.scene)

    def _obey(self, scene: Scene) -> None:
        while (command := self.link.next_command()) is not None:
            self.use(command["control"], command.get("value"))
            if command["control"] == "watched":
                self.flush()
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
            wants_frame = self.link.wants_frame()
            self.showing.show(scene, self.agent, self._where(), actions, wants_frame)

    def _look(self) -> None:
        """Play one greedy episode beside the training, in real time."""
        said = ""
        try:
            env = self._make_env()
            try:
                scene = Scene([env], [RunningEpisode()], lambda _: env.render())
                said = self._play_greedily(env, scene)
            finally:
                env.close()
        except Exception as error:
            # It happens in another environment, so training can go on.
            said = f"The greedy look failed: {type(error).__name__}: {error}"
        self.is_looking = False
        self.link.send({"notice": said})
        self.tell()

    def _play_greedily(self, env: gym.Env[Any, Any], scene: Scene) -> str:
        scene.seen, info = env.reset(seed=self._looks)
        self._looks += 1
        running, due, is_over = scene.running[0], time.perf_counter(), False
        running.begin()
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
