"""What turns transitions into changes of a policy's weights: update rules and their learners."""

from dqn_plugins.learning.autograd.naive import NaiveAutogradLearner
from dqn_plugins.learning.autograd.stream import StreamAutogradLearner
from dqn_plugins.learning.compiled.naive import NaiveCompiledLearner
from dqn_plugins.learning.compiled.network import reason_against_compiling
from dqn_plugins.learning.compiled.stream import StreamCompiledLearner
from dqn_plugins.learning.learner import Learner
from dqn_plugins.learning.rules import StreamRule, TraceCut

__all__ = [
    "Learner",
    "NaiveAutogradLearner",
    "NaiveCompiledLearner",
    "StreamAutogradLearner",
    "StreamCompiledLearner",
    "StreamRule",
    "TraceCut",
    "reason_against_compiling",
]
