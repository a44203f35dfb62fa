"""RL Zoo's own trainer with this package's algorithms registered."""

from dqn_plugins.zoo.registration import register_algorithms

__all__ = ["register_algorithms"]
