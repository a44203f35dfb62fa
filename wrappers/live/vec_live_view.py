"""A live page of a Stable-Baselines3 ``VecEnv`` in training."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from dqn_plugins.wrappers.environment_id import rendered, sub_environments
from dqn_plugins.wrappers.live.live_page import FIRST_PORT, LivePage, PageAddress
from dqn_plugins.wrappers.live.live_view import View
from dqn_plugins.wrappers.live.scene import Scene
from dqn_plugins.wrappers.observing.vec_env import ObservedVecEnv
from dqn_plugins.wrappers.rewards.episode import INTERVENTIONS
from dqn_plugins.wrappers.video.recorders import observation_of

__all__ = ["VecLiveView"]


class VecLiveView(View, ObservedVecEnv):
    """
    Show a training on several environments on a web page of this machine while it goes on: the
    twin of :class:`dqn_plugins.wrappers.LiveView`, with the same page and the same controls. The
    page shows all environments in a grid, at most 16 of them, or the one that is chosen there.

    Put it outermost: a model sees the observations that this wrapper gives, and is asked for its
    values of these.

    :param venv: The vectorised environment, with ``render_mode="rgb_array"``.
    :param model: See :class:`dqn_plugins.wrappers.LiveView`.
    :param action_names: See there.
    :param name: See there.
    :param host: See :class:`dqn_plugins.wrappers.LivePage`.
    :param port: See :class:`dqn_plugins.wrappers.LivePage`.
    :param open_browser: See :class:`dqn_plugins.wrappers.LiveView`.
    :param folder: See there.
    :param speed: See there.
    :param page: See there.
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
        super().__init__(
            venv, model, action_names=action_names, name=name, host=host, port=port,
            open_browser=open_browser, folder=folder, speed=speed, page=page,
        )  # fmt: skip

    def _scene_of(self, env: Any) -> Scene:
        envs = sub_environments(env)
        return Scene(envs, self._episodes, partial(rendered, env), observation_of)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """
        Begin a step; before it, show where the agent is, and do what the controls say.

        :param actions: Passed on, unless the page says to disturb an algorithm that does not
            explore by itself.
        """
        training = self._training
        if training.is_held or training.link.is_asked:
            actions = np.asarray(self._informed().before_step(list(actions)))
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """
        Wait for the step.

        :return: Observations, rewards, dones and infos. The page's reset truncates an episode; the
            info of an episode's last step has the entry ``"interventions"``.
        """
        observations, rewards, dones, infos = super().step_wait()
        for index in self._resets(dones):
            infos[index][INTERVENTIONS] = self._training.end_episode(index)
            self._cut(index, observations, infos[index])
            dones[index] = True
            self._begin([index], when="after step")
        return observations, rewards, dones, infos

    def _after_step(self, ended: Sequence[int], infos: Any) -> None:
        self._training.showing.show_td_error(partial(self._next_observation, infos))
        super()._after_step(ended, infos)

    def _next_observation(self, infos: Any, index: int) -> Any:
        last = infos[index].get("terminal_observation")
        if self._episodes[index].over and last is not None:
            return last
        return observation_of(self._observations, index)

    def _cut(self, index: int, observations: Any, info: dict[str, Any]) -> None:
        """Do what a sub-environment does at a time limit: its last observation is not terminal."""
        last = observation_of(observations, index)
        first, told = self.venv.env_method("reset", indices=[index])[0]
        self._infos = [told if i == index else other for i, other in enumerate(self._infos)]
        info["terminal_observation"] = copy.deepcopy(last)
        info["TimeLimit.truncated"] = True
        if isinstance(observations, dict | tuple):
            for key in observations if isinstance(observations, dict) else range(len(first)):
                observations[key][index] = first[key]
        else:
            observations[index] = first
