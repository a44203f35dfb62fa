"""Environments as streams of transitions, and their failures by name."""

from dqn_plugins.environments.action_masks import ActionMasks
from dqn_plugins.environments.failure import environment_failure, raise_if_dead, was_raised_in
from dqn_plugins.environments.making import (
    RenderOnDemand,
    Vectorization,
    make_env,
    make_vec_env,
    register_plugin,
    wrap_env,
)
from dqn_plugins.environments.single_env import ConstantMemoryMonitor, SingleVecEnv
from dqn_plugins.environments.stream import (
    TransitionStream,
    raise_if_malformed,
    resets_of,
    true_next_observation,
)

__all__ = [
    "ActionMasks",
    "ConstantMemoryMonitor",
    "RenderOnDemand",
    "SingleVecEnv",
    "TransitionStream",
    "Vectorization",
    "environment_failure",
    "make_env",
    "make_vec_env",
    "raise_if_dead",
    "raise_if_malformed",
    "register_plugin",
    "resets_of",
    "true_next_observation",
    "was_raised_in",
    "wrap_env",
]
