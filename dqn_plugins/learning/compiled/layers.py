"""
The layers of a network in compiled code: for each kind, one forward, one backward, one gradient.

A network is a table with one row per layer, in the order of ``torch.nn.Sequential``, so that other
sizes or another order of layers need no other code. A layer takes any number of observations at
once; where it takes but one, ``n_rows`` is None, and only what one observation needs is compiled.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, Ints, compiled, inlined
from dqn_plugins.learning.compiled.convolution import (
    GEOMETRY,
    accumulate_convolution_gradient,
    convolution,
    convolution_backward,
)
from dqn_plugins.learning.compiled.products import add_product, flushed, multiply_by_rows
from dqn_plugins.learning.compiled.statistics import Rewards, cost_share, standard_deviation
from dqn_plugins.policies import LocalValues, ObservationNormalizer

__all__ = [
    "NONE",
    "N_IN",
    "Layer",
    "Network",
    "Rows",
    "Sample",
    "accumulate_gradient",
    "backward",
    "forward",
    "gradient_bound",
    "output_derivatives",
    "sample_in",
]

Rows: TypeAlias = int | None
"""How many observations are computed at once; None for one, for which numba leaves out the rest."""

# Kinds of layers. One that learns scale and shift of layer normalisation is a layer of its own, and
# so are the features of `LocalValues`, of the network's inputs. After them comes a linear layer
# without biases, which adds to what is there; nothing below that one learns.
LINEAR, LAYER_NORM, RECTIFIER, TANH, CONVOLUTION, SCALE, SILU, LOCAL_FEATURES = range(8)

# Columns of `Network.layers`; after them come those of a convolution's geometry
KIND, N_IN, N_OUT, WEIGHT, BIAS, INPUT, OUTPUT = range(7)
N_COLUMNS = 7 + GEOMETRY

OBSERVATION_BOUND = ObservationNormalizer.BOUND

N_BUMPS, BUMP_SCALE = LocalValues.N_BUMPS, LocalValues.SCALE
FARTHEST_BUMP = LocalValues.FARTHEST
BUMP_WIDTH = 2.0 * FARTHEST_BUMP / (N_BUMPS - 1)

NONE = -1
"""In the columns ``WEIGHT`` and ``BIAS``: the layer has no weights."""


class Network(NamedTuple):
    """
    A network.

    :param weights: All weights and biases, flat.
    :param layers: One row per layer: its kind, how many inputs and outputs it has, where its weight
        matrix (one row per output or filter) and its bias begin in ``weights``, where its inputs
        and its outputs begin in :class:`Sample`'s arrays, and the geometry of a convolution. Shape
        (n_layers, 21).
    :param constants: One number per layer: the slope of a rectifier below zero, or what layer
        normalisation adds to the variance. Shape (n_layers,).
    :param obs_places: Which inputs are normalised, shape (n_normalized,).
    :param obs_mean: Their mean, of the same shape.
    :param obs_squared_deviations: Sum of squared deviations from it, likewise.
    :param obs_count: How many observations these come from, the same number for each part of a
        dictionary; empty where nothing is normalised.
    :param divisor: What observations are divided by: 255 for images of bytes, else 1.
    :param scratch: Memory for one :class:`Sample`, shape (3, n_units).
    :param patches: Memory for what the filters of one convolution meet, flat; None in a network
        without convolutions.
    :param rewards: What the rewards were like; None in a network without local values.
    """

    weights: Floats
    layers: Ints
    constants: Doubles
    obs_places: Ints
    obs_mean: Doubles
    obs_squared_deviations: Doubles
    obs_count: Doubles
    divisor: float
    scratch: Floats
    patches: Floats | None
    rewards: Rewards | None


class Layer(NamedTuple):
    """A row of the table, and the one number that belongs to it. See :class:`Network`."""

    kind: int
    weight: int
    bias: int
    constant: float
    geometry: Ints


class Sample(NamedTuple):
    """
    What a network computes from observations. All arrays are flat, with room for n_units numbers of
    each observation. What belongs to a layer lies together, one observation after the other.

    :param units: The inputs, then the outputs of each layer.
    :param deltas: Derivatives by the same.
    :param scales: What layer normalisation multiplied each layer by: one number per layer and
        observation is used.
    """

    units: Floats
    deltas: Floats
    scales: Floats


@compiled
def sample_in(scratch: Floats) -> Sample:
    """Take a sample's arrays out of scratch memory."""
    return Sample(scratch[0], scratch[1], scratch[2])


@compiled
def forward(network: Network, sample: Sample, inputs: Floats, n_rows: Rows) -> Floats:
    """Compute all units from observations one after the other, and return the outputs likewise."""
    weights, layers, units = network.weights, network.layers, sample.units
    normalize_inputs(network, inputs, units)
    n = _count(n_rows)
    for index in range(layers.shape[0]):
        layer = _layer(network, index)
        all_below = _inputs(layers, index, units, n_rows)
        all_above = _outputs(layers, index, units, n_rows)
        if layer.kind == LINEAR:
            linear(layer, weights, all_below, all_above, n_rows)
        elif layer.kind == LAYER_NORM:
            layer_norm(layer, all_below, all_above, sample.scales[index * n :], n_rows)
        elif layer.kind == RECTIFIER:
            activate(rectifier, layer, all_below, all_above)
        elif layer.kind == TANH:
            activate(tanh, layer, all_below, all_above)
        elif layer.kind == SILU:
            activate(silu, layer, all_below, all_above)
        else:
            for row in range(n):
                below, above = _part(all_below, row, n_rows), _part(all_above, row, n_rows)
                if layer.kind == SCALE:
                    scale(layer, weights, below, above)
                elif layer.kind == CONVOLUTION:
                    convolution(layer, weights, below, above, network.patches)
                elif layer.kind == LOCAL_FEATURES:
                    local_features(below, above, network.rewards)
    return _outputs(layers, layers.shape[0] - 1, units, n_rows)


@compiled
def output_derivatives(network: Network, sample: Sample, n_rows: Rows) -> Floats:
    """Return where derivatives by the outputs belong, to be filled before :func:`backward`."""
    return _outputs(network.layers, network.layers.shape[0] - 1, sample.deltas, n_rows)


@inlined
def backward(network: Network, sample: Sample, n_rows: Rows) -> None:
    """Propagate derivatives by the outputs back to the inputs of every layer but the first."""
    weights, layers = network.weights, network.layers
    units, deltas, n = sample.units, sample.deltas, _count(n_rows)
    for index in range(layers.shape[0] - 1, 0, -1):
        layer = _layer(network, index)
        all_above = _outputs(layers, index, deltas, n_rows)
        all_below = _inputs(layers, index, deltas, n_rows)
        inputs = _inputs(layers, index, units, n_rows)
        outputs = _outputs(layers, index, units, n_rows)
        if layer.kind == LINEAR:
            if layer.bias != NONE:
                linear_backward(layer, weights, all_above, all_below, n_rows)
        elif layer.kind == LAYER_NORM:
            scales = sample.scales[index * n :]
            layer_norm_backward(scales, outputs, all_above, all_below, n_rows)
        elif layer.kind == RECTIFIER:
            differentiate(rectifier_slope, layer, inputs, outputs, all_above, all_below)
        elif layer.kind == TANH:
            differentiate(tanh_slope, layer, inputs, outputs, all_above, all_below)
        elif layer.kind == SILU:
            differentiate(silu_slope, layer, inputs, outputs, all_above, all_below)
        else:
            for row in range(n):
                above, below = _part(all_above, row, n_rows), _part(all_below, row, n_rows)
                if layer.kind == SCALE:
                    scale_backward(layer, weights, above, below)
                elif layer.kind == CONVOLUTION:
                    convolution_backward(layer, weights, above, below, network.patches)


@compiled
def gradient_bound(network: Network, sample: Sample) -> float:
    """Bound the largest entry of the gradient of one observation, without computing it."""
    layers = network.layers
    bound = np.float32(0.0)
    for index in range(layers.shape[0]):
        if layers[index, WEIGHT] != NONE:
            # Sums, because unlike a maximum they never lose a NaN.
            inputs = np.float32(1.0)  # the bias's
            for unit in _inputs(layers, index, sample.units, None):
                inputs += abs(unit)
            outputs = np.float32(0.0)
            for delta in _outputs(layers, index, sample.deltas, None):
                outputs += abs(delta)
            bound += inputs * outputs
    return float(bound)


@inlined
def accumulate_gradient(
    network: Network, sample: Sample, decay: float, gradient: Floats, n_rows: Rows
) -> None:
    """Multiply a gradient, or a trace, by ``decay`` and add the gradient of all observations."""
    layers = network.layers
    for index in range(layers.shape[0]):
        layer, kept = _layer(network, index), np.float32(decay)
        all_inputs = _inputs(layers, index, sample.units, n_rows)
        all_deltas = _outputs(layers, index, sample.deltas, n_rows)
        if layer.kind == LINEAR:
            accumulate_linear_gradient(layer, all_inputs, all_deltas, kept, gradient, n_rows)
        elif layer.kind == SCALE or layer.kind == CONVOLUTION:
            for row in range(_count(n_rows)):
                inputs, deltas = _part(all_inputs, row, n_rows), _part(all_deltas, row, n_rows)
                if layer.kind == SCALE:
                    accumulate_scale_gradient(layer, inputs, deltas, kept, gradient)
                else:
                    accumulate_convolution_gradient(
                        layer, inputs, deltas, kept, gradient, network.patches
                    )
                kept = np.float32(1.0)


@compiled
def _layer(network: Network, index: int) -> Layer:
    row, constant = network.layers[index], network.constants[index]
    return Layer(row[KIND], row[WEIGHT], row[BIAS], constant, row[-GEOMETRY:])


@compiled
def _count(n_rows: Rows) -> int:
    if n_rows is None:
        return 1
    return n_rows


@compiled
def _inputs(layers: Ints, index: int, values: Floats, n_rows: Rows) -> Floats:
    n, start = _count(n_rows), layers[index, INPUT]
    return values[start * n : (start + layers[index, N_IN]) * n]


@compiled
def _outputs(layers: Ints, index: int, values: Floats, n_rows: Rows) -> Floats:
    n, start = _count(n_rows), layers[index, OUTPUT]
    return values[start * n : (start + layers[index, N_OUT]) * n]


@compiled
def _part(values: Floats, row: int, n_rows: Rows) -> Floats:
    """Take one observation's numbers out of those of all."""
    if n_rows is None:
        return values
    n = values.size // n_rows
    return values[row * n : (row + 1) * n]


@compiled
def normalize_inputs(network: Network, inputs: Floats, units: Floats) -> None:
    """Normalise observations by running statistics, within bounds, or divide bytes by 255."""
    places, mean = network.obs_places, network.obs_mean
    if places.size < network.layers[0, N_IN]:
        divisor = np.float32(network.divisor)
        for i in range(inputs.size):
            units[i] = inputs[i] / divisor
    if places.size == 0:
        return
    for start in range(0, inputs.size, network.layers[0, N_IN]):
        for i in range(places.size):
            place = start + places[i]
            deviation = standard_deviation(network.obs_squared_deviations[i], network.obs_count[0])
            unit = (inputs[place] - mean[i]) / deviation
            units[place] = min(max(unit, -OBSERVATION_BOUND), OBSERVATION_BOUND)


# Linear


@compiled
def linear(layer: Layer, weights: Floats, inputs: Floats, outputs: Floats, n_rows: Rows) -> None:
    """Multiply by the weight matrix and add the bias, or what is there if there are no biases."""
    weight, bias = layer.weight, layer.bias
    if n_rows is None:
        n_in = inputs.size
        added = outputs if bias == NONE else weights[bias : bias + outputs.size]
        for unit in range(outputs.size):
            start = weight + unit * n_in
            row = weights[start : start + n_in]
            total = np.float32(0.0)
            for i in range(n_in):
                total += row[i] * inputs[i]
            outputs[unit] = total + added[unit]
        return
    n_in, n_out = inputs.size // n_rows, outputs.size // n_rows
    biases = weights[bias : bias + n_out]
    if n_in < n_out or bias == NONE:  # rows as long as possible
        for start in range(0, 0 if bias == NONE else outputs.size, n_out):
            out = outputs[start : start + n_out]
            for unit in range(n_out):
                out[unit] = biases[unit]
        columns = transposed(weights[weight:], n_out, n_in)
        add_product(inputs, n_rows, n_in, n_in, 1, columns, outputs, n_out)
        return
    multiply_by_rows(inputs, weights[weight:], outputs, n_rows, n_in, n_out)
    for start in range(0, outputs.size, n_out):
        out = outputs[start : start + n_out]
        for unit in range(n_out):
            out[unit] += biases[unit]


@compiled
def linear_backward(
    layer: Layer, weights: Floats, above: Floats, below: Floats, n_rows: Rows
) -> None:
    """Multiply by the transposed weight matrix."""
    weight = layer.weight
    for i in range(below.size):
        below[i] = np.float32(0.0)
    if n_rows is None:
        n_in = below.size
        for unit in range(above.size):
            delta = above[unit]
            if delta != 0:
                start = weight + unit * n_in
                row = weights[start : start + n_in]
                for i in range(n_in):
                    below[i] += delta * row[i]
        return
    n_in, n_out = below.size // n_rows, above.size // n_rows
    add_product(above, n_rows, n_out, n_out, 1, weights[weight:], below, n_in)


@compiled
def accumulate_linear_gradient(
    layer: Layer, inputs: Floats, deltas: Floats, kept: np.float32, gradient: Floats, n_rows: Rows
) -> None:
    """Let the gradient of a linear layer fade, and add that of all observations to it."""
    weight, bias = layer.weight, layer.bias
    if n_rows is None:
        n_in = inputs.size
        for unit in range(deltas.size):
            delta = deltas[unit]
            start = weight + unit * n_in
            row = gradient[start : start + n_in]
            for i in range(n_in):
                row[i] = flushed(kept * row[i] + delta * inputs[i])
            if bias != NONE:
                gradient[bias + unit] = kept * gradient[bias + unit] + delta
        return
    n_in, n_out = inputs.size // n_rows, deltas.size // n_rows
    fade(gradient[weight : weight + n_in * n_out], kept)
    by_weights = gradient[weight:]
    columns = np.zeros(n_in * n_out if n_in < n_out else 0, np.float32)
    factors, n, source, target, width = deltas, n_out, inputs, by_weights, n_in
    if n_in < n_out:  # rows as long as possible
        factors, n, source, target, width = inputs, n_in, deltas, columns, n_out
    add_product(factors, n, n_rows, 1, n, source, target, width)
    if n_in < n_out:
        for unit in range(n_out):
            for i in range(n_in):
                by_weights[unit * n_in + i] += columns[i * n_out + unit]
    if bias == NONE:
        return
    by_biases = gradient[bias : bias + n_out]
    fade(by_biases, kept)
    for start in range(0, deltas.size, n_out):
        row = deltas[start : start + n_out]
        for unit in range(n_out):
            by_biases[unit] += row[unit]


@compiled
def transposed(matrix: Floats, n_rows: int, n_columns: int) -> Floats:
    """Copy a matrix column by column."""
    columns = np.empty(n_rows * n_columns, np.float32)
    for row in range(n_rows):
        for column in range(n_columns):
            columns[column * n_rows + row] = matrix[row * n_columns + column]
    return columns


@compiled
def fade(gradient: Floats, kept: np.float32) -> None:
    """Multiply a gradient."""
    if kept != 1:
        for i in range(gradient.size):
            gradient[i] *= kept


@compiled
def local_features(inputs: Floats, outputs: Floats, rewards: Rewards | None) -> None:
    """Compute bumps along each input, and the inputs, times the cost share."""
    if rewards is None:  # the network has no local values
        return
    share, n = np.float32(cost_share(rewards)), inputs.size
    for i in range(n):
        for bump in range(N_BUMPS):
            place = np.float32(bump * BUMP_WIDTH - FARTHEST_BUMP)
            distance = (inputs[i] - place) / np.float32(BUMP_WIDTH)
            height = np.exp(np.float32(-0.5) * distance * distance)
            outputs[i * N_BUMPS + bump] = share * (np.float32(BUMP_SCALE) * height)
        outputs[n * N_BUMPS + i] = share * inputs[i]


# Layer normalisation


@compiled
def layer_norm(
    layer: Layer, all_inputs: Floats, all_outputs: Floats, scales: Floats, n_rows: Rows
) -> None:
    """Shift and scale each observation's units to mean 0 and variance 1."""
    n = all_inputs.size // _count(n_rows)
    for row in range(_count(n_rows)):
        inputs = all_inputs[row * n : (row + 1) * n]
        outputs = all_outputs[row * n : (row + 1) * n]
        mean = np.float32(0.0)
        for i in range(n):
            mean += inputs[i]
        mean /= np.float32(n)
        variance = np.float32(0.0)
        for i in range(n):
            difference = inputs[i] - mean
            variance += difference * difference
        variance /= np.float32(n)
        factor = np.float32(1.0) / np.sqrt(variance + np.float32(layer.constant))
        for i in range(n):
            outputs[i] = (inputs[i] - mean) * factor
        scales[row] = factor


@compiled
def layer_norm_backward(
    scales: Floats, all_outputs: Floats, all_above: Floats, all_below: Floats, n_rows: Rows
) -> None:
    """Differentiate through the mean and the scale too, which depend on all inputs."""
    n = all_outputs.size // _count(n_rows)
    for row in range(_count(n_rows)):
        outputs = all_outputs[row * n : (row + 1) * n]
        above, below = all_above[row * n : (row + 1) * n], all_below[row * n : (row + 1) * n]
        mean = np.float32(0.0)
        projection = np.float32(0.0)
        for i in range(n):
            mean += above[i]
            projection += above[i] * outputs[i]
        mean /= np.float32(n)
        projection /= np.float32(n)
        for i in range(n):
            below[i] = scales[row] * (above[i] - mean - outputs[i] * projection)


# A learned scale and shift of each unit, after layer normalisation


@compiled
def scale(layer: Layer, weights: Floats, inputs: Floats, outputs: Floats) -> None:
    """Multiply each unit by a weight and add another."""
    scales, shifts = weights[layer.weight :], weights[layer.bias :]
    for i in range(inputs.size):
        outputs[i] = inputs[i] * scales[i] + shifts[i]


@compiled
def scale_backward(layer: Layer, weights: Floats, above: Floats, below: Floats) -> None:
    """Multiply derivatives by the same weights."""
    scales = weights[layer.weight :]
    for i in range(above.size):
        below[i] = above[i] * scales[i]


@compiled
def accumulate_scale_gradient(
    layer: Layer, inputs: Floats, deltas: Floats, kept: np.float32, gradient: Floats
) -> None:
    """Let the gradient of scale and shift fade, and add that of an observation to it."""
    n = deltas.size
    by_scales = gradient[layer.weight : layer.weight + n]
    by_shifts = gradient[layer.bias : layer.bias + n]
    fade(by_scales, kept)
    fade(by_shifts, kept)
    for i in range(n):
        by_scales[i] = flushed(by_scales[i] + deltas[i] * inputs[i])
        by_shifts[i] += deltas[i]


# Activations: functions of one unit and the layer's number, and their derivatives by its input x,
# given the output y


@compiled
def activate(function: Callable[..., np.float32], layer: Layer, x: Floats, y: Floats) -> None:
    """Apply an activation to each unit."""
    constant = np.float32(layer.constant)
    for i in range(x.size):
        y[i] = function(x[i], constant)


@compiled
def differentiate(
    slope: Callable[..., np.float32], layer: Layer, x: Floats, y: Floats, above: Floats, below: Any
) -> None:
    """Multiply derivatives by those of an activation."""
    constant = np.float32(layer.constant)
    for i in range(x.size):
        below[i] = above[i] * slope(x[i], y[i], constant)


@compiled
def rectifier(x: np.float32, factor: np.float32) -> np.float32:
    """ReLU with factor 0, LeakyReLU with another."""
    return x if x > 0 else factor * x


@compiled
def rectifier_slope(x: np.float32, y: np.float32, factor: np.float32) -> np.float32:
    """Its derivative."""
    return np.float32(1.0) if x > 0 else factor


@compiled
def tanh(x: np.float32, constant: np.float32) -> np.float32:
    """Hyperbolic tangent."""
    return np.tanh(x)  # type: ignore[no-any-return]


@compiled
def tanh_slope(x: np.float32, y: np.float32, constant: np.float32) -> np.float32:
    """Its derivative."""
    return np.float32(1.0) - y * y


@compiled
def silu(x: np.float32, constant: np.float32) -> np.float32:
    """SiLU, also called swish: x times its logistic function."""
    return x / (np.float32(1.0) + np.exp(-x))  # type: ignore[no-any-return]


@compiled
def silu_slope(x: np.float32, y: np.float32, constant: np.float32) -> np.float32:
    """Its derivative."""
    logistic = np.float32(1.0) / (np.float32(1.0) + np.exp(-x))
    return logistic + y * (np.float32(1.0) - logistic)  # type: ignore[no-any-return]
