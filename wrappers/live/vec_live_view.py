"""A live page of a Stable-Baselines3 ``VecEnv`` in training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from dqn_plugins.wrappers.environment_id import (
    environment_id,
    environment_metadata,
    rendered,
    sub_environments,
)
from dqn_plugins.wrappers.live.camera import Camera
from dqn_plugins.wrappers.live.live_page import FIRST_PORT, LivePage, PageAddress
from dqn_plugins.wrappers.live.live_view import (
    NO_PICTURES,
    PageProperties,
    another_environment,
)
from dqn_plugins.wrappers.live.render_switch import RenderSwitch
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.live.training import DEFAULT_FPS, Training
from dqn_plugins.wrappers.rewards.episode import INTERVENTIONS, RunningEpisode
from dqn_plugins.wrappers.video.vec_record_video import observation_of

__all__ = ["VecLiveView"]


class VecLiveView(PageProperties, VecEnvWrapper):
    """
    Show a training on several environments on a web page of this machine while it goes on: the
    twin of :class:`dqn_plugins.wrappers.LiveView`, with the same page and the same controls. The
    page shows all environments in a grid, at most 16 of them, or the one that is chosen there. Its
    button for a video films the next episode of that one, since one that is over cannot be played
    again.

    Put it outermost: a model sees the observations that this wrapper gives, and is asked for its
    values of these.

    :param venv: The vectorised environment, with ``render_mode="rgb_array"``.
    :param model: See :class:`dqn_plugins.wrappers.LiveView`.
    :param action_names: Names of the actions; numbers by default.
    :param name: Name of the training on the page; by default the algorithm's.
    :param host: See :class:`dqn_plugins.wrappers.LivePage`.
    :param port: See :class:`dqn_plugins.wrappers.LivePage`.
    :param open_browser: Whether to open the page in a browser.
    :param folder: Where the page's button saves models; made when it is used.
    :param speed: Pace at the beginning, and when the last browser has left: 1 for real time, 10 for
        ten times that, 0 for full speed.
    :param page: A page to appear on beside others, or its address; None makes a new page.
    :raises ValueError: If the render mode gives no pictures, or ``port`` is no port.
    :raises DependencyNotInstalled: If the extra ``live`` is not installed.
    :raises OSError: If the page cannot be served or reached.

    Example::

        from dqn_plugins.wrappers import VecLiveView
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env

        venv = make_vec_env("CartPole-v1", 2, env_kwargs={"render_mode": "rgb_array"})
        venv = VecLiveView(venv)
        model = PPO("MlpPolicy", venv, n_steps=64)
        venv.attach(model)
        model.learn(256)
        venv.close()
    """

    def __init__(
        self,
        venv: VecEnv,
        model: Any = None,
        *,
        action_names: Sequence[str] | None = None,
        name: str | None = None,
        host: str | None = None,
        port: int = FIRST_PORT,
        open_browser: bool = False,
        folder: str | os.PathLike[str] = "live",
        speed: float = 0.0,
        page: LivePage | PageAddress | None = None,
    ):
        VecEnvWrapper.__init__(self, venv)
        if venv.render_mode != "rgb_array":
            raise ValueError(NO_PICTURES.format(mode=venv.render_mode))
        self._owns_page = page is None
        self._page = LivePage(host, port, open_browser=open_browser) if page is None else page
        metadata = environment_metadata(venv)
        name_of_environment = environment_id(venv)
        spec = None if name_of_environment is None else gym.registry.get(name_of_environment)
        self._scene = _Environments(venv)
        self._running = self._scene.running
        fps = float(metadata.get("render_fps") or DEFAULT_FPS)
        self._camera = Camera(venv, self._scene.switch, fps)
        self._training = Training(
            self._scene,
            self._page if isinstance(self._page, PageAddress) else self._page.address,
            name=name,
            environment=name_of_environment or "Environment",
            threshold=None if spec is None else spec.reward_threshold,
            fps=fps,
            actions=venv.action_space,
            action_names=action_names,
            folder=folder,
            make_env=partial(another_environment, _spec_of(venv, spec)),
            film=self._camera.film,
            speed=speed,
        )
        if model is not None:
            self.attach(model)

    def reset(self) -> VecEnvObs:
        """
        Reset all sub-environments.

        :return: The first observations.
        """
        observations = self.venv.reset()
        self._scene.seen = observations
        for index, running in enumerate(self._running):
            running.clear()
            self._scene.episodes[index] += 1
        return observations

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """
        Begin a step; before it, show where the agent is, and do what the controls say.

        :param actions: Passed on, unless the page says to disturb an algorithm that does not
            explore by itself.
        """
        training = self._training
        if training.needs_attention:
            actions = np.asarray(training.before_step(list(actions)))
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait for the step.

        :return: Observations, rewards, dones and infos. The page's reset truncates an episode; the
            info of an episode's last step has the entry ``"interventions"``.
        """
        training, scene = self._training, self._scene
        try:
            observations, rewards, dones, infos = self.venv.step_wait()
        except Exception as error:
            training.fail(error)
            raise
        training.steps += self.num_envs
        for running, reward in zip(self._running, np.asarray(rewards).tolist(), strict=True):
            running.add(reward)
        if training.is_watched:
            index = training.shown_environment
            done, info = bool(dones[index]), infos[index]
            training.after_step(
                float(rewards[index]),
                info.get("terminal_observation") if done else observation_of(observations, index),
                done and not info.get("TimeLimit.truncated", False),
                index,
            )
            for index in sorted(training.resets_now):
                if not dones[index]:
                    self._cut(index, observations, dones, infos[index])
            training.resets_now.clear()
        if self._camera.is_on:
            self._film_step(dones, infos)
        for index in np.flatnonzero(dones).tolist():
            running = self._running[index]
            infos[index][INTERVENTIONS] = training.end_episode(
                index, running.episode_return, running.length
            )
            running.clear()
            scene.episodes[index] += 1
        scene.seen = observations
        return observations, rewards, dones, infos

    def _film_step(self, dones: Any, infos: Any) -> None:
        try:
            if self._camera.look(dones, infos):
                self._training.filmed(self._camera.path)
        except Exception as error:
            # A full disk costs the video, not the training.
            self._camera.stop()
            self._training.film_failed(error)

    def _cut(self, index: int, observations: Any, dones: Any, info: dict[str, Any]) -> None:
        """Do what a sub-environment does at a time limit: its last observation is not terminal."""
        last = observation_of(observations, index)
        first, _ = self.venv.env_method("reset", indices=[index])[0]
        info["terminal_observation"] = _copied(last)
        info["TimeLimit.truncated"] = True
        dones[index] = True
        if isinstance(observations, dict):
            for key, values in observations.items():
                values[index] = first[key]
        elif isinstance(observations, tuple):
            for position, values in enumerate(observations):
                values[index] = first[position]
        else:
            observations[index] = first

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """
        Draw all environments.

        :return: A picture of each.
        """
        self._scene.switch.on()
        return self.venv.get_images()

    def close(self) -> None:
        """
        Take leave of the page, which keeps the curve as long as somebody looks, and close the
        sub-environments.
        """
        try:
            self._camera.stop()
            self._training.close()
            if self._owns_page:
                self._page.close()  # type: ignore[union-attr]
        finally:
            self.venv.close()


class _Environments(Scene):
    """
    What the page shows of several environments.

    :param venv: The environments.
    """

    def __init__(self, venv: VecEnv):
        self.venv = venv
        self.n_envs = venv.num_envs
        self.switch = RenderSwitch(sub_environments(venv))
        self.seen: Any = None
        self.episodes = [-1] * venv.num_envs
        self.running = [RunningEpisode(None) for _ in range(venv.num_envs)]

    @property
    def has_begun(self) -> bool:
        return self.seen is not None

    def render(self, index: int) -> Any:
        return rendered(self.venv, index)

    def observation(self, index: int) -> Any:
        return observation_of(self.seen, index)

    def progress(self, index: int) -> tuple[int, int, float]:
        running = self.running[index]
        return self.episodes[index], running.length, running.episode_return


def _spec_of(venv: VecEnv, registered: EnvSpec | None) -> EnvSpec | None:
    """Find out how an environment was made; of one in another process, only its id is known."""
    envs = sub_environments(venv)
    return envs[0].spec if envs else registered


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(np.array(value) for value in observation)
    return np.array(observation)
