"""Q(λ) from rollouts in compiled code: gradient steps on minibatches."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, Ints, entry_point
from dqn_plugins.learning.compiled.layers import (
    Network,
    accumulate_gradient,
    backward,
    forward,
    output_derivatives,
    sample_in,
)
from dqn_plugins.learning.compiled.memory import Memory
from dqn_plugins.learning.compiled.numbers import LEARNED
from dqn_plugins.learning.compiled.optimizers import (
    Average,
    Optimizer,
    Step,
    clip_norm,
    take_step,
)
from dqn_plugins.learning.compiled.rule import CompiledRule
from dqn_plugins.learning.limits import LARGEST_GRADIENT
from dqn_plugins.learning.rules import RolloutRule

__all__ = ["ROLLOUT"]

# A place in `RolloutState.numbers`, after those that every rule has
MAX_GRAD_NORM = 2

ROWS_AT_ONCE = 32
"""So many observations go through the network at once: what they need fits into the caches."""


class RolloutState(NamedTuple):
    """
    All that the rule works on.

    :param network: The network.
    :param optimizer: The optimiser; None if torch takes the steps.
    :param average: No average.
    :param numbers: The rule's numbers: two without effect, and the largest norm of the gradient or
        0 for any. Shape (3,).
    :param gradient: One row, laid out as the weights; written.
    :param errors: −1: the gradient is descended. Shape (1,).
    """

    network: Network
    optimizer: Optimizer | None
    average: Average | None
    numbers: Doubles
    gradient: Floats
    errors: Floats


@entry_point
def learn_minibatches(
    state: RolloutState, obs: Floats, actions: Ints, targets: Floats, order: Ints, n_batches: int
) -> int:
    """
    Take one step for each minibatch, on the mean squared error of the values of actions.

    :param state: What to work on.
    :param obs: Observations, shape (n, n_inputs), of any number type.
    :param actions: Actions, shape (n,).
    :param targets: What their values are to be, shape (n,).
    :param order: Which rows make the minibatches, one after the other, shape (n_rows,).
    :param n_batches: How many minibatches these are: the first ones are longer by one row where
        they cannot all be of one length.
    :return: ``LEARNED``; or the minibatch whose gradient is too large or NaN, with no step for it.
    """
    network, max_norm, gradient = state.network, state.numbers[MAX_GRAD_NORM], state.gradient[0]
    n_inputs, flat_obs, n_units = obs.shape[1], obs.reshape(-1), network.scratch.shape[1]
    sample = sample_in(np.empty((3, ROWS_AT_ONCE * n_units), np.float32))
    inputs = np.empty(ROWS_AT_ONCE * n_inputs, np.float32)
    size, n_longer = divmod(len(order), max(n_batches, 1))
    start = 0
    for batch in range(n_batches):
        stop = start + size + (1 if batch < n_longer else 0)
        slope = np.float32(2.0 / (stop - start))
        kept = 0.0
        while start < stop:
            rows = order[start : min(start + ROWS_AT_ONCE, stop)]
            n = len(rows)
            for i in range(n):
                for k in range(n_inputs):
                    inputs[i * n_inputs + k] = flat_obs[rows[i] * n_inputs + k]
            values = forward(network, sample, inputs[: n * n_inputs], n)
            derivatives = output_derivatives(network, sample, n)
            n_actions = len(values) // n
            for i in range(len(derivatives)):
                derivatives[i] = np.float32(0.0)
            for i in range(n):
                taken = i * n_actions + actions[rows[i]]
                derivatives[taken] = (values[taken] - targets[rows[i]]) * slope
            backward(network, sample, n)
            accumulate_gradient(network, sample, kept, gradient, n)
            start, kept = start + n, 1.0
        square = np.float32(0.0)
        for entry in gradient:
            square += entry * entry
        if not np.sqrt(square) < LARGEST_GRADIENT:
            return batch
        if max_norm > 0:
            clip_norm(gradient, max_norm)
        step = Step(network.weights, state.gradient, state.errors, 1)
        take_step(state.optimizer, step, state.average)
    return LEARNED


def _bind(memory: Memory, numbers: np.ndarray, td_errors: np.ndarray) -> RolloutState:
    gradient, errors = memory.gradient[np.newaxis], np.full(1, -1.0, np.float32)
    return RolloutState(memory.network, memory.optimizer, memory.average, numbers, gradient, errors)


def _numbers(rule: RolloutRule) -> list[float]:
    return [0.0, 0.0, rule.max_grad_norm or 0.0]


ROLLOUT = CompiledRule(_bind, _numbers, learn_minibatches)
