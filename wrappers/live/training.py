"""A training as the page shows and controls it. The training's own thread does everything here."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np

from dqn_plugins.wrappers.live.agent import Agent, finite
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.live_page import PageAddress
from dqn_plugins.wrappers.live.scene import GreedyLook, Scene, picture_of
from dqn_plugins.wrappers.video.recording import package_versions
from dqn_plugins.wrappers.video.tiling import tile_frames

__all__ = ["Training"]

RANDOM_ACTIONS = 8
FLUSH_SECONDS = 0.5
LOOK_SECONDS = 0.02
LARGEST_GRID = 16
DEFAULT_FPS = 30

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Training:
    """
    Answers the page, and does what its controls say.

    :param scene: What is trained on.
    :param page: Address of the page.
    :param name: Name of the training on the page; None for the model's.
    :param environment: Name of the environment.
    :param threshold: Return from which the environment counts as solved, None if none is known.
    :param fps: Frames per second of the environment; None for 30.
    :param actions: The action space.
    :param action_names: One name per action; None for numbers.
    :param folder: Where models are saved.
    :param make_env: Makes another such environment for greedy looks, or raises an error.
    :param speed: Pace in multiples of real time until a control sets it; 0 for full speed.
    :param film: Writes the last episode of an environment to a file and returns True, or raises an
        error. Or begins to film the next one and returns False, so that :meth:`filmed` is called in
        the end.
    """

    def __init__(
        self,
        scene: Scene,
        page: PageAddress,
        name: str | None,
        environment: str,
        threshold: float | None,
        fps: float | None,
        actions: gym.Space[Any],
        action_names: Sequence[str] | None,
        folder: str | os.PathLike[str],
        make_env: Callable[[], gym.Env[Any, Any]],
        film: Callable[[Path, int], bool],
        speed: float,
    ):
        if speed < 0:
            raise ValueError(
                f"speed: received {speed}, it must be 0 for full speed, or a multiple of real time."
            )
        # SDL, with which many environments draw, would take SIGTERM from the training.
        os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
        self.scene = scene
        self.agent = Agent()
        self.is_held = False
        self.resets_now: set[int] = set()
        self.is_watched = False
        self.steps = 0
        self._is_shown: tuple[int, str, float] | None = None
        self._actions = actions
        self._folder = os.fspath(folder)
        self._make_env = make_env
        self._film = film
        self._fps = float(fps or DEFAULT_FPS)
        self._rng = np.random.default_rng()
        self._name = name
        self._chosen: int | None = None
        self._is_paused = False
        self._steps_allowed = 0
        self._speed = self._usual_speed = speed
        self._next_step_at = 0.0
        self._rate: float | None = None
        self._is_learning = True
        self._only_plays = False
        self._random_left = 0
        self._look: GreedyLook | None = None
        self._is_stopping_look = False
        self._looks = 0
        self._rendering_failed: str | None = None
        self._values_failed: str | None = None
        self._last_frame_of: tuple[int, int, int, int | None] | None = None
        self._waited = 0.0
        self._began = self._flushed = time.perf_counter()
        self._episodes: list[list[Any]] = []
        self._happened: list[set[str]] = [set() for _ in range(scene.n_envs)]
        self.link = Link(
            page,
            {
                "name": name or environment,
                "environment": environment,
                "threshold": threshold,
                "n_envs": scene.n_envs,
                "fps": self._fps,
                "action_names": None if action_names is None else [str(n) for n in action_names],
                "n_actions": int(actions.n) if isinstance(actions, gym.spaces.Discrete) else None,
                "folder": self._folder,
                "versions": package_versions(),
            },
        )
        self._describe()

    # What the wrappers call

    @property
    def needs_attention(self) -> bool:
        """Whether :meth:`before_step` is to be called."""
        return self.is_held or self.link.is_asked

    @property
    def awaits_outcome(self) -> bool:
        """Whether :meth:`after_step` is to be called."""
        return self._is_shown is not None

    @property
    def shown_environment(self) -> int:
        """Index of the environment whose agent is on the page: the chosen one, or the first."""
        return self._chosen or 0

    def wait_until_watched(self, seconds: float) -> bool:
        """
        Wait for a browser.

        :param seconds: For how long at most.
        :return: Whether there is one.
        """
        began = time.perf_counter()
        deadline = began + seconds
        while not self.is_watched and not self.link.is_lost and time.perf_counter() < deadline:
            self.link.wait(LOOK_SECONDS)
            self._attend(None)
        self._waited += time.perf_counter() - began
        return self.is_watched

    def show(self) -> None:
        """Show where the environment is, also if nobody asked."""
        self._show(None)

    def attach(self, model: Any, only_plays: bool = False) -> None:
        """
        Show what a model thinks, and let the controls change it.

        :param model: See :class:`dqn_plugins.wrappers.live.agent.Agent`.
        :param only_plays: Whether it does not learn.
        """
        if model is not self.agent.model:
            self.agent.release()
            self.agent = Agent(model)
            self._rate, self._is_learning, self._random_left = None, True, 0
            self._values_failed = None
        self._only_plays = only_plays
        self._describe()
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

    def before_step(self, actions: list[Any]) -> list[Any]:
        """
        Obey, show, wait; the environments are where the agent chose its actions.

        :param actions: The actions it chose, one per environment.
        :return: The actions to take.
        """
        self.obey()
        if self._random_left:
            self._random_left -= 1
            if self._random_left == 0:
                self._disturb_no_more()
            elif not self.agent.can_explore:
                actions = [self._random_action() for _ in actions]
        self._answer(actions)
        if (self._is_paused or self._speed) and not self._is_alone():
            began = time.perf_counter()
            self._wait_while_paused(actions)
            if self._speed:
                self._keep_pace(actions)
            self._waited += time.perf_counter() - began
        return actions

    def after_step(
        self, reward: float, next_observation: Any, terminated: bool, index: int
    ) -> None:
        """
        Show what came of the transition on the page, if there is one.

        :param reward: Its reward.
        :param next_observation: What it led to, before any reset.
        :param terminated: Whether that is terminal.
        :param index: Index of the environment.
        """
        if self._is_shown is None or self._is_shown[0] != index:
            return
        _, kind, value = self._is_shown
        self._is_shown = None
        outcome: dict[str, Any] = {"reward": finite(np.array([reward]))[0]}
        if kind == "Q":
            error = self._tried(
                lambda: self.agent.td_error(value, reward, next_observation, terminated)
            )
            if error is not None and math.isfinite(error):
                outcome["td_error"] = float(f"{error:.6g}")
        self.link.send({"outcome": outcome})

    def fail(self, error: BaseException) -> None:
        """
        Say on the page that the environment raised an exception.

        :param error: The exception.
        """
        self.flush()
        self.link.send({"raised": f"{type(error).__name__}: {error}", **self._where()})

    def end_episode(self, index: int, episode_return: float, length: int) -> str:
        """
        Put an episode that is over on the curve.

        :param index: Index of the environment.
        :param episode_return: Sum of its rewards.
        :param length: Its steps.
        :return: What controls changed in it, in a few words; "" for nothing.
        """
        interventions = "; ".join(sorted(self._happened[index]))
        seconds = self._where()["seconds"]
        self._episodes.append(
            [self.steps, seconds, float(f"{episode_return:.7g}"), length, interventions]
        )
        self._happened[index] = self._in_force()
        now = time.perf_counter()
        if self.is_watched or now - self._flushed > FLUSH_SECONDS:
            self.flush()
            self._flushed = now
        return interventions

    def flush(self) -> None:
        """Send the episodes that are over."""
        episodes = [each for each in self._episodes if math.isfinite(each[2])]
        self._episodes.clear()
        self.link.send({"episodes": episodes})

    def close(self, failure: str | None = None) -> None:
        """
        Release what was changed, and say good-bye to the page.

        :param failure: What ended the training, None for its regular end.
        """
        self.agent.release()
        self.flush()
        self.link.close(
            {
                "ended": failure or "Training is over.",
                "failed": failure is not None,
                **self._where(),
            }
        )

    # Showing

    def _where(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "seconds": round(time.perf_counter() - self._began - self._waited, 3),
        }

    def _describe(self) -> None:
        """Tell the page what is trained, and what its controls can do."""
        settings = self.agent.settings()
        reasons = self.agent.reasons()
        if self._only_plays:
            words = "This model only plays."
            reasons |= {"learning": words, "exploration": words, "look": "It plays greedily."}
        name = self._name or settings.get("algorithm")
        self.link.send(
            {"settings": settings, "reasons": reasons, **({"name": name} if name else {})}
        )
        self._tell_controls()

    def _tell_controls(self) -> None:
        self.is_held = bool(self._is_paused or self._speed or self._random_left)
        self.scene.switch.keep_on(bool(self._is_paused or self._speed))
        self.link.send(
            {
                "controls": {
                    "paused": self._is_paused,
                    "speed": self._speed,
                    "exploration": self._rate,
                    "learning": self._is_learning,
                    "disturbing": bool(self._random_left),
                    "looking": self._look is not None,
                    "environment": self._chosen,
                }
            }
        )

    def _notice(self, text: str) -> None:
        self.link.send({"notice": text})

    def _tried(self, work: Callable[[], Result]) -> Result | None:
        """Ask the model; if it cannot answer, say so once, and never ask again."""
        if self._values_failed is not None:
            return None
        try:
            return work()
        except Exception as error:
            self._values_failed = f"{type(error).__name__}: {error}"
            log.warning("LiveView: the model cannot be asked for its values: %s", error)
            self._notice(
                f"The model cannot be asked for its values ({self._values_failed}). It may see "
                "other observations than this wrapper: make LiveView the outermost one."
            )
            return None

    def _answer(self, actions: Sequence[Any] | None) -> None:
        if self.link.is_asked:
            self._show(actions, self.link.wants_frame())

    def _show(self, actions: Sequence[Any] | None, wants_frame: bool = True) -> None:
        look = self._look
        scene = self.scene if look is None else look
        index = 0 if look is not None else self.shown_environment
        episode, length, episode_return = scene.progress(index)
        state: dict[str, Any] = {
            **self._where(),
            "episode": episode,
            "length": length,
            "return": finite(np.array([episode_return]))[0],
            "exploration_rate": self.agent.exploration_rate,
            "looking": look is not None,
        }
        self._is_shown = None
        answer = self._tried(lambda: self.agent.values(scene.observation(index)))
        if actions is not None and isinstance(self._actions, gym.spaces.Discrete):
            state["action"] = int(actions[index]) - int(self._actions.start)
        if answer is not None:
            kind, values = answer
            state["kind"], state["values"] = kind, finite(values)
            state["greedy"] = None if np.isnan(values).any() else int(values.argmax())
            if look is None and "action" in state:
                self._is_shown = index, kind, float(values[state["action"]])
        message: dict[str, Any] = {"state": state}
        if wants_frame:
            message["frame"] = self._frame(scene)
        self.link.send(message)

    def _frame(self, scene: Scene) -> tuple[int, int] | None:
        """Put the newest picture where the page takes it; None if it has that one already."""
        now = (id(scene), scene.progress(0)[1], self.steps, self._chosen)
        if now == self._last_frame_of or self._rendering_failed is not None:
            return None
        single = scene is not self.scene or self._chosen is not None
        indices = (
            [0 if scene is not self.scene else self._chosen or 0]
            if single
            else range(min(scene.n_envs, LARGEST_GRID))
        )
        try:
            scene.switch.on()
            frames = [picture_of(scene.render(index)) for index in indices]
            scene.switch.off()
        except Exception as error:
            # Whatever is wrong with the picture, the training is not.
            self._rendering_failed = f"{type(error).__name__}: {error}"
            log.warning("LiveView: the environment cannot be rendered: %s", error)
            self.link.send({"blind": f"The environment cannot be rendered: {error}"})
            return None
        self._last_frame_of = now
        return self.link.put_frame(tile_frames(frames, gap=2))

    # Obeying

    def obey(self) -> None:
        """Do what has been asked for by controls, without waiting."""
        if self.link.is_asked:
            self._obey()

    def _obey(self) -> None:
        while (command := self.link.next_command()) is not None:
            name, value = command["control"], command.get("value")
            getattr(self, f"_do_{name}")(value)
            self._tell_controls()

    def _in_force(self) -> set[str]:
        in_force = set()
        if self._rate is not None:
            in_force.add(f"exploration rate held at {self._rate:g}")
        if not self._is_learning:
            in_force.add("learning off")
        return in_force

    def _book(self, what: str) -> None:
        for happened in self._happened:
            happened.add(what)

    def _do_watched(self, is_watched: bool) -> None:
        self.is_watched = is_watched
        if not is_watched:
            # Nobody is left who could let it go on.
            self._is_paused, self._is_stopping_look = False, True
            self._speed = self._usual_speed
            self.resets_now.clear()
        else:
            self.flush()

    def _do_pause(self, is_paused: bool) -> None:
        self._is_paused, self._steps_allowed = is_paused, 0

    def _do_step(self, _: Any) -> None:
        self._is_paused = True
        self._steps_allowed += 1

    def _do_speed(self, speed: float) -> None:
        self._speed = speed
        self._next_step_at = 0.0

    def _do_environment(self, index: int | None) -> None:
        if index is None or index < self.scene.n_envs:
            self._chosen = index

    def _do_exploration(self, rate: float | None) -> None:
        if not self.agent.can_explore or self._only_plays:
            return
        self._rate = rate
        if rate is None:
            if not self._random_left:
                self.agent.release_exploration()
            self._book("exploration rate released")
        else:
            if not self._random_left:
                self.agent.hold_exploration(rate)
            self._book(f"exploration rate held at {rate:g}")

    def _do_learning(self, is_learning: bool) -> None:
        if "learning" in self.agent.reasons() or is_learning == self._is_learning:
            return
        self._is_learning = is_learning
        if is_learning:
            self.agent.go_on_learning()
            self._book("learning on again")
        else:
            self.agent.stop_learning()
            self._book("learning off")

    def _do_disturb(self, _: Any) -> None:
        if self.agent.can_explore:
            # The algorithm explores by itself, so it learns from the actions that were taken.
            self.agent.hold_exploration(1.0)
        self._random_left = RANDOM_ACTIONS + 1
        self._book(f"{RANDOM_ACTIONS} random actions")

    def _disturb_no_more(self) -> None:
        if self.agent.can_explore:
            if self._rate is None:
                self.agent.release_exploration()
            else:
                self.agent.hold_exploration(self._rate)
        self._tell_controls()

    def _random_action(self) -> Any:
        if isinstance(self._actions, gym.spaces.Discrete):
            return self._actions.start + self._rng.integers(self._actions.n)
        # It draws from the space's own generator, which nothing else uses.
        return self._actions.sample()

    def _do_reset(self, index: int | None) -> None:
        chosen = range(self.scene.n_envs) if self._chosen is None else [self._chosen]
        self.resets_now = set(chosen)
        self._steps_allowed += self._is_paused  # or else nothing would happen
        for each in self.resets_now:
            self._happened[each].add("reset")

    def _do_save(self, _: Any) -> None:
        if "save" in self.agent.reasons():
            return
        try:
            path = self.agent.save(self._folder, self.steps)
        except Exception as error:
            # A full disk costs the file, not the training.
            self._notice(f"The model could not be saved: {error}")
            return
        self._notice(f"Saved {path}")

    def _do_film(self, path: str) -> None:
        began = time.perf_counter()
        try:
            if self._film(Path(path), self.shown_environment):
                self.filmed(path)
        except Exception as error:
            # It happens in another environment, so training can go on.
            self.film_failed(error)
        self._waited += time.perf_counter() - began

    def filmed(self, path: str | os.PathLike[str]) -> None:
        """
        Give the page a video.

        :param path: The file, which the page takes away.
        """
        self.link.send({"film": os.fspath(path)})

    def film_failed(self, error: Exception) -> None:
        """
        Say on the page why there is no video.

        :param error: What went wrong.
        """
        self._notice(f"The episode cannot be filmed: {error}")
        self.link.send({"film": None})

    def _do_look(self, _: Any) -> None:
        if self._look is not None:
            self._is_stopping_look = True
            return
        if "look" in self.agent.reasons() or self._only_plays:
            return
        began = time.perf_counter()
        try:
            self._play_greedily()
        except Exception as error:
            # It happens in another environment, so training can go on.
            self._notice(f"The greedy look failed: {type(error).__name__}: {error}")
        finally:
            self._look = None
            self._waited += time.perf_counter() - began

    # Waiting

    def _wait_while_paused(self, actions: Sequence[Any]) -> None:
        while self._is_paused and not self._steps_allowed and not self._is_alone():
            self.link.wait(LOOK_SECONDS)
            self._attend(actions)
        self._steps_allowed = max(self._steps_allowed - 1, 0)

    def _keep_pace(self, actions: Sequence[Any]) -> None:
        self._wait_until(self._next_step_at, actions)
        if self._speed:
            now = time.perf_counter()
            # What was missed is not made up for, or else a long update would be followed by a rush.
            self._next_step_at = max(self._next_step_at, now) + 1 / (self._fps * self._speed)

    def _wait_until(self, moment: float, actions: Sequence[Any]) -> None:
        while (left := moment - time.perf_counter()) > 0 and not self._is_alone():
            self.link.wait(min(left, LOOK_SECONDS))
            self._attend(actions)

    def _attend(self, actions: Sequence[Any] | None) -> None:
        self._obey()
        if self.scene.has_begun:
            self._answer(actions)

    def _is_alone(self) -> bool:
        """Whether the page's process is gone, so that nobody could end a wait."""
        if self.link.is_lost:
            self._do_watched(False)
            self._tell_controls()
        return self.link.is_lost

    def _play_greedily(self) -> None:
        look = self._look = GreedyLook(self._make_env(), self._looks)
        self._looks += 1
        self._is_stopping_look = False
        self._tell_controls()
        due = time.perf_counter()
        with look:
            while not look.is_over and not self._is_stopping_look and not self.link.is_lost:
                actions = [self.agent.greedy_action(look.observation(0))]
                self._attend(actions)
                due = max(due + 1 / self._fps, time.perf_counter() - 1 / self._fps)
                self._wait_until(due, actions)
                look.step(actions[0])
        _, length, episode_return = look.progress(0)
        ending = "" if look.is_over else ", then stopped"
        self._notice(f"Greedy look: return {episode_return:.1f} in {length} steps{ending}.")
