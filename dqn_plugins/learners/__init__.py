"""Learners: they turn one batch of transitions into a change of a policy's weights."""

from dqn_plugins.learners.base import Learner
from dqn_plugins.learners.naive_autograd import NaiveAutogradLearner

__all__ = ["Learner", "NaiveAutogradLearner"]
