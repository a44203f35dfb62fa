"""
The layers of a network in compiled code: for each kind, one forward and one backward.

A network is a table with one row per layer, in the order of ``torch.nn.Sequential``, so that other
sizes or another order of layers need no other code.
"""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, Floats, Ints, compiled
from dqn_plugins.learning.compiled.convolution import (
    GEOMETRY,
    accumulate_convolution_gradient,
    convolution,
    convolution_backward,
)
from dqn_plugins.learning.compiled.denormals import flushed
from dqn_plugins.learning.compiled.statistics import standard_deviation

__all__ = [
    "BIAS",
    "CONVOLUTION",
    "INPUT",
    "KIND",
    "LAYER_NORM",
    "LINEAR",
    "N_COLUMNS",
    "N_IN",
    "N_OUT",
    "OUTPUT",
    "RECTIFIER",
    "TANH",
    "WEIGHT",
    "Network",
    "Sample",
    "accumulate_gradient",
    "backward",
    "forward",
    "gradient_bound",
    "sample_in",
]

# Kinds of layers
LINEAR, LAYER_NORM, RECTIFIER, TANH, CONVOLUTION = range(5)

# Columns of `Network.layers`; after them come those of a convolution's geometry
KIND, N_IN, N_OUT, WEIGHT, BIAS, INPUT, OUTPUT = range(7)
N_COLUMNS = 7 + GEOMETRY


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
    :param obs_mean: Mean by which observations are normalised, shape (n_inputs,), or empty.
    :param obs_squared_deviations: Sum of squared deviations from it, of the same shape.
    :param obs_count: How many observations these come from, shape (1,), or empty.
    :param divisor: What observations are divided by: 255 for images of bytes, else 1.
    :param scratch: Memory for one :class:`Sample`, shape (3, n_units).
    :param patches: Memory for what the filters of one convolution meet, flat.
    """

    weights: Floats
    layers: Ints
    constants: Doubles
    obs_mean: Doubles
    obs_squared_deviations: Doubles
    obs_count: Doubles
    divisor: float
    scratch: Floats
    patches: Floats


class Sample(NamedTuple):
    """
    What a network computes from one observation. All arrays are flat, shape (n_units,).

    :param units: The inputs, then the outputs of each layer.
    :param deltas: Derivatives by the same.
    :param scales: What layer normalisation multiplied each layer by; one per layer is used.
    """

    units: Floats
    deltas: Floats
    scales: Floats


@compiled
def sample_in(scratch: Floats) -> Sample:
    """Take one sample's arrays out of scratch memory."""
    return Sample(scratch[0], scratch[1], scratch[2])


@compiled
def forward(network: Network, sample: Sample, inputs: Floats) -> Floats:
    """Compute all units of the network."""
    weights, layers, constants = network.weights, network.layers, network.constants
    mean, squared_deviations = network.obs_mean, network.obs_squared_deviations
    for i in range(inputs.size):
        sample.units[i] = inputs[i]
        if mean.size > 0:
            deviation = standard_deviation(squared_deviations[i], network.obs_count[0])
            sample.units[i] = (inputs[i] - mean[i]) / deviation
    if network.divisor != 1.0:
        for i in range(inputs.size):
            sample.units[i] /= np.float32(network.divisor)
    for layer in range(layers.shape[0]):
        kind, constant = layers[layer, KIND], constants[layer]
        below, above = _inputs(layers, layer, sample.units), _outputs(layers, layer, sample.units)
        if kind == LINEAR:
            linear(layers[layer, WEIGHT], layers[layer, BIAS], weights, below, above)
        elif kind == LAYER_NORM:
            sample.scales[layer] = layer_norm(constant, below, above)
        elif kind == RECTIFIER:
            rectifier(constant, below, above)
        elif kind == TANH:
            tanh(below, above)
        elif kind == CONVOLUTION:
            weight, bias = layers[layer, WEIGHT], layers[layer, BIAS]
            geometry = layers[layer, -GEOMETRY:]
            convolution(geometry, weight, bias, weights, below, above, network.patches)
    return _outputs(layers, layers.shape[0] - 1, sample.units)


@compiled
def backward(network: Network, sample: Sample, output: int, derivative: float) -> None:
    """Propagate the derivative by one output back to the inputs of every layer but the first."""
    weights, layers, constants = network.weights, network.layers, network.constants
    units, deltas = sample.units, sample.deltas
    last = layers.shape[0] - 1
    by_outputs = _outputs(layers, last, deltas)
    by_outputs[:] = 0
    by_outputs[output] = derivative
    for layer in range(last, 0, -1):
        kind, constant = layers[layer, KIND], constants[layer]
        above, below = _outputs(layers, layer, deltas), _inputs(layers, layer, deltas)
        if kind == LINEAR:
            linear_backward(layers[layer, WEIGHT], weights, above, below)
        elif kind == LAYER_NORM:
            outputs = _outputs(layers, layer, units)
            layer_norm_backward(sample.scales[layer], outputs, above, below)
        elif kind == RECTIFIER:
            rectifier_backward(constant, _inputs(layers, layer, units), above, below)
        elif kind == TANH:
            tanh_backward(_outputs(layers, layer, units), above, below)
        elif kind == CONVOLUTION:
            geometry = layers[layer, -GEOMETRY:]
            weight = layers[layer, WEIGHT]
            convolution_backward(geometry, weight, weights, above, below, network.patches)


@compiled
def gradient_bound(network: Network, sample: Sample) -> float:
    """Bound the largest entry of the gradient, without computing it."""
    layers = network.layers
    bound = np.float32(0.0)
    for layer in range(layers.shape[0]):
        if layers[layer, KIND] == LINEAR or layers[layer, KIND] == CONVOLUTION:
            # Sums, because unlike a maximum they never lose a NaN.
            inputs = np.float32(1.0)  # the bias's
            for unit in _inputs(layers, layer, sample.units):
                inputs += abs(unit)
            outputs = np.float32(0.0)
            for delta in _outputs(layers, layer, sample.deltas):
                outputs += abs(delta)
            bound += inputs * outputs
    return float(bound)


@compiled
def accumulate_gradient(network: Network, sample: Sample, decay: float, gradient: Floats) -> None:
    """Multiply a gradient, or a trace, by ``decay`` and add this sample's gradient to it."""
    layers = network.layers
    for layer in range(layers.shape[0]):
        if layers[layer, KIND] == LINEAR:
            inputs = _inputs(layers, layer, sample.units)
            deltas = _outputs(layers, layer, sample.deltas)
            accumulate_linear_gradient(
                layers[layer, WEIGHT],
                layers[layer, BIAS],
                inputs,
                deltas,
                np.float32(decay),
                gradient,
            )
        elif layers[layer, KIND] == CONVOLUTION:
            accumulate_convolution_gradient(
                layers[layer, -GEOMETRY:],
                layers[layer, WEIGHT],
                layers[layer, BIAS],
                _inputs(layers, layer, sample.units),
                _outputs(layers, layer, sample.deltas),
                np.float32(decay),
                gradient,
                network.patches,
            )


@compiled
def _inputs(layers: Ints, layer: int, values: Floats) -> Floats:
    start = layers[layer, INPUT]
    return values[start : start + layers[layer, N_IN]]


@compiled
def _outputs(layers: Ints, layer: int, values: Floats) -> Floats:
    start = layers[layer, OUTPUT]
    return values[start : start + layers[layer, N_OUT]]


# Linear


@compiled
def linear(weight: int, bias: int, weights: Floats, inputs: Floats, outputs: Floats) -> None:
    """Multiply by the weight matrix and add the bias."""
    n_in = inputs.size
    for unit in range(outputs.size):
        start = weight + unit * n_in
        row = weights[start : start + n_in]
        total = np.float32(0.0)
        for i in range(n_in):
            total += row[i] * inputs[i]
        outputs[unit] = total + weights[bias + unit]


@compiled
def linear_backward(weight: int, weights: Floats, above: Floats, below: Floats) -> None:
    """Multiply by the transposed weight matrix."""
    n_in = below.size
    below[:] = 0
    for unit in range(above.size):
        delta = above[unit]
        if delta != 0:
            start = weight + unit * n_in
            row = weights[start : start + n_in]
            for i in range(n_in):
                below[i] += delta * row[i]


@compiled
def accumulate_linear_gradient(
    weight: int, bias: int, inputs: Floats, deltas: Floats, kept: np.float32, gradient: Floats
) -> None:
    """Let the gradient of a linear layer fade, and add a sample's to it."""
    n_in = inputs.size
    for unit in range(deltas.size):
        delta = deltas[unit]
        start = weight + unit * n_in
        row = gradient[start : start + n_in]
        for i in range(n_in):
            row[i] = flushed(kept * row[i] + delta * inputs[i])
        gradient[bias + unit] = kept * gradient[bias + unit] + delta


# Layer normalisation


@compiled
def layer_norm(eps: float, inputs: Floats, outputs: Floats) -> np.float32:
    """Shift and scale to mean 0 and variance 1."""
    mean = np.float32(0.0)
    for i in range(inputs.size):
        mean += inputs[i]
    mean /= np.float32(inputs.size)
    variance = np.float32(0.0)
    for i in range(inputs.size):
        difference = inputs[i] - mean
        variance += difference * difference
    variance /= np.float32(inputs.size)
    scale: np.float32 = np.float32(1.0) / np.sqrt(variance + np.float32(eps))
    for i in range(inputs.size):
        outputs[i] = (inputs[i] - mean) * scale
    return scale


@compiled
def layer_norm_backward(scale: np.float32, outputs: Floats, above: Floats, below: Floats) -> None:
    """Differentiate through the mean and the scale too, which depend on all inputs."""
    mean = np.float32(0.0)
    projection = np.float32(0.0)
    for i in range(outputs.size):
        mean += above[i]
        projection += above[i] * outputs[i]
    mean /= np.float32(outputs.size)
    projection /= np.float32(outputs.size)
    for i in range(outputs.size):
        below[i] = scale * (above[i] - mean - outputs[i] * projection)


# Rectifier: ReLU with slope 0, LeakyReLU with another


@compiled
def rectifier(slope: float, inputs: Floats, outputs: Floats) -> None:
    """Multiply what is below zero by a slope."""
    factor = np.float32(slope)
    for i in range(inputs.size):
        outputs[i] = inputs[i] if inputs[i] > 0 else factor * inputs[i]


@compiled
def rectifier_backward(slope: float, inputs: Floats, above: Floats, below: Floats) -> None:
    """Multiply derivatives by the slope where the input was below zero."""
    factor = np.float32(slope)
    for i in range(inputs.size):
        below[i] = above[i] * (np.float32(1.0) if inputs[i] > 0 else factor)


# Hyperbolic tangent


@compiled
def tanh(inputs: Floats, outputs: Floats) -> None:
    """Apply the hyperbolic tangent."""
    for i in range(inputs.size):
        outputs[i] = np.tanh(inputs[i])


@compiled
def tanh_backward(outputs: Floats, above: Floats, below: Floats) -> None:
    """Multiply derivatives by 1 − tanh²."""
    for i in range(outputs.size):
        below[i] = above[i] * (np.float32(1.0) - outputs[i] * outputs[i])
