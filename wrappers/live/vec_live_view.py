"""A live page of a Stable-Baselines3 ``VecEnv`` in training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from dqn_plugins.wrappers.drawing.action_names import action_names_of, known_action_names
from dqn_plugins.wrappers.environment_id import (
    environment_metadata,
    id_of,
    rendered,
    sub_environments,
)
from dqn_plugins.wrappers.live.live_page import FIRST_PORT, LivePage, PageAddress
from dqn_plugins.wrappers.live.live_view import NO_PICTURES, View
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.rewards.episode import INTERVENTIONS
from dqn_plugins.wrappers.video.vec_record_video import observation_of

__all__ = ["VecLiveView"]


class VecLiveView(View, VecEnvWrapper):
    """
    Show a training on several environments on a web page of this machine while it goes on: the
    twin of :class:`dqn_plugins.wrappers.LiveView`, with the same page and the same controls. The
    page shows all environments in a grid, at most 16 of them, or the one that is chosen there.

    Put it outermost: a model sees the observations that this wrapper gives, and is asked for its
    values of these.

    :param venv: The vectorised environment, with ``render_mode="rgb_array"``.
    :param model: See :class:`dqn_plugins.wrappers.LiveView`.
    :param action_names: See :class:`dqn_plugins.wrappers.LiveView`.
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
        envs = sub_environments(venv)
        env_id = id_of(venv)
        if action_names is None:
            action_names = action_names_of(envs[0]) if envs else known_action_names(env_id)
        self._appear(
            Scene(envs, venv.num_envs, partial(rendered, venv), observation_of),
            page,
            partial(LivePage, host, port, open_browser=open_browser),
            model,
            name,
            env_id or "Environment",
            # Of an environment in another process only its id is known.
            envs[0].spec if envs else gym.registry.get(env_id or ""),
            action_names,
            fps=environment_metadata(venv).get("render_fps"),
            actions=venv.action_space,
            folder=folder,
            speed=speed,
        )

    def reset(self) -> VecEnvObs:
        """
        Reset all sub-environments.

        :return: The first observations.
        """
        observations = self.venv.reset()
        self._scene.seen = observations
        self._scene.infos = self.venv.reset_infos
        for index in range(self.num_envs):
            self._scene.begin(index)
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
        scene.steps += self.num_envs
        numbers = np.asarray(rewards).tolist()
        for running, reward in zip(scene.running, numbers, strict=True):
            running.add(reward)
        if training.is_watched:
            controls = training.controls
            for index in sorted({training.showing.chosen or 0, *controls.resets_now}):
                info, done = infos[index], bool(dones[index])
                last = info.get("terminal_observation") if done else None
                if last is None:
                    last = observation_of(observations, index)
                is_terminal = done and not info.get("TimeLimit.truncated", False)
                is_cut = training.after_step(index, numbers[index], last, is_terminal)
                if is_cut and not done:
                    self._cut(index, observations, dones, info)
        for index in np.flatnonzero(dones).tolist():
            infos[index][INTERVENTIONS] = training.end_episode(index)
            scene.begin(index)
        scene.seen, scene.infos = observations, infos
        return observations, rewards, dones, infos

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
            self.leave_page()
        finally:
            self.venv.close()


def _copied(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.array(value) for key, value in observation.items()}
    if isinstance(observation, tuple):
        return tuple(np.array(value) for value in observation)
    return np.array(observation)
