"""
The optimisers in compiled code: for each, one step along directions and errors.

A direction is ∇Q(s, a) or its eligibility trace, the error what the value should rise by; what an
ordinary optimiser calls the gradient is −error · direction.

Each optimiser has a class of its own, by which its step is found, and a line in
:data:`OPTIMIZERS`, which says what its step is and where torch keeps its numbers and state.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch as th

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, by_class, compiled
from dqn_plugins.learning.compiled.layers import Network, Sample, accumulate_gradient
from dqn_plugins.learning.compiled.products import flushed
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    TraceAdam,
)
from dqn_plugins.policies.gradient_scaled_optimizers import SMALLEST_NORM

__all__ = [
    "LEARNING_RATE",
    "OPTIMIZERS",
    "Average",
    "CompiledOptimizer",
    "Optimizer",
    "Step",
    "clip_norm",
    "numbers_of",
    "take_in_gradient",
    "take_in_squares",
    "take_step",
]

# Places in `Optimizer.numbers`
LEARNING_RATE, BETA1, BETA2, EPS, OVERSHOOT_FACTOR = range(5)


class Optimizer(NamedTuple):
    """
    An optimiser and its state. Its class says which one it is.

    :param numbers: Its numbers, which Python may change at any time, shape (5,).
    :param steps: How many steps it has taken, one count per parameter tensor, or empty.
    :param squared_norm: ``IntentionalOptimizer``'s σ, once per parameter tensor, or empty.
    :param exp_avg: First moment, laid out as the weights, or empty.
    :param exp_avg_sq: Second moment, laid out as the weights, or empty.
    :param update: Working memory, laid out as the weights.
    :param squares: The mean square of the transitions' gradients, laid out as the weights; None for
        an optimiser that does not need it.
    """

    numbers: Doubles
    steps: Floats
    squared_norm: Floats
    exp_avg: Floats
    exp_avg_sq: Floats
    update: Floats
    squares: Floats | None


def _kind(name: str) -> type[Optimizer]:
    """Make a class; under another name than its own, numba would not find it on disk."""
    return type(name, (Optimizer,), {"__slots__": ()})


_SGD, _RMSprop, _ObGD, _MaxScaled = map(_kind, ["_SGD", "_RMSprop", "_ObGD", "_MaxScaled"])
_Adam, _KerasAdam, _RAdam = map(_kind, ["_Adam", "_KerasAdam", "_RAdam"])
_AdaptiveObGD, _AdaptiveQ = map(_kind, ["_AdaptiveObGD", "_AdaptiveQ"])
_Intentional = _kind("_Intentional")


@dataclass(frozen=True)
class CompiledOptimizer:
    """
    An optimiser that compiled code can stand in for.

    :param kind: Its class.
    :param step: Moves the weights once: a function of the optimiser, a :class:`Step`, and the
        average of the weights or None.
    :param moments: Keys of its state that are laid out as the weights, with the field of each.
    :param scalars: Keys of its state that are one number per parameter, with the field of each.
    :param required: Options that compiled code leaves out, with the value that turns each off.
    :param squares: Takes the mean square of the transitions' gradients into the optimiser's own
        mean before a step: a function of the optimiser and γλ; None for one that needs no such
        squares.
    """

    kind: type[Optimizer]
    step: Any
    moments: dict[str, str] = field(default_factory=dict)
    scalars: dict[str, str] = field(default_factory=dict)
    required: dict[str, Any] = field(default_factory=dict)
    squares: Any = None


def numbers_of(group: dict[str, Any]) -> list[float]:
    """Read ``Optimizer.numbers`` out of a group; 0 for one that the optimiser does not have."""
    beta1, beta2 = group.get("betas", (0.0, group.get("beta2", group.get("alpha", 0.0))))
    eps, overshoot_factor = group.get("eps", 0.0), group.get("overshoot_factor", 0.0)
    return [float(group["lr"]), float(beta1), float(beta2), float(eps), float(overshoot_factor)]


Moments: TypeAlias = tuple[Floats, Floats]


class Average(NamedTuple):
    """
    The average of the weights, see ``StreamQPolicy.update_average``: laid out as they are, from how
    many transitions they were updated, and over how many to average at most.
    """

    weights: Floats
    n_averaged: Doubles
    window: float


class Step(NamedTuple):
    """
    What one step changes, and along what.

    :param weights: The weights, flat.
    :param directions: Shape (n_envs, n_weights).
    :param errors: Shape (n_envs,). The update is the sum of error times direction, divided by
        ``n``.
    """

    weights: Floats
    directions: Floats
    errors: Floats
    n: int


@compiled
def take_step(optimizer: Optimizer | None, step: Step, average: Average | None) -> None:
    """Move the weights once, and take them into their average; without an optimiser torch does."""
    if optimizer is None:
        return
    for i in range(optimizer.steps.size):
        optimizer.steps[i] += np.float32(1.0)
    _move(optimizer, step, average)


@compiled
def clip_norm(gradient: Floats, max_norm: float) -> None:
    """Scale a gradient so that its Euclidean norm is at most ``max_norm``, as torch does."""
    total = np.float32(0.0)
    for i in range(gradient.size):
        total += gradient[i] * gradient[i]
    factor = np.float32(max_norm) / (np.sqrt(total) + np.float32(1e-6))
    if factor < 1:
        for i in range(gradient.size):
            gradient[i] *= factor


@compiled
def mean_update(step: Step, update: Floats) -> None:
    """Average error times direction."""
    for env in range(step.directions.shape[0]):
        direction, factor = step.directions[env], step.errors[env] / np.float32(step.n)
        for i in range(direction.size):
            update[i] = factor * direction[i] + (update[i] if env > 0 else np.float32(0.0))


@compiled
def share_of_newest(average: Average, n: int) -> np.float32:
    """Count n transitions, and tell how much the newest weights move their average."""
    average.n_averaged[0] += n
    t = average.n_averaged[0] / n
    return np.float32(min(max(5.0 / (t + 4.0), n / average.window), 1.0))


@compiled
def average_weights(step: Step, average: Average | None) -> None:
    """Take the newest weights into their average."""
    if average is None:
        return
    share, averaged = share_of_newest(average, step.n), average.weights
    for i in range(averaged.size):
        averaged[i] += share * (step.weights[i] - averaged[i])


def weight_by_weight(numbers_of: Callable[..., Any], change: Callable[..., np.float32]) -> Any:
    """
    Make the step of an optimiser that changes each weight by its own gradient and moments.

    :param numbers_of: Collects what is the same for all weights: a function of the optimiser.
    :param change: What to subtract from a weight, and what becomes of its moments: a function of
        these numbers, both moments, the weight's index, and its gradient.
    """

    @compiled
    def take_such_a_step(optimizer: Any, step: Step, average: Any) -> None:
        numbers, moments = numbers_of(optimizer), (optimizer.exp_avg, optimizer.exp_avg_sq)
        weights, direction, factor = step.weights, step.directions[0], -step.errors[0]
        if len(step.errors) > 1:
            mean_update(step, optimizer.update)
            direction, factor = optimizer.update, np.float32(-1.0)
        share, averaged = np.float32(0.0), weights
        if average is not None:
            share, averaged = share_of_newest(average, step.n), average.weights
        for i in range(weights.size):
            weight = weights[i] - change(numbers, moments, i, factor * direction[i])
            weights[i] = weight
            if average is not None:
                averaged[i] += share * (weight - averaged[i])

    return take_such_a_step


# Plain gradient descent, RMSprop, and ``MaxScaledOptimizer``


@compiled
def plain_numbers(optimizer: Optimizer) -> Any:
    """Collect what is the same for all weights: step size, eps, decay rate."""
    numbers, beta2 = optimizer.numbers, optimizer.numbers[BETA2]
    step_size, floor = np.float32(numbers[LEARNING_RATE]), np.float32(numbers[EPS])
    return step_size, floor, np.float32(beta2), np.float32(1.0 - beta2)


@compiled
def sgd(numbers: Any, moments: Moments, i: int, gradient: np.float32) -> np.float32:
    """Compute one weight's change. See :func:`weight_by_weight`."""
    return np.float32(numbers[0] * gradient)


@compiled
def rmsprop(numbers: Any, moments: Moments, i: int, gradient: np.float32) -> np.float32:
    """Compute one weight's change, and its second moment. See :func:`weight_by_weight`."""
    step_size, floor, decay2, weight2 = numbers
    exp_avg_sq = moments[1]
    second = flushed(decay2 * exp_avg_sq[i] + weight2 * (gradient * gradient))
    exp_avg_sq[i] = second
    return np.float32(step_size * gradient / (np.sqrt(second) + floor))


@compiled
def max_scaled(numbers: Any, moments: Moments, i: int, gradient: np.float32) -> np.float32:
    """Compute one weight's change, and the largest gradient. See :func:`weight_by_weight`."""
    step_size, floor, decay, _ = numbers
    largest = flushed(max(decay * moments[1][i], abs(gradient)))
    moments[1][i] = largest
    return np.float32(step_size * gradient / (largest + floor))


# Adam, in torch's form and in Keras's, and RAdam


@compiled
def adam_numbers(optimizer: Optimizer) -> Any:
    """Collect what is the same for all weights: corrected step size and eps, decay rates, and 1."""
    numbers, step = optimizer.numbers, optimizer.steps[0]
    beta1, beta2, eps = numbers[BETA1], numbers[BETA2], numbers[EPS]
    root_correction = np.sqrt(1.0 - beta2**step)
    step_size = np.float32(numbers[LEARNING_RATE] * root_correction / (1.0 - beta1**step))
    # Adding eps after the correction of the root is adding less of it before.
    floor = np.float32(eps * root_correction)
    weights = np.float32(1.0 - beta1), np.float32(beta2), np.float32(1.0 - beta2)
    return step_size, floor, *weights, np.float32(1.0)


@compiled
def keras_adam_numbers(optimizer: Optimizer) -> Any:
    """Collect the same for Keras's form, which adds eps before the correction."""
    step_size, _, weight1, decay2, weight2, one = adam_numbers(optimizer)
    return step_size, np.float32(optimizer.numbers[EPS]), weight1, decay2, weight2, one


@compiled
def radam_numbers(optimizer: Optimizer) -> Any:
    """
    Collect the same for RAdam: Liu et al. (2020), "On the Variance of the Adaptive Learning Rate
    and Beyond", arXiv 1908.03265, algorithm 2, with ε where torch has it.

    The last number is 0 while there are too few steps to tell the variance from: the second moment
    is then left out.
    """
    numbers, step = optimizer.numbers, optimizer.steps[0]
    beta1, beta2 = numbers[BETA1], numbers[BETA2]
    step_size = numbers[LEARNING_RATE] / (1.0 - beta1**step)
    unbiased = 1.0 - beta2**step
    largest = 2.0 / (1.0 - beta2) - 1.0
    length = largest - 2.0 * step * beta2**step / unbiased
    floor, is_rectified = np.float32(1.0), np.float32(0.0)
    if length > 5.0:
        rectification = (length - 4.0) * (length - 2.0) * largest
        rectification /= (largest - 4.0) * (largest - 2.0) * length
        step_size *= np.sqrt(rectification * unbiased)
        floor, is_rectified = np.float32(numbers[EPS]), np.float32(1.0)
    weights = np.float32(1.0 - beta1), np.float32(beta2), np.float32(1.0 - beta2)
    return np.float32(step_size), floor, *weights, is_rectified


@compiled
def adam(numbers: Any, moments: Moments, i: int, gradient: np.float32) -> np.float32:
    """Compute one weight's change, and its moments. See :func:`weight_by_weight`."""
    step_size, floor, weight1, decay2, weight2, is_rectified = numbers
    exp_avg, exp_avg_sq = moments
    first = flushed(exp_avg[i] + weight1 * (gradient - exp_avg[i]))
    second = flushed(decay2 * exp_avg_sq[i] + weight2 * (gradient * gradient))
    exp_avg[i], exp_avg_sq[i] = first, second
    return np.float32(step_size * first / (is_rectified * np.sqrt(second) + floor))


# What needs the transitions' own gradients: ``AdaptiveQOptimizer`` and ``IntentionalOptimizer``


@compiled
def adaptive_q(numbers: Any, moments: Moments, i: int, gradient: np.float32) -> np.float32:
    """Compute one weight's change. See :func:`weight_by_weight`."""
    return np.float32(numbers[0] * gradient / (np.sqrt(moments[1][i]) + numbers[1]))


@compiled
def take_in_gradient(
    optimizer: Optimizer,
    squares: Floats | None,
    network: Network,
    sample: Sample,
    kept: float,
    n: int,
) -> None:
    """
    Add a transition's part to the mean square of n gradients, if the optimiser needs it; for the
    first of them with ``kept`` 0, for the others with 1.
    """
    if squares is None:
        return
    gradient = optimizer.update
    accumulate_gradient(network, sample, 0.0, gradient, None)
    kept_share, share = np.float32(kept), np.float32(1.0 / n)
    for i in range(squares.size):
        squares[i] = kept_share * squares[i] + share * (gradient[i] * gradient[i])


@compiled
def take_in_squares(optimizer: Optimizer, squares: Floats | None, decay: float) -> None:
    """Take the mean square of gradients into the optimiser's own mean, before a step."""
    if squares is not None:
        _move_squares(optimizer, decay)


@compiled
def adaptive_q_squares(optimizer: Any, decay: float) -> None:
    """Take the mean square of gradients into its running mean, before a step."""
    exp_avg_sq, squares = optimizer.exp_avg_sq, optimizer.squares
    kept, share = np.float32(decay), np.float32(1.0 - decay)
    for i in range(squares.size):
        exp_avg_sq[i] = flushed(kept * exp_avg_sq[i] + share * squares[i])


@compiled
def intentional_squares(optimizer: Any, decay: float) -> None:
    """Take the mean square of gradients into its running mean, and the norm into its own."""
    exp_avg_sq, squares = optimizer.exp_avg_sq, optimizer.squares
    numbers, scales, count = optimizer.numbers, optimizer.update, optimizer.steps[0] + 1.0
    beta2, floor = numbers[BETA2], np.float32(numbers[EPS])
    decay2, weight2 = np.float32(beta2), np.float32(1.0 - beta2)
    correction = np.float32(1.0 / (1.0 - beta2**count))
    squared_norm = np.float32(0.0)
    for i in range(squares.size):
        second = flushed(decay2 * exp_avg_sq[i] + weight2 * squares[i])
        exp_avg_sq[i] = second
        scales[i] = np.float32(1.0) / (np.sqrt(second * correction) + floor)
        squared_norm += squares[i] * scales[i]
    share_of_new = (1.0 - decay) / (1.0 - decay**count) if decay < 1.0 else 1.0 / count
    for k in range(optimizer.squared_norm.size):
        difference = squared_norm - optimizer.squared_norm[k]
        optimizer.squared_norm[k] += np.float32(share_of_new) * difference


@compiled
def intentional(optimizer: Optimizer, step: Step, average: Average | None) -> None:
    """Take one step on directions scaled by :func:`intentional_squares`."""
    scales, learning_rate = optimizer.update, optimizer.numbers[LEARNING_RATE]
    for env in range(step.directions.shape[0]):
        direction = step.directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += direction[i] * direction[i] * scales[i]
        root = np.sqrt(np.float64(optimizer.squared_norm[0]) * np.float64(norm))
        size = np.float32(learning_rate / max(root, SMALLEST_NORM) * step.errors[env] / step.n)
        for i in range(direction.size):
            step.weights[i] += size * (direction[i] * scales[i])
    average_weights(step, average)


# Overshooting-bounded gradient descent


@compiled
def bounded_step_size(optimizer: Any, step: Step, env: int, norm: np.float32) -> np.float32:
    """Compute error times step size, which shrinks where a full step would overshoot."""
    error, learning_rate = step.errors[env], optimizer.numbers[LEARNING_RATE]
    overshoot_factor = optimizer.numbers[OVERSHOOT_FACTOR]
    bound = learning_rate * overshoot_factor * max(abs(error), np.float32(1.0)) * norm
    return np.float32(learning_rate / max(bound, 1.0) * error / step.n)


@compiled
def obgd(optimizer: Optimizer, step: Step, average: Average | None) -> None:
    """Take one step of overshooting-bounded gradient descent, see ``ObGD``."""
    for env in range(step.directions.shape[0]):
        direction = step.directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += abs(direction[i])
        size = bounded_step_size(optimizer, step, env, norm)
        for i in range(direction.size):
            step.weights[i] += size * direction[i]
    average_weights(step, average)


@compiled
def adaptive_obgd(optimizer: Optimizer, step: Step, average: Average | None) -> None:
    """Take one step of it on directions scaled weight by weight, see ``AdaptiveObGD``."""
    numbers, exp_avg_sq, scales = optimizer.numbers, optimizer.exp_avg_sq, optimizer.update
    beta2, floor = numbers[BETA2], np.float32(numbers[EPS])
    weight2, decay2 = np.float32(1.0 - beta2), np.float32(beta2)
    correction = np.float32(1.0 / (1.0 - beta2 ** optimizer.steps[0]))
    mean_update(step, scales)
    for i in range(scales.size):
        exp_avg_sq[i] = decay2 * exp_avg_sq[i] + weight2 * (scales[i] * scales[i])
        scales[i] = np.float32(1.0) / np.sqrt(exp_avg_sq[i] * correction + floor)
    for env in range(step.directions.shape[0]):
        direction = step.directions[env]
        norm = np.float32(0.0)
        for i in range(direction.size):
            norm += abs(direction[i] * scales[i])
        size = bounded_step_size(optimizer, step, env, norm)
        for i in range(direction.size):
            step.weights[i] += size * (direction[i] * scales[i])
    average_weights(step, average)


_BOTH = {"exp_avg": "exp_avg", "exp_avg_sq": "exp_avg_sq"}
_SECOND = {"exp_avg_sq": "exp_avg_sq"}
_STEPS = {"step": "steps"}
_PLAIN = {"weight_decay": 0, "maximize": False}

_adam = weight_by_weight(adam_numbers, adam)

OPTIMIZERS: dict[type[th.optim.Optimizer], CompiledOptimizer] = {
    th.optim.SGD: CompiledOptimizer(
        *(_SGD, weight_by_weight(plain_numbers, sgd)),
        required=_PLAIN | {"momentum": 0, "nesterov": False},
    ),
    th.optim.Adam: CompiledOptimizer(_Adam, _adam, _BOTH, _STEPS, _PLAIN | {"amsgrad": False}),
    th.optim.RAdam: CompiledOptimizer(
        _RAdam, weight_by_weight(radam_numbers, adam), _BOTH, _STEPS, _PLAIN
    ),
    th.optim.RMSprop: CompiledOptimizer(
        *(_RMSprop, weight_by_weight(plain_numbers, rmsprop), {"square_avg": "exp_avg_sq"}, _STEPS),
        _PLAIN | {"momentum": 0, "centered": False},
    ),
    KerasAdam: CompiledOptimizer(
        _KerasAdam, weight_by_weight(keras_adam_numbers, adam), _BOTH, _STEPS
    ),
    TraceAdam: CompiledOptimizer(_Adam, _adam, _BOTH, _STEPS),
    ObGD: CompiledOptimizer(_ObGD, obgd),
    AdaptiveObGD: CompiledOptimizer(_AdaptiveObGD, adaptive_obgd, _SECOND, _STEPS),
    AdaptiveQOptimizer: CompiledOptimizer(
        *(_AdaptiveQ, weight_by_weight(plain_numbers, adaptive_q), _SECOND),
        squares=adaptive_q_squares,
    ),
    IntentionalOptimizer: CompiledOptimizer(
        *(_Intentional, intentional, _SECOND, _STEPS | {"squared_norm": "squared_norm"}),
        squares=intentional_squares,
    ),
    MaxScaledOptimizer: CompiledOptimizer(
        _MaxScaled, weight_by_weight(plain_numbers, max_scaled), {"exp_inf": "exp_avg_sq"}
    ),
}
"""The optimisers that are compiled."""

_move = by_class({row.kind: row.step for row in OPTIMIZERS.values()})
_move_squares = by_class({row.kind: row.squares for row in OPTIMIZERS.values() if row.squares})
