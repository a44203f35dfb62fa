"""Deep Q-learning from each transition once, for Stable-Baselines3 and Gymnasium."""

from importlib.metadata import version

from dqn_plugins.errors import (
    DivergenceError,
    EnvironmentStepError,
    MalformedTransitionError,
    NonFiniteTransitionError,
)
from dqn_plugins.naive_dqn import NOTEBOOK_HYPERPARAMETERS, NaiveDQN
from dqn_plugins.stream_q import STREAM_Q_PAPER_HYPERPARAMETERS, StreamQ

__all__ = [
    "NOTEBOOK_HYPERPARAMETERS",
    "STREAM_Q_PAPER_HYPERPARAMETERS",
    "DivergenceError",
    "EnvironmentStepError",
    "MalformedTransitionError",
    "NaiveDQN",
    "NonFiniteTransitionError",
    "StreamQ",
]
__version__ = version("dqn-plugins")
