"""Environments of a study: made without rendering, and looked at before anything is trained."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from dqn_plugins.experiments.names import nearest_names

__all__ = ["check_environment", "make_environment", "policy_for"]


def make_environment(env_id: str, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """
    Make an environment.

    :param env_id: Its id in Gymnasium; ``"module:Name-v0"`` imports the module first.
    :param render_mode: None unless frames are wanted: environments that render step many times
        slower.
    :return: The environment.
    :raises ValueError: If there is no such environment, or its actions are not discrete.
    """
    try:
        env = gym.make(env_id, render_mode=render_mode)
    except (gym.error.UnregisteredEnv, gym.error.DeprecatedEnv, ModuleNotFoundError) as error:
        name = env_id.rpartition(":")[2]
        raise ValueError(
            f"env: received {env_id!r}, which Gymnasium cannot make ({error})."
            f"{nearest_names(name, gym.registry)} For an environment of your own, pass "
            "'its_module:ItsName-v0'."
        ) from error
    if not isinstance(env.action_space, spaces.Discrete):
        kind = "continuous" if isinstance(env.action_space, spaces.Box) else "not Discrete"
        space = env.action_space
        env.close()
        raise ValueError(
            f"env: received {env_id!r}, whose actions are {kind}: {space}. The algorithms here "
            "choose among discrete actions: take an environment with a Discrete action space, such "
            "as 'LunarLander-v3', or register a wrapper of this one that offers a few fixed "
            "actions."
        )
    return env


def check_environment(env_id: str) -> None:
    """
    Check that an environment can be made and has discrete actions.

    :param env_id: Its id in Gymnasium.
    :raises ValueError: If it cannot, with the nearest names, or has others, with the fix.
    """
    make_environment(env_id).close()


def policy_for(observation_space: spaces.Space[Any]) -> str:
    """
    Choose Stable-Baselines3's policy for what is observed.

    :param observation_space: Observation space.
    :return: "MlpPolicy", "CnnPolicy" for images or "MultiInputPolicy" for dictionaries.
    """
    from stable_baselines3.common.preprocessing import is_image_space

    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"
