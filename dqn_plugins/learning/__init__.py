"""What turns transitions into changes of a policy's weights: rules, and two backends for them."""

from dqn_plugins.learning.autograd.learner import AutogradLearner
from dqn_plugins.learning.choosing import Backend, choose_backend
from dqn_plugins.learning.compiled.announcing import compilation_observers
from dqn_plugins.learning.compiled.learner import CompiledLearner
from dqn_plugins.learning.lambda_returns import lambda_returns
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.limits import LARGEST_LEARNING_RATE
from dqn_plugins.learning.rollout import Rollout
from dqn_plugins.learning.rules import (
    NaiveRule,
    RolloutRule,
    Rule,
    StreamRule,
    Target,
    TraceCut,
    Update,
)
from dqn_plugins.learning.transition import Observation, Transition, raise_if_not_finite

__all__ = [
    "LARGEST_LEARNING_RATE",
    "AutogradLearner",
    "Backend",
    "BackendLearner",
    "CompiledLearner",
    "Learner",
    "NaiveRule",
    "Observation",
    "Rollout",
    "RolloutLearner",
    "RolloutRule",
    "Rule",
    "StreamRule",
    "Target",
    "TraceCut",
    "Transition",
    "Update",
    "choose_backend",
    "compilation_observers",
    "lambda_returns",
    "raise_if_not_finite",
]

BackendLearner = RolloutLearner = Learner
"""Earlier names: one class serves either backend, with a rollout or without."""
