"""Learners: they turn one batch of transitions into a change of a policy's weights."""

from dqn_plugins.learners.base import Learner
from dqn_plugins.learners.compiled_network import reason_against_compiling
from dqn_plugins.learners.naive_autograd import NaiveAutogradLearner
from dqn_plugins.learners.naive_compiled import NaiveCompiledLearner
from dqn_plugins.learners.stream_autograd import StreamAutogradLearner
from dqn_plugins.learners.stream_compiled import StreamCompiledLearner
from dqn_plugins.learners.stream_rule import StreamRule, TraceCut

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
