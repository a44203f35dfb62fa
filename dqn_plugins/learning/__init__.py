"""What turns transitions into changes of a policy's weights: rules, and two backends for them."""

from dqn_plugins.learning.autograd.learner import AutogradLearner
from dqn_plugins.learning.autograd.rollouts import RolloutLearner
from dqn_plugins.learning.compiled.binding import (
    is_faster_in_torch,
    reason_against_compiling,
)
from dqn_plugins.learning.compiled.learner import CompiledLearner
from dqn_plugins.learning.compiled.rollouts import (
    CompiledRolloutLearner,
    reason_against_compiled_rollouts,
)
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
    "CompiledLearner",
    "CompiledRolloutLearner",
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
    "is_faster_in_torch",
    "lambda_returns",
    "raise_if_not_finite",
    "reason_against_compiled_rollouts",
    "reason_against_compiling",
]
