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

from dqn_plugins.wrappers.live.controls import Controls
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.live_page import PageAddress
from dqn_plugins.wrappers.live.pace import LOOK_SECONDS, Pace
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.live.showing import Showing
from dqn_plugins.wrappers.video.recording import package_versions

__all__ = ["Training"]

FLUSH_SECONDS = 0.5
DEFAULT_FPS = 30


class Training:
    """
    Answers the page, and does what its controls say.

    :param scene: What is trained on.
    :param page: Address of the page.
    :param name: Name of the training on the page; None for the model's.
    :param shown: What else the page shows of it, by name; ``environment`` is the environment's.
    :param fps: Frames per second of the environment; None for 30.
    :param actions: The action space.
    :param folder: Where models are saved.
    :param make_env: Makes another such environment for greedy looks, or raises an error.
    :param speed: Pace in multiples of real time until a control sets it; 0 for full speed.
    :raises ValueError: If ``speed`` is below 0.
    """

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
        self.scene = scene
        self.is_held = self.is_watched = False
        self.pace = Pace(float(fps or DEFAULT_FPS), speed)
        self._name = name
        self._make_env = make_env
        self._began = self._flushed = time.perf_counter()
        self._episodes: list[list[Any]] = []
        self._looks = 0
        more = {"folder": os.fspath(folder), "versions": package_versions()}
        hello = {"name": name or shown["environment"], "n_envs": scene.n_envs, **shown, **more}
        self.link = Link(page, hello)
        self.showing = Showing(scene, self.link, actions)
        self.controls = Controls(scene, self.link, self.pace, self.showing, actions, folder)
        self.attach(None)

    # What the wrappers call

    @property
    def needs_attention(self) -> bool:
        """Whether :meth:`before_step` is to be called."""
        return self.is_held or self.link.is_asked

    def attach(self, model: Any, only_plays: bool = False) -> None:
        """
        Show what a model thinks, and let the controls change it.

        :param model: See :class:`dqn_plugins.wrappers.live.agent.Agent`.
        :param only_plays: Whether it does not learn.
        """
        controls = self.controls
        controls.attach(model, only_plays)
        settings = controls.agent.settings()
        name = self._name or settings.get("algorithm")
        self.link.send(
            {
                "settings": settings,
                "reasons": controls.reasons(),
                "plays": only_plays,
                **({"name": name} if name else {}),
            }
        )
        self._tell_controls()
        # Only a model of this package compiles, and it has brought this module along.
        learning = sys.modules.get("dqn_plugins.learning")
        if learning is not None:
            learning.compilation_observers.add(self)

    def on_compilation(self, is_compiling: bool) -> None:
        """
        Say on the page why there are no steps.

        :param is_compiling: Whether compiling begins, or is over.
        """
        self.link.send({"compiling": is_compiling})

    def wait_until_watched(self, seconds: float) -> bool:
        """
        Wait for a browser.

        :param seconds: For how long at most.
        :return: Whether there is one.
        """
        deadline = time.perf_counter() + seconds
        with self.pace.waiting():
            while not (self.controls.is_watched or self.link.is_lost):
                if time.perf_counter() >= deadline:
                    break
                self._attend(LOOK_SECONDS, self.scene, None)
        return self.controls.is_watched

    def show(self, actions: Sequence[Any] | None = None, wants_frame: bool = True) -> None:
        """
        Show where the environments are, also if nobody asked.

        :param actions: What the agent is about to do; None if nothing is known.
        :param wants_frame: Whether to show a picture, too.
        """
        self.showing.show(self.scene, self.controls.agent, self._where(), actions, wants_frame)

    def before_step(self, actions: list[Any]) -> list[Any]:
        """
        Obey, show, wait; the environments are where the agent chose its actions.

        :param actions: The actions it chose, one per environment.
        :return: The actions to take.
        """
        self.obey()
        if self.controls.random_left:
            actions = self.controls.disturbed(actions)
            self._note_hold()
        if self.link.is_asked:
            self.show(actions, self.link.wants_frame())
        if self.pace.is_slow:
            self.pace.hold_step(partial(self._attend, scene=self.scene, actions=actions))
        return actions

    def after_step(
        self, index: int, reward: float, next_observation: Any, terminated: bool
    ) -> bool:
        """
        Show what came of the transition on the page, if it is this one.

        :param index: Index of the environment.
        :param reward: Its reward.
        :param next_observation: What it led to, before any reset.
        :param terminated: Whether that is terminal.
        :return: Whether the page cuts the episode here.
        """
        self.showing.show_outcome(index, reward, next_observation, terminated)
        resets = self.controls.resets_now
        if index in resets:
            resets.discard(index)
            return True
        return False

    def end_episode(self, index: int) -> str:
        """
        Put an episode that is over on the curve.

        :param index: Index of the environment.
        :return: What controls changed in it, in a few words; "" for nothing.
        """
        running = self.scene.running[index]
        running.over = True
        interventions = self.controls.take_interventions(index)
        if math.isfinite(running.episode_return):
            steps, seconds = self._where().values()
            episode_return = float(f"{running.episode_return:.7g}")
            self._episodes.append([steps, seconds, episode_return, running.length, interventions])
        now = time.perf_counter()
        if self.controls.is_watched or now - self._flushed > FLUSH_SECONDS:
            self.flush()
            self._flushed = now
        return interventions

    def fail(self, error: BaseException) -> None:
        """
        Say on the page that the environment raised an exception.

        :param error: The exception.
        """
        self.flush()
        self.link.send({"raised": f"{type(error).__name__}: {error}", **self._where()})

    def close(self, words: str = "Training is over.", failed: bool = False) -> None:
        """
        Release what was changed, and say good-bye to the page.

        :param words: What to say.
        :param failed: Whether an error ended the training.
        """
        self.controls.agent.release()
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

    def _note_hold(self) -> None:
        # Looked at in every step, so they are plain attributes.
        self.is_watched = self.controls.is_watched
        self.is_held = self.pace.is_slow or self.controls.random_left > 0

    def _tell_controls(self) -> None:
        self._note_hold()
        self.controls.tell()

    def obey(self) -> None:
        """Do what has been asked for by controls, without waiting."""
        if self.link.is_asked:
            self._obey(self.scene)

    def _obey(self, scene: Scene) -> None:
        while (command := self.link.next_command()) is not None:
            self.controls.obey(command["control"], command.get("value"))
            self._note_hold()
            if command["control"] == "watched":
                self.flush()
        if self.controls.is_looking and scene is self.scene:
            with self.pace.waiting():
                self._look()

    def _attend(self, seconds: float, scene: Scene, actions: Sequence[Any] | None) -> None:
        """Wait a little, and do what the page asks for meanwhile."""
        self.link.wait(seconds)
        if self.link.is_lost:
            self.controls.watched(False)
            self.pace.set_speed(0.0)
            self._tell_controls()
        self._obey(scene)
        if scene.has_begun and self.link.is_asked:
            wants_frame = self.link.wants_frame()
            self.showing.show(scene, self.controls.agent, self._where(), actions, wants_frame)

    def _look(self) -> None:
        """Play one greedy episode beside the training, in real time."""
        said = ""
        try:
            env = self._make_env()
            try:
                said = self._play_greedily(env, Scene.of(env))
            finally:
                env.close()
        except Exception as error:
            # It happens in another environment, so training can go on.
            said = f"The greedy look failed: {type(error).__name__}: {error}"
        self.controls.is_looking = False
        self.link.send({"notice": said})
        self._tell_controls()

    def _play_greedily(self, env: gym.Env[Any, Any], scene: Scene) -> str:
        scene.seen, info = env.reset(seed=self._looks)
        scene.infos = [info]
        scene.begin(0)
        self._looks += 1
        running, due, is_over = scene.running[0], time.perf_counter(), False
        while self.controls.is_looking and not is_over:
            action = self.controls.agent.greedy_action(scene.seen)
            due = max(due + 1 / self.pace.fps, time.perf_counter())
            self.pace.wait_until(due, partial(self._attend, scene=scene, actions=[action]))
            scene.seen, reward, terminated, truncated, info = env.step(action)
            scene.infos = [info]
            running.add(float(reward))
            is_over = terminated or truncated
        ending = "" if is_over else ", then stopped"
        return (
            f"Greedy look: return {running.episode_return:.1f} in {running.length} steps{ending}."
        )
