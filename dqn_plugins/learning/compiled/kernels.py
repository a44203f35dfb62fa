"""
All that is compiled: multilayer perceptrons, their optimisers, and the update rules over them.

The functions that Python calls take many flat arguments, because that is what a call from Python
is fast with; among themselves the functions pass :class:`Network` and :class:`Sample`.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numba
import numpy as np
import numpy.typing as npt

from dqn_plugins.learning.learner import LARGE_TD_ERROR, LARGEST_GRADIENT
from dqn_plugins.policies import RunningStatistics

__all__ = [
    "ADAM",
    "ADAPTIVE_OBGD",
    "CUT_AFTER",
    "CUT_NEVER",
    "CUT_WATKINS",
    "KERAS_ADAM",
    "OBGD",
    "RECTIFIER",
    "SGD",
    "TANH",
    "announce_compilation",
    "greedy_actions",
    "learn_naive",
    "learn_stream",
]

logger = logging.getLogger("dqn_plugins")

Floats: TypeAlias = npt.NDArray[np.float32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reordered and fused, so that loops use the vector unit. "nnan" and "ninf" are left
# out: with them the compiler would delete the checks for NaN and infinity.
_FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Function) -> Function:
    """
    Compile a function at its first call, and keep the result on disk where that is possible.

    numba looks only at a function's own file to see whether what it kept is out of date. All that
    is compiled is therefore in this file.

    :param function: A function that numba can compile. Division by zero gives infinity in it, as
        in NumPy: checking for it would keep loops from being vectorised.
    :return: The compiled function.
    """
    options: dict[str, Any] = {
        "error_model": "numpy",
        "fastmath": _FAST_MATH,
        "nogil": True,
        # A function that is called, not inlined, may be taken from wherever it was compiled first,
        # in another order of the same sum: the process that compiles would differ in the last bit
        # from those that load.
        "forceinline": True,
    }
    try:
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError as error:
        # No folder can be written, neither the package's nor the user's.
        logger.info("Compiled code is not kept on disk: %s", error)
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


def announce_compilation() -> None:
    """Log, once per process, that compiled code is about to be loaded or made."""
    global _announced
    if not _announced:
        logger.info(
            "Loading the compiled learner. The first time on a machine it has to be compiled, "
            "which takes about ten seconds; the result is kept on disk."
        )
        _announced = True


_announced = False

STATISTICS_EPSILON = RunningStatistics.EPSILON

# Activation functions: x where it is positive and `slope * x` elsewhere, or the hyperbolic tangent.
RECTIFIER, TANH = 0, 1

# Optimisers
SGD, ADAM, KERAS_ADAM, OBGD, ADAPTIVE_OBGD = range(5)

# Columns of `Network.layers`
N_IN, N_OUT, WEIGHT, BIAS, INPUT, OUTPUT = range(6)

# When an exploratory action cuts the trace
CUT_NEVER, CUT_AFTER, CUT_WATKINS = range(3)

# What `learn_naive` and `learn_stream` return when they refuse a batch; else LEARNED
LEARNED, NOT_FINITE, DIVERGED = -1, -2, 0


class Network(NamedTuple):
    """
    A multilayer perceptron.

    :param weights: All weights and biases, flat.
    :param layers: One row per linear layer: how many inputs and outputs it has, where its weight
        matrix (one row per output) and its bias begin in ``weights``, and where its inputs and its
        outputs begin in :class:`Sample`'s arrays. Shape (n_layers, 6).
    :param activation: ``RECTIFIER`` or ``TANH``.
    :param slope: Slope of the rectifier below zero.
    :param layer_norm_eps: Added to the variance by layer normalisation; negative for none.
    :param obs_mean: Mean by which observations are normalised, shape (n_inputs,), or empty.
    :param obs_squared_deviations: Sum of squared deviations from it, of the same shape.
    :param obs_count: How many observations these come from, shape (1,), or empty.
    """

    weights: Floats
    layers: Ints
    activation: int
    slope: float
    layer_norm_eps: float
    obs_mean: Doubles
    obs_squared_deviations: Doubles
    obs_count: Doubles


class Sample(NamedTuple):
    """
    What the network computes from one observation. All arrays are flat, shape (n_units,).

    :param units: The inputs, then the outputs of each layer, after its activation function.
    :param before: The same before the activation functions.
    :param deltas: Derivatives by the outputs of the linear layers.
    :param scales: What layer normalisation multiplied each layer by; one per layer is used.
    """

    units: Floats
    before: Floats
    deltas: Floats
    scales: Floats


@compiled
def all_finite(values: Floats) -> bool:
    """
    Look for NaN and infinity.

    :param values: Of any shape.
    :return: Whether there is none.
    """
    for value in values.flat:  # noqa: SIM110 - compiled code has no generators
        if not np.isfinite(value):
            return False
    return True


@compiled
def standard_deviation(squared_deviations: float, count: float) -> float:
    """
    Compute a standard deviation as ``RunningStatistics`` does.

    :param squared_deviations: Sum of squared deviations from the mean.
    :param count: Number of elements.
    :return: The standard deviation, kept above zero; that of variance 1 before the second element.
    """
    variance = squared_deviations / (count - 1.0) if count > 1.0 else 1.0
    return float(np.sqrt(variance + STATISTICS_EPSILON))


@compiled
def update_statistics(
    elements: Doubles, mean: Doubles, squared_deviations: Doubles, count: Doubles
) -> None:
    """
    Take one element into running statistics by Welford's method.

    :param elements: The element, shape (n,).
    :param mean: Changed in place, shape (n,).
    :param squared_deviations: Changed in place, shape (n,).
    :param count: Changed in place, shape (1,).
    """
    count[0] += 1.0
    for i in range(mean.size):
        deviation = elements[i] - mean[i]
        mean[i] += deviation / count[0]
        squared_deviations[i] += deviation * (elements[i] - mean[i])


@compiled
def forward(network: Network, sample: Sample, inputs: Floats) -> Floats:
    """
    Compute all units of the network.

    :param network: The network.
    :param sample: Written: ``units``, ``before`` and ``scales``.
    :param inputs: What the network sees, shape (n_inputs,).
    :return: The network's outputs: a view of ``sample.units``.
    """
    weights, layers = network.weights, network.layers
    last = layers.shape[0] - 1
    for i in range(inputs.size):
        sample.units[i] = inputs[i]
        if network.obs_mean.size > 0:
            deviation = standard_deviation(network.obs_squared_deviations[i], network.obs_count[0])
            sample.units[i] = (inputs[i] - network.obs_mean[i]) / deviation
    for layer in range(layers.shape[0]):
        n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
        start_in, start_out = layers[layer, INPUT], layers[layer, OUTPUT]
        below = sample.units[start_in : start_in + n_in]
        units = sample.units[start_out : start_out + n_out]
        for unit in range(n_out):
            start = layers[layer, WEIGHT] + unit * n_in
            row = weights[start : start + n_in]
            total = np.float32(0.0)
            for i in range(n_in):
                total += row[i] * below[i]
            units[unit] = total + weights[layers[layer, BIAS] + unit]
        if layer < last:
            if network.layer_norm_eps >= 0:
                sample.scales[layer] = normalize(units, network.layer_norm_eps)
            activate(network, units, sample.before[start_out : start_out + n_out])
    return sample.units[layers[last, OUTPUT] : layers[last, OUTPUT] + layers[last, N_OUT]]


@compiled
def normalize(units: Floats, eps: float) -> np.float32:
    """
    Shift and scale a layer to mean 0 and variance 1.

    :param units: The layer, shape (n,); changed in place.
    :param eps: Added to the variance.
    :return: What the layer was multiplied by.
    """
    mean = np.float32(0.0)
    for i in range(units.size):
        mean += units[i]
    mean /= np.float32(units.size)
    variance = np.float32(0.0)
    for i in range(units.size):
        difference = units[i] - mean
        variance += difference * difference
    variance /= np.float32(units.size)
    scale: np.float32 = np.float32(1.0) / np.sqrt(variance + np.float32(eps))
    for i in range(units.size):
        units[i] = (units[i] - mean) * scale
    return scale


@compiled
def activate(network: Network, units: Floats, before: Floats) -> None:
    """
    Apply the activation function to a layer.

    :param network: The network.
    :param units: The layer, shape (n,); changed in place.
    :param before: Written: the layer as it was.
    """
    slope = np.float32(network.slope)
    for i in range(units.size):
        before[i] = units[i]
    if network.activation == TANH:
        for i in range(units.size):
            units[i] = np.tanh(units[i])
    else:
        for i in range(units.size):
            units[i] = units[i] if units[i] > 0 else slope * units[i]


@compiled
def backward(network: Network, sample: Sample, action: int, derivative: float) -> None:
    """
    Propagate the derivative by one output back to the outputs of every linear layer.

    :param network: The network.
    :param sample: What :func:`forward` left; ``deltas`` is written.
    :param action: Index of the output.
    :param derivative: Derivative by that output; it is 0 by the others.
    """
    weights, layers, slope = network.weights, network.layers, np.float32(network.slope)
    last = layers.shape[0] - 1
    start, n_outputs = layers[last, OUTPUT], layers[last, N_OUT]
    sample.deltas[start : start + n_outputs] = 0
    sample.deltas[start + action] = derivative
    for layer in range(last, 0, -1):
        n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
        start_in, start_out = layers[layer, INPUT], layers[layer, OUTPUT]
        above = sample.deltas[start_out : start_out + n_out]
        below = sample.deltas[start_in : start_in + n_in]
        units = sample.units[start_in : start_in + n_in]
        before = sample.before[start_in : start_in + n_in]
        # Through the linear layer
        below[:] = 0
        for unit in range(n_out):
            delta = above[unit]
            if delta != 0:
                start = layers[layer, WEIGHT] + unit * n_in
                row = weights[start : start + n_in]
                for i in range(n_in):
                    below[i] += delta * row[i]
        # Through the activation function
        if network.activation == TANH:
            for i in range(n_in):
                below[i] *= np.float32(1.0) - units[i] * units[i]
        else:
            for i in range(n_in):
                below[i] *= np.float32(1.0) if before[i] > 0 else slope
        # Through layer normalisation, whose mean and scale depend on all units
        if network.layer_norm_eps >= 0:
            mean = np.float32(0.0)
            projection = np.float32(0.0)
            for i in range(n_in):
                mean += below[i]
                projection += below[i] * before[i]
            mean /= np.float32(n_in)
            projection /= np.float32(n_in)
            scale = sample.scales[layer - 1]
            for i in range(n_in):
                below[i] = scale * (below[i] - mean - before[i] * projection)


@compiled
def gradient_bound(network: Network, sample: Sample) -> float:
    """
    Bound the largest entry of the gradient, without computing it.

    :param network: The network.
    :param sample: What :func:`forward` and :func:`backward` left.
    :return: A number that no entry exceeds; NaN or infinity if an entry may be.
    """
    layers = network.layers
    bound = np.float32(0.0)
    for layer in range(layers.shape[0]):
        start_in, start_out = layers[layer, INPUT], layers[layer, OUTPUT]
        # Sums, because unlike a maximum they never lose a NaN.
        inputs = np.float32(1.0)  # the bias's
        for i in range(start_in, start_in + layers[layer, N_IN]):
            inputs += abs(sample.units[i])
        outputs = np.float32(0.0)
        for i in range(start_out, start_out + layers[layer, N_OUT]):
            outputs += abs(sample.deltas[i])
        bound += inputs * outputs
    return float(bound)


@compiled
def flushed(value: np.float32) -> np.float32:
    """
    Replace a number that no longer matters by zero.

    What decays step by step, such as the moments and traces of an inactive unit, ends among the
    denormal numbers, with which processors compute many times slower.

    :param value: A number.
    :return: The number; 0 if it is below 1e-30, far below any eps it is added to.
    """
    return value if abs(value) > np.float32(1e-30) else np.float32(0.0)


@compiled
def accumulate_gradient(network: Network, sample: Sample, decay: float, gradient: Floats) -> None:
    """
    Multiply a gradient (or an eligibility trace) by ``decay`` and add this sample's gradient to it.

    :param network: The network.
    :param sample: What :func:`forward` and :func:`backward` left.
    :param decay: 0 to overwrite, 1 to add, γλ for a trace.
    :param gradient: Laid out as the weights; changed in place.
    """
    layers, kept = network.layers, np.float32(decay)
    for layer in range(layers.shape[0]):
        n_in, n_out = layers[layer, N_IN], layers[layer, N_OUT]
        start_in, start_out = layers[layer, INPUT], layers[layer, OUTPUT]
        units = sample.units[start_in : start_in + n_in]
        for unit in range(n_out):
            delta = sample.deltas[start_out + unit]
            start = layers[layer, WEIGHT] + unit * n_in
            row = gradient[start : start + n_in]
            for i in range(n_in):
                row[i] = flushed(kept * row[i] + delta * units[i])
            bias = layers[layer, BIAS] + unit
            gradient[bias] = kept * gradient[bias] + delta


@compiled
def clip_norm(
    gradient: Floats,
    max_norm: float,
) -> None:
    """
    Scale a gradient so that its Euclidean norm is at most ``max_norm``, as torch does.

    :param gradient: Flat; changed in place.
    :param max_norm: The largest norm.
    """
    total = np.float32(0.0)
    for i in range(gradient.size):
        total += gradient[i] * gradient[i]
    factor = np.float32(max_norm) / (np.sqrt(total) + np.float32(1e-6))
    if factor < 1:
        for i in range(gradient.size):
            gradient[i] *= factor


@compiled
def sgd(
    weights: Floats,
    gradient: Floats,
    learning_rate: float,
) -> None:
    """
    Take one step of plain gradient descent.

    :param weights: Flat; changed in place.
    :param gradient: Flat.
    :param learning_rate: Step size.
    """
    step_size = np.float32(learning_rate)
    for i in range(weights.size):
        weights[i] -= step_size * gradient[i]


@compiled
def obgd(
    weights: Floats,
    traces: Floats,
    td_errors: Floats,
    learning_rate: float,
    overshoot_factor: float,
) -> None:
    """
    Take one step of overshooting-bounded gradient descent.

    :param weights: Flat; changed in place.
    :param traces: Eligibility traces, one row per environment, laid out as the weights.
    :param td_errors: TD errors, shape (n_envs,).
    :param learning_rate: Largest step size.
    :param overshoot_factor: κ.
    """
    n_envs = traces.shape[0]
    for env in range(n_envs):
        trace = traces[env]
        norm = np.float32(0.0)
        for i in range(trace.size):
            norm += abs(trace[i])
        td_error = td_errors[env]
        bound = learning_rate * overshoot_factor * max(abs(td_error), np.float32(1.0)) * norm
        step = np.float32(learning_rate / max(bound, 1.0) * td_error / n_envs)
        for i in range(trace.size):
            weights[i] += step * trace[i]


@compiled
def adaptive_obgd(
    weights: Floats,
    traces: Floats,
    td_errors: Floats,
    update: Floats,
    exp_avg_sq: Floats,
    step: float,
    learning_rate: float,
    overshoot_factor: float,
    beta2: float,
    eps: float,
) -> None:
    """
    Take one step of overshooting-bounded gradient descent on adaptively scaled traces.

    :param weights: Flat; changed in place.
    :param traces: Eligibility traces, one row per environment, laid out as the weights.
    :param td_errors: TD errors, shape (n_envs,).
    :param update: The mean of TD error times trace, laid out as the weights; overwritten by what
        the traces are multiplied by.
    :param exp_avg_sq: Running mean square of the update; changed in place.
    :param step: Number of steps including this one.
    :param learning_rate: Largest step size.
    :param overshoot_factor: κ.
    :param beta2: Decay rate of the mean square.
    :param eps: Added to the mean square before its root is taken.
    """
    weight2, decay2, floor = np.float32(1.0 - beta2), np.float32(beta2), np.float32(eps)
    correction = np.float32(1.0 / (1.0 - beta2**step))
    for i in range(weights.size):
        exp_avg_sq[i] = decay2 * exp_avg_sq[i] + weight2 * (update[i] * update[i])
        update[i] = np.float32(1.0) / np.sqrt(exp_avg_sq[i] * correction + floor)
    n_envs = traces.shape[0]
    for env in range(n_envs):
        trace = traces[env]
        norm = np.float32(0.0)
        for i in range(trace.size):
            norm += abs(trace[i] * update[i])
        td_error = td_errors[env]
        bound = learning_rate * overshoot_factor * max(abs(td_error), np.float32(1.0)) * norm
        size = np.float32(learning_rate / max(bound, 1.0) * td_error / n_envs)
        for i in range(trace.size):
            weights[i] += size * (trace[i] * update[i])


@compiled
def mean_update(traces: Floats, td_errors: Floats, update: Floats) -> None:
    """
    Average TD error times trace over the environments.

    :param traces: One row per environment.
    :param td_errors: TD errors, shape (n_envs,).
    :param update: Written: the mean, one row.
    """
    n_envs = traces.shape[0]
    for env in range(n_envs):
        trace, factor = traces[env], td_errors[env] / np.float32(n_envs)
        if env == 0:
            for i in range(trace.size):
                update[i] = factor * trace[i]
        else:
            for i in range(trace.size):
                update[i] += factor * trace[i]


@compiled
def adam(
    weights: Floats,
    gradient: Floats,
    scale: float,
    exp_avg: Floats,
    exp_avg_sq: Floats,
    step: float,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    keras_form: bool,
) -> None:
    """
    Take one step of Adam.

    :param weights: Flat; changed in place.
    :param gradient: Flat.
    :param scale: What to multiply the gradient by.
    :param exp_avg: First moment, flat; changed in place.
    :param exp_avg_sq: Second moment, flat; changed in place.
    :param step: Number of steps including this one.
    :param learning_rate: Learning rate.
    :param beta1: Decay rate of the first moment.
    :param beta2: Decay rate of the second moment.
    :param eps: Added to the root of the second moment.
    :param keras_form: Whether ``eps`` is added before the second moment's bias is corrected.
    """
    root_correction = np.sqrt(1.0 - beta2**step)
    step_size = np.float32(learning_rate * root_correction / (1.0 - beta1**step))
    # Adding eps after the correction of the root is adding less of it before.
    floor = np.float32(eps if keras_form else eps * root_correction)
    weight1, weight2 = np.float32(1.0 - beta1), np.float32(1.0 - beta2)
    decay2, factor = np.float32(beta2), np.float32(scale)
    for i in range(weights.size):
        slope = factor * gradient[i]
        exp_avg[i] = flushed(exp_avg[i] + weight1 * (slope - exp_avg[i]))
        exp_avg_sq[i] = flushed(decay2 * exp_avg_sq[i] + weight2 * (slope * slope))
        weights[i] -= step_size * exp_avg[i] / (np.sqrt(exp_avg_sq[i]) + floor)


@compiled
def average_weights(
    weights: Floats, average: Floats, n_averaged: Doubles, averaging_window: float
) -> None:
    """
    Take the newest weights into their average.

    :param weights: Flat.
    :param average: Laid out as the weights; changed in place.
    :param n_averaged: How many times this was done, shape (1,); changed in place.
    :param averaging_window: Over how many updates to average at most.
    """
    n_averaged[0] += 1.0
    share = np.float32(max(5.0 / (n_averaged[0] + 4.0), 1.0 / averaging_window))
    for i in range(weights.size):
        average[i] += share * (weights[i] - average[i])


@compiled
def _sample(scratch: Floats, row: int) -> Sample:
    """
    Take one sample's arrays out of the scratch memory.

    :param scratch: Shape (n_rows, 4, n_units).
    :param row: Which row.
    """
    return Sample(scratch[row, 0], scratch[row, 1], scratch[row, 2], scratch[row, 3])


@compiled
def greedy_actions(
    weights: Floats,
    layers: Ints,
    activation: int,
    slope: float,
    layer_norm_eps: float,
    obs_mean: Doubles,
    obs_squared_deviations: Doubles,
    obs_count: Doubles,
    obs: Floats,
    scratch: Floats,
    actions: Ints,
) -> None:
    """
    Find the actions of the highest values for a batch of observations.

    The first eight arguments are :class:`Network`'s.

    :param obs: Inputs, shape (n, n_inputs).
    :param scratch: Shape (any, 4, n_units); the last row is written.
    :param actions: Written: the actions, shape (n,).
    """
    network = Network(
        weights, layers, activation, slope, layer_norm_eps,
        obs_mean, obs_squared_deviations, obs_count,
    )  # fmt: skip
    sample = _sample(scratch, scratch.shape[0] - 1)
    for row in range(obs.shape[0]):
        actions[row] = forward(network, sample, obs[row]).argmax()


@compiled
def learn_naive(
    weights: Floats,
    layers: Ints,
    activation: int,
    slope: float,
    layer_norm_eps: float,
    obs_mean: Doubles,
    obs_squared_deviations: Doubles,
    obs_count: Doubles,
    optimizer_kind: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    exp_avg: Floats,
    exp_avg_sq: Floats,
    steps: Floats,
    gamma: float,
    q_step_size: float,
    bootstrap_at_terminal: bool,
    max_grad_norm: float,
    obs: Floats,
    actions: Ints,
    rewards: Floats,
    next_obs: Floats,
    terminated: Bools,
    new_obs: Floats,
    scratch: Floats,
    gradient: Floats,
    td_errors: Floats,
    new_actions: Ints,
) -> int:
    """
    Apply the naive update rule to one transition per environment.

    The first eight arguments are :class:`Network`'s, the next eight the optimiser's as in
    :func:`adam`, with ``steps`` counting once per parameter tensor, and the next four the rule's.

    :param obs: Observations before the step, shape (n_envs, n_inputs).
    :param actions: Actions taken, shape (n_envs,).
    :param rewards: Rewards, shape (n_envs,).
    :param next_obs: Observations that the step led to, shape (n_envs, n_inputs).
    :param terminated: Whether these are terminal states, shape (n_envs,).
    :param new_obs: Observations to act on next, shape (n_envs, n_inputs).
    :param scratch: Shape (n_envs + 1, 4, n_units); written.
    :param gradient: Laid out as the weights; written.
    :param td_errors: Written, shape (n_envs,).
    :param new_actions: Written: greedy actions of ``new_obs`` after the update, shape (n_envs,).
    :return: ``LEARNED``; or, with no weight changed, ``NOT_FINITE`` or the index of the
        environment whose update overflows.
    """
    network = Network(
        weights, layers, activation, slope, layer_norm_eps,
        obs_mean, obs_squared_deviations, obs_count,
    )  # fmt: skip
    n_envs, n_actions = obs.shape[0], layers[layers.shape[0] - 1, N_OUT]
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE

    # TD errors, and the derivatives of the loss: its mean is over all actions and environments,
    # and only the taken action's entry differs from its target.
    loss_scale = -2.0 * q_step_size / (n_actions * n_envs)
    for env in range(n_envs):
        next_value = np.float32(0.0)
        if bootstrap_at_terminal or not terminated[env]:
            next_value = forward(network, _sample(scratch, n_envs), next_obs[env]).max()
        sample = _sample(scratch, env)
        q_value = forward(network, sample, obs[env])[actions[env]]
        td_error = rewards[env] + np.float32(gamma) * next_value - q_value
        td_errors[env] = td_error
        backward(network, sample, actions[env], loss_scale * td_error)
        bound = gradient_bound(network, sample)
        if not (np.isfinite(td_error) and bound < LARGEST_GRADIENT):
            return env

    # One step of the optimiser on the mean gradient
    for env in range(n_envs):
        accumulate_gradient(network, _sample(scratch, env), 0.0 if env == 0 else 1.0, gradient)
    if max_grad_norm > 0:
        clip_norm(gradient, max_grad_norm)
    if optimizer_kind == SGD:
        sgd(weights, gradient, learning_rate)
    else:
        steps += 1
        keras_form = optimizer_kind == KERAS_ADAM
        adam(
            weights, gradient, 1.0, exp_avg, exp_avg_sq, steps[0],
            learning_rate, beta1, beta2, eps, keras_form,
        )  # fmt: skip

    for env in range(n_envs):
        new_actions[env] = forward(network, _sample(scratch, n_envs), new_obs[env]).argmax()
    return LEARNED


@compiled
def learn_stream(
    weights: Floats,
    layers: Ints,
    activation: int,
    slope: float,
    layer_norm_eps: float,
    obs_mean: Doubles,
    obs_squared_deviations: Doubles,
    obs_count: Doubles,
    optimizer_kind: int,
    learning_rate: float,
    overshoot_factor: float,
    beta1: float,
    beta2: float,
    eps: float,
    exp_avg: Floats,
    exp_avg_sq: Floats,
    steps: Floats,
    traces: Floats,
    average: Floats,
    n_averaged: Doubles,
    averaging_window: float,
    reward_mean: Doubles,
    reward_squared_deviations: Doubles,
    reward_count: Doubles,
    returns: Doubles,
    gamma: float,
    trace_decay: float,
    trace_cut: int,
    td_error_clip: float,
    obs: Floats,
    actions: Ints,
    rewards: Floats,
    next_obs: Floats,
    terminated: Bools,
    dones: Bools,
    new_obs: Floats,
    new_obs_begin: bool,
    scratch: Floats,
    update: Floats,
    td_errors: Floats,
    clipped_td_errors: Floats,
    new_actions: Ints,
) -> int:
    """
    Apply Stream Q(λ)'s update rule to one transition per environment.

    The first eight arguments are :class:`Network`'s, the next ten the optimiser's.

    :param average: The weights' average, laid out as they are, or empty for none.
    :param n_averaged: How many updates it has taken in, shape (1,).
    :param averaging_window: Over how many updates to average at most.
    :param reward_mean: Mean of the discounted returns, shape (1,), or empty to leave rewards.
    :param reward_squared_deviations: Sum of squared deviations from it, shape (1,), or empty.
    :param reward_count: How many returns these come from, shape (1,), or empty.
    :param returns: Discounted return so far of each environment; changed in place.
    :param gamma: Discount factor γ.
    :param trace_decay: λ.
    :param trace_cut: When an exploratory action cuts the trace: ``CUT_NEVER``, ``CUT_AFTER`` or
        ``CUT_WATKINS``.
    :param td_error_clip: Largest TD error that is learned from.
    :param obs: Observations before the step, shape (n_envs, n_inputs).
    :param actions: Actions taken, shape (n_envs,).
    :param rewards: Rewards, shape (n_envs,).
    :param next_obs: Observations that the step led to, shape (n_envs, n_inputs).
    :param terminated: Whether these are terminal states, shape (n_envs,).
    :param dones: Whether the episodes ended, shape (n_envs,).
    :param new_obs: Observations to act on next, shape (n_envs, n_inputs).
    :param new_obs_begin: Whether ``new_obs`` holds the first observations of new episodes.
    :param scratch: Shape (n_envs + 1, 4, n_units); written.
    :param update: Laid out as the weights; written.
    :param td_errors: Written, shape (n_envs,).
    :param clipped_td_errors: Written, shape (n_envs,).
    :param new_actions: Written: greedy actions of ``new_obs`` after the update, shape (n_envs,).
    :return: ``LEARNED``; or, with no weight changed, ``NOT_FINITE`` or the index of the
        environment whose update overflows.
    """
    network = Network(
        weights, layers, activation, slope, layer_norm_eps,
        obs_mean, obs_squared_deviations, obs_count,
    )  # fmt: skip
    n_envs = obs.shape[0]
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE
    if not all_finite(new_obs):  # it enters the statistics
        return NOT_FINITE

    # The action values, normalised by what was known when the observations came, and ∇Q(s, a)
    for env in range(n_envs):
        sample = _sample(scratch, env)
        outputs = forward(network, sample, obs[env])
        td_errors[env] = -outputs[actions[env]]
        new_actions[env] = outputs.argmax()
        backward(network, sample, actions[env], 1.0)

    # The TD errors, after a look at the next observations and at the scale of the rewards
    if obs_mean.size > 0:
        for env in range(n_envs):
            update_statistics(
                next_obs[env].astype(np.float64), obs_mean, obs_squared_deviations, obs_count
            )
    if reward_mean.size > 0:
        for env in range(n_envs):
            returns[env] = gamma * returns[env] + rewards[env]
            update_statistics(
                returns[env : env + 1], reward_mean, reward_squared_deviations, reward_count
            )
    for env in range(n_envs):
        reward = np.float64(rewards[env])
        if reward_mean.size > 0:
            reward /= standard_deviation(reward_squared_deviations[0], reward_count[0])
        next_value = np.float32(0.0)
        if not terminated[env]:
            next_value = forward(network, _sample(scratch, n_envs), next_obs[env]).max()
        td_errors[env] += reward + gamma * next_value
        clipped_td_errors[env] = min(max(td_errors[env], -td_error_clip), td_error_clip)
        bound = gradient_bound(network, _sample(scratch, env))
        if abs(td_errors[env]) > LARGE_TD_ERROR:
            bound += np.abs(traces[env]).max()
        bound *= max(abs(td_errors[env]), 1.0)
        if not (np.isfinite(td_errors[env]) and bound < LARGEST_GRADIENT):
            return env

    # The traces: fade, and take in the gradient
    for env in range(n_envs):
        explored = actions[env] != new_actions[env]
        decay = gamma * trace_decay
        if explored and trace_cut == CUT_WATKINS:
            decay = 0.0
        accumulate_gradient(network, _sample(scratch, env), decay, traces[env])

    # The weights: along the traces
    if optimizer_kind == OBGD:
        obgd(weights, traces, clipped_td_errors, learning_rate, overshoot_factor)
    else:
        steps += 1
        if optimizer_kind == ADAPTIVE_OBGD:
            mean_update(traces, clipped_td_errors, update)
            adaptive_obgd(
                weights, traces, clipped_td_errors, update, exp_avg_sq, steps[0],
                learning_rate, overshoot_factor, beta2, eps,
            )  # fmt: skip
        elif n_envs == 1:
            adam(
                weights, traces[0], -clipped_td_errors[0], exp_avg, exp_avg_sq, steps[0],
                learning_rate, beta1, beta2, eps, False,
            )  # fmt: skip
        else:
            mean_update(traces, clipped_td_errors, update)
            adam(
                weights, update, -1.0, exp_avg, exp_avg_sq, steps[0],
                learning_rate, beta1, beta2, eps, False,
            )  # fmt: skip
    if average.size > 0:
        average_weights(weights, average, n_averaged, averaging_window)

    # What ended is forgotten, what begins is looked at
    for env in range(n_envs):
        explored = actions[env] != new_actions[env]
        if dones[env] or (explored and trace_cut == CUT_AFTER):
            traces[env] = 0
        if dones[env]:
            returns[env] = 0.0
            if new_obs_begin and obs_mean.size > 0:
                update_statistics(
                    new_obs[env].astype(np.float64), obs_mean, obs_squared_deviations, obs_count
                )
    for env in range(n_envs):
        new_actions[env] = forward(network, _sample(scratch, n_envs), new_obs[env]).argmax()
    return LEARNED
