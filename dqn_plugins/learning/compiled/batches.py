"""Multilayer perceptrons on whole batches: their values, and the gradient of a squared error."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.compilation import Floats, Ints, compiled, entry_point
from dqn_plugins.learning.compiled.products import add_product, multiply_by_rows

__all__ = ["N_COLUMNS", "Perceptron", "best_actions", "gradient_of_error", "values_of"]

N_COLUMNS = 6
N_IN, N_OUT, WEIGHT, BIAS, NORM, SCALE = range(N_COLUMNS)
"""Columns of :attr:`Perceptron.layers`: numbers of inputs and outputs, where weights and biases
begin, whether the outputs are normalised, and where the scale and after it the shift of the
normalisation begin, -1 if it has none."""


class Perceptron(NamedTuple):
    """
    Linear layers, each but the last with layer normalisation or without, and then rectified.

    :param weights: All weights one after another.
    :param layers: One row per linear layer, shape (n_layers, 6).
    :param eps: The ε of each layer's normalisation, shape (n_layers,).
    :param slopes: What negative numbers are multiplied by, shape (n_layers,); 1 for the last.
    """

    weights: Floats
    layers: Ints
    eps: Floats
    slopes: Floats


@compiled
def _part(flat: Floats, start: int, n_rows: int, n_columns: int) -> Floats:
    return flat[start : start + n_rows * n_columns].reshape(n_rows, n_columns)


@compiled
def _forward(net: Perceptron, obs: Floats, normal: Floats, outputs: Floats, roots: Floats) -> int:
    """
    Compute the outputs of all layers.

    :param obs: Inputs, shape (n, n_inputs).
    :param normal: Written: what each layer's normalisation gives, before scale and shift.
    :param outputs: Written: what each layer gives, shape (n, n_out) one after the other.
    :param roots: Written: 1 / deviation of each normalisation, shape (n_layers · n,).
    :return: Where the last layer's outputs begin.
    """
    n = len(obs)
    start, inputs = 0, obs.ravel()
    for layer in range(len(net.layers)):
        n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
        place = net.layers[layer, WEIGHT]
        weights = net.weights[place : place + n_in * n_out]
        bias = net.layers[layer, BIAS]
        out = _part(outputs, start, n, n_out)
        if n_in < n_out:
            # Rows as long as possible
            columns = weights.reshape(n_out, n_in).T.copy().ravel()
            out[:] = 0.0
            add_product(inputs, n, n_in, n_in, 1, columns, out.ravel(), n_out)
        else:
            multiply_by_rows(inputs, weights, out.ravel(), n, n_in, n_out)
        biases = net.weights[bias : bias + n_out]
        slope, norm, place = net.slopes[layer], net.layers[layer, NORM], net.layers[layer, SCALE]
        scales = net.weights[place : place + n_out] if place >= 0 else biases
        shifts = net.weights[place + n_out : place + 2 * n_out] if place >= 0 else biases
        normalized = _part(normal, start, n, n_out)
        for row in range(n):
            one, kept = out[row], normalized[row]
            if norm:
                total = np.float32(0.0)
                for unit in range(n_out):
                    one[unit] += biases[unit]
                    total += one[unit]
                mean = total / np.float32(n_out)
                squares = np.float32(0.0)
                for unit in range(n_out):
                    one[unit] -= mean
                    squares += one[unit] * one[unit]
                root = np.float32(1.0) / np.sqrt(squares / np.float32(n_out) + net.eps[layer])
                roots[layer * n + row] = root
                if place >= 0:
                    for unit in range(n_out):
                        kept[unit] = one[unit] * root
                        value = kept[unit] * scales[unit] + shifts[unit]
                        one[unit] = value if value > 0.0 else value * slope
                else:
                    for unit in range(n_out):
                        kept[unit] = one[unit] * root
                        one[unit] = kept[unit] if kept[unit] > 0.0 else kept[unit] * slope
            else:
                for unit in range(n_out):
                    value = one[unit] + biases[unit]
                    one[unit] = value if value > 0.0 else value * slope
        inputs = outputs[start:]
        if layer < len(net.layers) - 1:
            start += n * n_out
    return start


@compiled
def _n_units(net: Perceptron) -> int:
    total = 0
    for layer in range(len(net.layers)):
        total += net.layers[layer, N_OUT]
    return total


@compiled
def _values(net: Perceptron, obs: Floats) -> Floats:
    n = len(obs)
    size = n * _n_units(net)
    outputs = np.empty(size, np.float32)
    roots = np.empty(n * len(net.layers), np.float32)
    start = _forward(net, obs, np.empty(size, np.float32), outputs, roots)
    return _part(outputs, start, n, net.layers[-1, N_OUT])


@entry_point
def values_of(net: Perceptron, obs: Floats, values: Floats) -> None:
    """
    Compute action values.

    :param net: The network.
    :param obs: Observations, shape (n, n_inputs).
    :param values: Written: the values, shape (n, n_actions).
    """
    values[:] = _values(net, obs)


@entry_point
def best_actions(net: Perceptron, obs: Floats, actions: Ints) -> None:
    """
    Find the actions of the highest values.

    :param net: The network.
    :param obs: Observations, shape (n, n_inputs).
    :param actions: Written: the actions, the first of them where several are, shape (n,).
    """
    values = _values(net, obs)
    for row in range(len(obs)):
        actions[row] = values[row].argmax()


@entry_point
def gradient_of_error(
    net: Perceptron,
    all_obs: Floats,
    all_actions: Ints,
    all_targets: Floats,
    rows: Ints,
    gradient: Floats,
) -> None:
    """
    Compute the gradient of the mean squared error of the values of actions.

    :param net: The network.
    :param all_obs: Observations, shape (n_rows, n_inputs).
    :param all_actions: Actions, shape (n_rows,).
    :param all_targets: What their values are to be, shape (n_rows,).
    :param rows: Which of them are the minibatch, shape (n,).
    :param gradient: Written: the gradient, as long as the weights.
    """
    n = len(rows)
    obs = np.empty((n, all_obs.shape[1]), np.float32)
    for i in range(n):
        obs[i] = all_obs[rows[i]]
    size = n * _n_units(net)
    outputs, normal = np.empty(size, np.float32), np.empty(size, np.float32)
    roots = np.empty(n * len(net.layers), np.float32)
    start = _forward(net, obs, normal, outputs, roots)
    last = len(net.layers) - 1
    n_actions = net.layers[last, N_OUT]
    values = _part(outputs, start, n, n_actions)
    errors = np.zeros((n, n_actions), np.float32)
    for i in range(n):
        action = all_actions[rows[i]]
        errors[i, action] = (values[i, action] - all_targets[rows[i]]) * np.float32(2.0 / n)
    for back in range(last + 1):
        layer = last - back
        n_in, n_out = net.layers[layer, N_IN], net.layers[layer, N_OUT]
        if layer < last:
            _through_activation(net, layer, start, outputs, normal, roots, errors, gradient)
        bias = net.layers[layer, BIAS]
        of_biases = gradient[bias : bias + n_out]
        of_biases[:] = 0.0
        for i in range(n):
            for unit in range(n_out):
                of_biases[unit] += errors[i, unit]
        place = net.layers[layer, WEIGHT]
        if layer > 0:
            start -= n * n_in
            inputs = outputs[start:]
        else:
            inputs = obs.ravel()
        of_weights = _part(gradient, place, n_out, n_in)
        if n_in < n_out:
            columns = np.zeros((n_in, n_out), np.float32)
            add_product(inputs, n_in, n, 1, n_in, errors.ravel(), columns.ravel(), n_out)
            of_weights[:] = columns.T
        else:
            of_weights[:] = 0.0
            add_product(errors.ravel(), n_out, n, 1, n_out, inputs, of_weights.ravel(), n_in)
        if layer > 0:
            below = np.zeros((n, n_in), np.float32)
            weights = net.weights[place:]
            add_product(errors.ravel(), n, n_out, n_out, 1, weights, below.ravel(), n_in)
            errors = below


@compiled
def _through_activation(
    net: Perceptron,
    layer: int,
    start: int,
    outputs: Floats,
    normal: Floats,
    roots: Floats,
    errors: Floats,
    gradient: Floats,
) -> None:
    """Take the derivative through a layer's rectifier and normalisation, in place."""
    n, n_out = errors.shape
    out, normalized = _part(outputs, start, n, n_out), _part(normal, start, n, n_out)
    slope, norm, place = net.slopes[layer], net.layers[layer, NORM], net.layers[layer, SCALE]
    affine = norm and place >= 0
    if affine:
        gradient[place : place + 2 * n_out] = 0.0
        scales = net.weights[place : place + n_out]
        of_scales = gradient[place : place + n_out]
        of_shifts = gradient[place + n_out : place + 2 * n_out]
    for row in range(n):
        one, kept, error = out[row], normalized[row], errors[row]
        for unit in range(n_out):
            error[unit] = error[unit] if one[unit] > 0.0 else error[unit] * slope
        if not norm:
            continue
        if affine:
            for unit in range(n_out):
                of_shifts[unit] += error[unit]
                of_scales[unit] += error[unit] * kept[unit]
                error[unit] *= scales[unit]
        total, along = np.float32(0.0), np.float32(0.0)
        for unit in range(n_out):
            total += error[unit]
            along += error[unit] * kept[unit]
        mean, mean_along = total / np.float32(n_out), along / np.float32(n_out)
        root = roots[layer * n + row]
        for unit in range(n_out):
            error[unit] = root * (error[unit] - mean - kept[unit] * mean_along)
