"""What lets Stable-Baselines3 take another wrapper for its ``Monitor``."""

from typing import Any

import gymnasium as gym
from gymnasium.core import ActType, ObsType
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor

__all__ = ["InMonitorsPlace", "with_a_monitor"]


class InMonitorsPlace(Monitor[ObsType, ActType]):
    """
    Says to Stable-Baselines3, which looks for a ``Monitor`` before it relies on
    ``info["episode"]``, that the entry is there; otherwise it is as if it were not.
    """

    def __init__(self, env: gym.Env[ObsType, ActType]):
        gym.Wrapper.__init__(self, env)

    reset = gym.Wrapper.reset  # type: ignore[assignment]
    step = gym.Wrapper.step
    close = gym.Wrapper.close
    spec = property(lambda self: self.env.spec)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "env":
            raise AttributeError(name)
        return getattr(self.env, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name == "env":
            object.__setattr__(self, name, value)
        else:
            setattr(self.env, name, value)


def with_a_monitor(env: gym.Env[ObsType, ActType]) -> gym.Env[ObsType, ActType]:
    """Have Stable-Baselines3 find a ``Monitor``."""
    return env if is_wrapped(env, Monitor) else InMonitorsPlace(env)
