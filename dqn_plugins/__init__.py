"""Deep Q-learning without a replay buffer, for Stable-Baselines3 and Gymnasium."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dqn_plugins.errors import (
    DivergenceError,
    EnvironmentStepError,
    MalformedTransitionError,
    NonFiniteTransitionError,
)

if TYPE_CHECKING:
    from dqn_plugins.algorithms.naive_dqn import NOTEBOOK_HYPERPARAMETERS, NaiveDQN
    from dqn_plugins.algorithms.pqn import PQN
    from dqn_plugins.algorithms.stream_q import STREAM_Q_PAPER_HYPERPARAMETERS, StreamQ
    from dqn_plugins.environments.action_masks import TellLastActionMask
    from dqn_plugins.environments.making import make_vec_env

__all__ = [
    "NOTEBOOK_HYPERPARAMETERS",
    "PQN",
    "STREAM_Q_PAPER_HYPERPARAMETERS",
    "DivergenceError",
    "EnvironmentStepError",
    "MalformedTransitionError",
    "NaiveDQN",
    "NonFiniteTransitionError",
    "StreamQ",
    "TellLastActionMask",
    "make_vec_env",
]
__version__ = version("dqn-plugins")

# Imported when they are asked for: torch takes seconds, and the command line shows its help
# without it.
_MODULES = {
    "NOTEBOOK_HYPERPARAMETERS": "algorithms.naive_dqn",
    "NaiveDQN": "algorithms.naive_dqn",
    "PQN": "algorithms.pqn",
    "STREAM_Q_PAPER_HYPERPARAMETERS": "algorithms.stream_q",
    "StreamQ": "algorithms.stream_q",
    "TellLastActionMask": "environments.action_masks",
    "make_vec_env": "environments.making",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
