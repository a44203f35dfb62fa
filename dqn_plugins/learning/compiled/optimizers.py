"""
The optimisers in compiled code: for each, one step along directions and errors.

A direction is ∇Q(s, a) or its eligibility trace, the error what the value should rise by; what an
ordinary optimiser calls the gradient is −error · direction.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, compiled
from dqn_plugins.learning.compiled.denormals import flushed
from dqn_plugins.learning.compiled.layers import Network, Sample, accumulate_gradient

__all__ = [
    "ADAM",
    "ADAPTIVE_OBGD",
    "ADAPTIVE_Q",
    "BETA1",
    "BETA2",
    "EPS",
    "INTENTIONAL",
    "KERAS_ADAM",
    "LEARNING_RATE",
    "MAX_SCALED",
    "N_NUMBERS",
    "OBGD",
    "OVERSHOOT_FACTOR",
    "RMSPROP",
    "SGD",
    "Average",
    "Optimizer",
    "needs_gradients",
    "take_in_gradient",
    "take_in_squares",
    "take_step",
]

# Kinds of optimisers
SGD, ADAM, KERAS_ADAM, RMSPROP, OBGD, ADAPTIVE_OBGD, ADAPTIVE_Q, INTENTIONAL, MAX_SCALED = range(9)

# Places in `Optimizer.numbers`
LEARNING_RATE, BETA1, BETA2, EPS, OVERSHOOT_FACTOR = range(5)
N_NUMBERS = 5

SMALLEST_NORM = 1e-8
"""``IntentionalOptimizer``'s, written again where the digest of the sources sees it change."""


class Optimizer(NamedTuple):
    """
    An optimiser and its state.

    :param kind: Which one.
    :param numbers: Its numbers, which Python may change at any time, shape (5,).
    :param steps: How many steps it has taken, one count per parameter tensor, or empty.
    :param squared_norm: ``IntentionalOptimizer``'s σ, once per parameter tensor, or empty.
    :param exp_avg: First moment, laid out as the weights, or empty.
    :param exp_avg_sq: Second moment, laid out as the weights, or empty.
    :param update: Working memory, laid out as the weights.
    :param squares: The mean square of the transitions' gradients, laid out as the weights; used by
        those optimisers that need it.
    """

    kind: int
    numbers: Doubles
    steps: Floats
    squared_norm: Floats
    exp_avg: Floats
    exp_avg_sq: Floats
    update: Floats
    squares: Floats


class Average(NamedTuple):
    """
    The average of the weights, see ``StreamQPolicy.update_average``.

    :param weights: Laid out as the weights, or empty for none.
    :param n_averaged: How many updates it has taken in, shape (1,).
    :param window: Over how many updates to average at most.
    """

    weights: Floats
    n_averaged: Doubles
    window: float


@compiled
def take_step(
    optimizer: Optimizer,
    weights: Floats,
    directions: Floats,
    errors: Floats,
    n: int,
    average: Average,
) -> None:
    """Move the weights once along directions, and take them into their average."""
    kind, share = optimizer.kind, np.float32(0.0)
    if average.weights.size > 0:
        average.n_averaged[0] += 1.0
        share = np.float32(max(5.0 / (average.n_averaged[0] + 4.0), 1.0 / average.window))
    if optimizer.steps.size > 0:
        optimizer.steps[:] += np.float32(1.0)

    if kind == OBGD:
        obgd(optimizer, weights, directions, errors, n)
        average_weights(weights, average.weights, share)
    elif kind == ADAPTIVE_OBGD:
        adaptive_obgd(optimizer, weights, directions, errors, n)
        average_weights(weights, average.weights, share)
    elif kind == INTENTIONAL:
        intentional(optimizer, weights, directions, errors, n)
        average_weights(weights, average.weights, share)
    else:
        direction, scale = directions[0], -errors[0]
        if len(errors) > 1:
            mean_update(directions, errors, n, optimizer.update)
            direction, scale = optimizer.update, np.float32(-1.0)
        if kind == SGD:
            numbers = sgd_numbers(optimizer)
            descend(sgd, numbers, optimizer, weights, direction, scale, average.weights, share)
        elif kind == RMSPROP:
            numbers = rmsprop_numbers(optimizer)
            descend(rmsprop, numbers, optimizer, weights, direction, scale, average.weights, share)
        elif kind == ADAPTIVE_Q:
            numbers = rmsprop_numbers(optimizer)
            descend(
                adaptive_q, numbers, optimizer, weights, direction, scale, average.weights, share
            )
        elif kind == MAX_SCALED:
            numbers = rmsprop_numbers(optimizer)
            descend(
                max_scaled, numbers, optimizer, weights, direction, scale, average.weights, share
            )
        else:
            numbers = adam_numbers(optimizer)
            descend(adam, numbers, optimizer, weights, direction, scale, average.weights, share)


@compiled
def mean_update(directions: Floats, errors: Floats, n: int, update: Floats) -> None:
    """Average error times direction."""
    for env in range(directions.shape[0]):
        direction, factor = directions[env], errors[env] / np.float32(n)
        if env == 0:
            for i in range(direction.size):
                update[i] = factor * direction[i]
        else:
            for i in range(direction.size):
                update[i] += factor * direction[i]


@compiled
def average_weights(weights: Floats, average: Floats, share: np.float32) -> None:
    """Take the newest weights into their average."""
    for i in range(average.size):
        average[i] += share * (weights[i] - average[i])


@compiled
def descend(
    change: Callable[..., np.float32],
    numbers: Any,
    optimizer: Optimizer,
    weights: Floats,
    direction: Floats,
    scale: np.float32,
    average: Floats,
    share: np.float32,
) -> None:
    """
    Change the weights one by one, and take them into their average on the way.

    :param change: What to subtract from a weight: a function of ``numbers``, both moments, the
        weight's index, and its gradient, which is ``scale`` times ``direction``.
    """
    exp_avg, exp_avg_sq = optimizer.exp_avg, optimizer.exp_avg_sq
    if average.size > 0:
        for i in range(weights.size):
            weight = weights[i] - change(numbers, exp_avg, exp_avg_sq, i, scale * direction[i])
            weights[i] = weight
            average[i] += share * (weight - average[i])
    else:
        for i in range(weights.size):
            weights[i] -= change(numbers, exp_avg, exp_avg_sq, i, scale * direction[i])


# Plain gradient descent


@compiled
def sgd_numbers(optimizer: Optimizer) -> Any:
    """Collect what is the same for all weights: the step size."""
    zero = np.float32(0.0)
    return np.float32(optimizer.numbers[LEARNING_RATE]), zero, zero, zero, zero


@compiled
def sgd(
    numbers: Any, exp_avg: Floats, exp_avg_sq: Floats, i: int, gradient: np.float32
) -> np.float32:
    """Compute one weight's change. See :func:`descend`."""
    change: np.float32 = numbers[0] * gradient
    return change


# Adam, in torch's form and in Keras's


@compiled
def adam_numbers(optimizer: Optimizer) -> Any:
    """Collect what is the same for all weights: the corrected step size and eps, decay rates."""
    numbers, step = optimizer.numbers, optimizer.steps[0]
    beta1, beta2, eps = numbers[BETA1], numbers[BETA2], numbers[EPS]
    root_correction = np.sqrt(1.0 - beta2**step)
    step_size = np.float32(numbers[LEARNING_RATE] * root_correction / (1.0 - beta1**step))
    # Adding eps after the correction of the root is adding less of it before.
    floor = np.float32(eps if optimizer.kind == KERAS_ADAM else eps * root_correction)
    return step_size, floor, np.float32(1.0 - beta1), np.float32(beta2), np.float32(1.0 - beta2)


@compiled
def adam(
    numbers: Any, exp_avg: Floats, exp_avg_sq: Floats, i: int, gradient: np.float32
) -> np.float32:
    """Compute one weight's change, and its moments. See :func:`descend`."""
    step_size, floor, weight1, decay2, weight2 = numbers
    first = flushed(exp_avg[i] + weight1 * (gradient - exp_avg[i]))
    second = flushed(decay2 * exp_avg_sq[i] + weight2 * (gradient * gradient))
    exp_avg[i], exp_avg_sq[i] = first, second
    change: np.float32 = step_size * first / (np.sqrt(second) + floor)
    return change


# RMSprop


@compiled
def rmsprop_numbers(optimizer: Optimizer) -> Any:
    """Collect what is the same for all weights: step size, eps, decay rate."""
    numbers, beta2 = optimizer.numbers, optimizer.numbers[BETA2]
    step_size, floor = np.float32(numbers[LEARNING_RATE]), np.float32(numbers[EPS])
    return step_size, floor, np.float32(0.0), np.float32(beta2), np.float32(1.0 - beta2)


@compiled
def rmsprop(
    numbers: Any, exp_avg: Floats, exp_avg_sq: Floats, i: int, gradient: np.float32
) -> np.float32:
    """Compute one weight's change, and its second moment. See :func:`descend`."""
    step_size, floor, _, decay2, weight2 = numbers
    second = flushed(decay2 * exp_avg_sq[i] + weight2 * (gradient * gradient))
    exp_avg_sq[i] = second
    change: np.float32 = step_size * gradient / (np.sqrt(second) + floor)
    return change


# Steps scaled by the largest recent one, see ``MaxScaledOptimizer``


@compiled
def max_scaled(
    numbers: Any, exp_avg: Floats, exp_inf: Floats, i: int, gradient: np.float32
) -> np.float32:
    """Compute one weight's change, and the largest gradient. See :func:`descend`."""
    step_size, floor, _, decay, _ = numbers
    largest = flushed(max(decay * exp_inf[i], abs(gradient)))
    exp_inf[i] = largest
    change: np.float32 = step_size * gradient / (largest + floor)
    return change


# What needs the transitions' own gradients: ``AdaptiveQOptimizer`` and ``IntentionalOptimizer``


@compiled
def needs_gradients(optimizer: Optimizer) -> bool:
    """Tell whether an optimiser needs the transitions' gradients besides their traces."""
    return optimizer.kind == ADAPTIVE_Q or optimizer.kind == INTENTIONAL


@compiled
def take_in_gradient(
    optimizer: Optimizer, network: Network, sample: Sample, kept: float, n: int
) -> None:
    """Add a transition's part to the mean square of n gradients; ``kept`` is 0 for the first."""
    gradient, squares = optimizer.update, optimizer.squares
    accumulate_gradient(network, sample, 0.0, gradient)
    kept_share, share = np.float32(kept), np.float32(1.0 / n)
    for i in range(squares.size):
        squares[i] = kept_share * squares[i] + share * (gradient[i] * gradient[i])


@compiled
def take_in_squares(optimizer: Optimizer, decay: float) -> None:
    """Take the mean square of gradients into its running mean, before a step."""
    exp_avg_sq, squares = optimizer.exp_avg_sq, optimizer.squares
    if optimizer.kind == ADAPTIVE_Q:
        kept, share = np.float32(decay), np.float32(1.0 - decay)
        for i in range(squares.size):
            exp_avg_sq[i] = flushed(kept * exp_avg_sq[i] + share * squares[i])
        return
    numbers, scales, step = optimizer.numbers, optimizer.update, optimizer.steps[0] + 1.0
    beta2, floor = numbers[BETA2], np.float32(numbers[EPS])
    decay2, weight2 = np.float32(beta2), np.float32(1.0 - beta2)
    correction = np.float32(1.0 / (1.0 - beta2**step))
    squared_norm = np.float32(0.0)
    for i in range(squares.size):
        second = flushed(decay2 * exp_avg_sq[i] + weight2 * squares[i])
        exp_avg_sq[i] = second
        scales[i] = np.float32(1.0) / (np.sqrt(second * correction) + floor)
        squared_norm += squares[i] * scales[i]
    share_of_new = (1.0 - decay) / (1.0 - decay**step) if decay < 1.0 else 1.0 / step
    for k in range(optimizer.squared_norm.size):
        difference = squared_norm - optimizer.squared_norm[k]
        optimizer.squared_norm[k] += np.float32(share_of_new) * difference


@compiled
def adaptive_q(
    numbers: Any, exp_avg: Floats, exp_avg_sq: Floats, i: int, gradient: np.float32
) -> np.float32:
    """Compute one weight's change. See :func:`descend`."""
    change: np.float32 = numbers[0] * gradient / (np.sqrt(exp_avg_sq[i]) + numbers[1])
    return change


@compiled
def intentional(
    optimizer: Optimizer, weights: Floats, directions: Floats, errors: Floats, n: int
) -> None:
    """Take one step on directions scaled by :func:`take_in_squares`."""
    scales, learning_rate = optimizer.update, optimizer.numbers[LEARNING_RATE]
    for env in range(directions.shape[0]):
        direction = directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += direction[i] * direction[i] * scales[i]
        root = np.sqrt(np.float64(optimizer.squared_norm[0]) * np.float64(norm))
        step = np.float32(learning_rate / max(root, SMALLEST_NORM) * errors[env] / n)
        for i in range(direction.size):
            weights[i] += step * (direction[i] * scales[i])


# Overshooting-bounded gradient descent


@compiled
def bounded_step_size(optimizer: Optimizer, error: np.float32, norm: np.float32) -> float:
    """Shrink the step size where a full step would overshoot the target."""
    learning_rate = optimizer.numbers[LEARNING_RATE]
    overshoot_factor = optimizer.numbers[OVERSHOOT_FACTOR]
    bound = learning_rate * overshoot_factor * max(abs(error), np.float32(1.0)) * norm
    return float(learning_rate / max(bound, 1.0))


@compiled
def obgd(optimizer: Optimizer, weights: Floats, directions: Floats, errors: Floats, n: int) -> None:
    """Take one step of overshooting-bounded gradient descent, see ``ObGD``."""
    for env in range(directions.shape[0]):
        direction = directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += abs(direction[i])
        step = np.float32(bounded_step_size(optimizer, errors[env], norm) * errors[env] / n)
        for i in range(direction.size):
            weights[i] += step * direction[i]


@compiled
def adaptive_obgd(
    optimizer: Optimizer, weights: Floats, directions: Floats, errors: Floats, n: int
) -> None:
    """Take one step of it on directions scaled weight by weight, see ``AdaptiveObGD``."""
    numbers, exp_avg_sq, scales = optimizer.numbers, optimizer.exp_avg_sq, optimizer.update
    beta2, floor = numbers[BETA2], np.float32(numbers[EPS])
    weight2, decay2 = np.float32(1.0 - beta2), np.float32(beta2)
    correction = np.float32(1.0 / (1.0 - beta2 ** optimizer.steps[0]))
    mean_update(directions, errors, n, scales)
    for i in range(weights.size):
        exp_avg_sq[i] = decay2 * exp_avg_sq[i] + weight2 * (scales[i] * scales[i])
        scales[i] = np.float32(1.0) / np.sqrt(exp_avg_sq[i] * correction + floor)
    for env in range(directions.shape[0]):
        direction = directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += abs(direction[i] * scales[i])
        step = np.float32(bounded_step_size(optimizer, errors[env], norm) * errors[env] / n)
        for i in range(direction.size):
            weights[i] += step * (direction[i] * scales[i])
