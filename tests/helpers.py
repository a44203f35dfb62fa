"""What several test files ask of a model."""

from collections.abc import Iterable

import numpy as np
import torch as th

from dqn_plugins import NaiveDQN
from tests.environments import Transition

__all__ = ["learn_all", "optimizer_numbers", "weights"]


def weights(model: NaiveDQN) -> np.ndarray:
    """All weights of the Q-network, one after another, copied."""
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in model.q_net.parameters()])


def optimizer_numbers(model: NaiveDQN) -> list[np.ndarray]:
    """Everything in the state of the optimiser, copied, in a fixed order."""
    state = model.policy.optimizer.state_dict()["state"]
    return [
        value.cpu().numpy().copy() if isinstance(value, th.Tensor) else np.array(value)
        for _, entries in sorted(state.items())
        for _, value in sorted(entries.items())
    ]


def learn_all(model: NaiveDQN, transitions: Iterable[Transition]) -> list[float]:
    """Feed transitions through ``learn_one``; the TD errors."""
    return [model.learn_one(*transition) for transition in transitions]
