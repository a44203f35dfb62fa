"""What several test files ask of a model."""

from collections.abc import Iterable

import numpy as np
import torch as th

from dqn_plugins import NaiveDQN, StreamQ
from tests.environments import Transition

__all__ = ["everything", "learn_all", "optimizer_numbers", "statistics", "traces", "weights"]


def weights(model: NaiveDQN | StreamQ) -> np.ndarray:
    """All weights of the Q-network, one after another, copied."""
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in model.q_net.parameters()])


def everything(model: NaiveDQN | StreamQ) -> list[bytes]:
    """Weights, statistics, the optimiser's state and the traces, bit for bit."""
    numbers = [weights(model), *optimizer_numbers(model), *statistics(model).values()]
    return [array.tobytes() for array in numbers]


def optimizer_numbers(model: NaiveDQN | StreamQ) -> list[np.ndarray]:
    """Everything in the state of the optimiser, copied, in a fixed order."""
    state = model.policy.optimizer.state_dict()["state"]
    return [
        value.cpu().numpy().copy() if isinstance(value, th.Tensor) else np.array(value)
        for _, entries in sorted(state.items())
        for _, value in sorted(entries.items())
        if value is not None  # an old torch's SGD without momentum
    ]


def learn_all(model: NaiveDQN | StreamQ, transitions: Iterable[Transition]) -> list[float]:
    """Feed transitions through ``learn_one``; the TD errors."""
    return [model.learn_one(*transition) for transition in transitions]


def traces(model: StreamQ) -> np.ndarray:
    """The eligibility traces, shape (n_envs, n_weights), copied."""
    state = model.policy.optimizer.state
    parts = [state[param]["trace"].flatten(1) for param in model.q_net.parameters()]
    return th.cat(parts, dim=1).cpu().numpy().copy()


def statistics(model: StreamQ) -> dict[str, np.ndarray]:
    """Everything in the policy that is not a weight, by name, copied."""
    return {name: buffer.cpu().numpy().copy() for name, buffer in model.policy.named_buffers()}
