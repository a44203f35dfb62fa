"""Q-networks and Stable-Baselines3 policies over them, initialisers and optimisers."""

from dqn_plugins.policies.initializers import glorot_uniform
from dqn_plugins.policies.optimizers import KerasAdam
from dqn_plugins.policies.q_policy import (
    CnnPolicy,
    MlpPolicy,
    MultiInputPolicy,
    QNetwork,
    QPolicy,
    WeightInitializer,
)

__all__ = [
    "CnnPolicy",
    "KerasAdam",
    "MlpPolicy",
    "MultiInputPolicy",
    "QNetwork",
    "QPolicy",
    "WeightInitializer",
    "glorot_uniform",
]
