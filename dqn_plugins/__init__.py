"""Deep Q-learning from each transition once, for Stable-Baselines3 and Gymnasium."""

from importlib.metadata import version

from dqn_plugins.errors import DivergenceError, NonFiniteTransitionError
from dqn_plugins.naive_dqn import NOTEBOOK_HYPERPARAMETERS, NaiveDQN

__all__ = [
    "NOTEBOOK_HYPERPARAMETERS",
    "DivergenceError",
    "NaiveDQN",
    "NonFiniteTransitionError",
]
__version__ = version("dqn-plugins")
