"""
Convolutions in compiled code, as products of matrices.

What each weight of a filter meets at every place of the image is laid out first, one row per weight
and one column per place. Then the layer is the product of the filters and that matrix, the gradient
of the filters the product of derivatives and its transpose.
"""

from typing import Any

import numpy as np

from dqn_plugins.learning.compiled.compilation import Floats, Ints, compiled
from dqn_plugins.learning.compiled.products import add_product, flushed

__all__ = [
    "GEOMETRY",
    "accumulate_convolution_gradient",
    "convolution",
    "convolution_backward",
]

# Columns of the geometry, a part of a layer's row. The steps are from one channel, row and column
# of the input to the next, in numbers: so the channels may come first or last.
(
    CHANNELS,
    HEIGHT,
    WIDTH,
    OUT_HEIGHT,
    OUT_WIDTH,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    STRIDE_DOWN,
    STRIDE_RIGHT,
    PADDING_TOP,
    PADDING_LEFT,
    CHANNEL_STEP,
    ROW_STEP,
    COLUMN_STEP,
) = range(14)
GEOMETRY = 14


@compiled
def convolution(
    layer: Any, weights: Floats, inputs: Floats, outputs: Floats, patches: Floats | None
) -> None:
    """Multiply by the filters and add the biases."""
    if patches is None:  # the network has none
        return
    geometry, weight, bias = layer.geometry, layer.weight, layer.bias
    n_weights, n_places = matrix_shape(geometry)
    n_filters = outputs.size // n_places
    unfold(geometry, inputs, patches)
    for k in range(n_filters):
        for place in range(n_places):
            outputs[k * n_places + place] = weights[bias + k]
    add_product(weights[weight:], n_filters, n_weights, n_weights, 1, patches, outputs, n_places)


@compiled
def convolution_backward(
    layer: Any, weights: Floats, above: Floats, below: Floats, patches: Floats | None
) -> None:
    """Multiply by the transposed filters."""
    if patches is None:
        return
    n_weights, n_places = matrix_shape(layer.geometry)
    for i in range(n_weights * n_places):
        patches[i] = np.float32(0.0)
    filters, n_filters = weights[layer.weight :], above.size // n_places
    add_product(filters, n_weights, n_filters, 1, n_weights, above, patches, n_places)
    fold(layer.geometry, patches, below)


@compiled
def accumulate_convolution_gradient(
    layer: Any,
    inputs: Floats,
    deltas: Floats,
    kept: np.float32,
    gradient: Floats,
    patches: Floats | None,
) -> None:
    """Let the gradient of a convolution fade, and add that of an observation to it."""
    if patches is None:
        return
    n_weights, n_places = matrix_shape(layer.geometry)
    weight, bias = layer.weight, layer.bias
    unfold(layer.geometry, inputs, patches)
    for k in range(deltas.size // n_places):
        delta = deltas[k * n_places : (k + 1) * n_places]
        row = gradient[weight + k * n_weights : weight + (k + 1) * n_weights]
        i = 0
        while i + 4 <= n_weights:
            first, second = patches[i * n_places :], patches[(i + 1) * n_places :]
            third, fourth = patches[(i + 2) * n_places :], patches[(i + 3) * n_places :]
            a = b = c = d = np.float32(0.0)
            for place in range(n_places):
                a, b = a + delta[place] * first[place], b + delta[place] * second[place]
                c, d = c + delta[place] * third[place], d + delta[place] * fourth[place]
            row[i] = kept * row[i] + a
            row[i + 1] = kept * row[i + 1] + b
            row[i + 2] = kept * row[i + 2] + c
            row[i + 3] = kept * row[i + 3] + d
            i += 4
        while i < n_weights:
            patch, a = patches[i * n_places :], np.float32(0.0)
            for place in range(n_places):
                a += delta[place] * patch[place]
            row[i] = kept * row[i] + a
            i += 1
        for i in range(n_weights):
            row[i] = flushed(row[i])
        total = np.float32(0.0)
        for place in range(n_places):
            total += delta[place]
        gradient[bias + k] = kept * gradient[bias + k] + total


@compiled
def matrix_shape(geometry: Ints) -> tuple[int, int]:
    """Tell how many weights a filter has, and at how many places it is applied."""
    n_weights = geometry[CHANNELS] * geometry[KERNEL_HEIGHT] * geometry[KERNEL_WIDTH]
    return n_weights, geometry[OUT_HEIGHT] * geometry[OUT_WIDTH]


@compiled
def inside(offset: int, stride: int, n_out: int, n_in: int) -> tuple[int, int]:
    """Tell from which to which place a weight meets the image, and not the padding around it."""
    first = max(0, -(offset // stride))
    last = min(n_out, (n_in - 1 - offset) // stride + 1)
    return first, max(first, last)


@compiled
def footprint(geometry: Ints, channel: int, y: int, x: int) -> tuple[int, int, int, int, int]:
    """
    Tell where one weight of a filter meets the image.

    :return: The first row and the end of the rows, the first column and the end of the columns of
        such places, and which number of the image it would meet at row 0 and column 0.
    """
    down, right = y - geometry[PADDING_TOP], x - geometry[PADDING_LEFT]
    top, bottom = inside(down, geometry[STRIDE_DOWN], geometry[OUT_HEIGHT], geometry[HEIGHT])
    left, end = inside(right, geometry[STRIDE_RIGHT], geometry[OUT_WIDTH], geometry[WIDTH])
    origin = channel * geometry[CHANNEL_STEP] + down * geometry[ROW_STEP]
    return top, bottom, left, end, origin + right * geometry[COLUMN_STEP]


@compiled
def unfold(geometry: Ints, inputs: Floats, patches: Floats) -> None:
    """Lay out what each weight of a filter meets at every place."""
    out_height, out_width = geometry[OUT_HEIGHT], geometry[OUT_WIDTH]
    row_step = geometry[STRIDE_DOWN] * geometry[ROW_STEP]
    step = geometry[STRIDE_RIGHT] * geometry[COLUMN_STEP]
    begin = 0
    for channel in range(geometry[CHANNELS]):
        for y in range(geometry[KERNEL_HEIGHT]):
            for x in range(geometry[KERNEL_WIDTH]):
                top, bottom, left, end, origin = footprint(geometry, channel, y, x)
                if end - left < out_width or bottom - top < out_height:
                    for place in range(begin, begin + out_height * out_width):
                        patches[place] = np.float32(0.0)
                for row in range(top, bottom):
                    start = origin + row * row_step
                    target = begin + row * out_width
                    for column in range(left, end):
                        patches[target + column] = inputs[start + column * step]
                begin += out_height * out_width


@compiled
def fold(geometry: Ints, patches: Floats, below: Floats) -> None:
    """Add up what :func:`unfold` laid out: derivatives by each input."""
    out_height, out_width = geometry[OUT_HEIGHT], geometry[OUT_WIDTH]
    row_step = geometry[STRIDE_DOWN] * geometry[ROW_STEP]
    step = geometry[STRIDE_RIGHT] * geometry[COLUMN_STEP]
    for i in range(below.size):
        below[i] = np.float32(0.0)
    begin = 0
    for channel in range(geometry[CHANNELS]):
        for y in range(geometry[KERNEL_HEIGHT]):
            for x in range(geometry[KERNEL_WIDTH]):
                top, bottom, left, end, origin = footprint(geometry, channel, y, x)
                for row in range(top, bottom):
                    start = origin + row * row_step
                    source = begin + row * out_width
                    for column in range(left, end):
                        below[start + column * step] += patches[source + column]
                begin += out_height * out_width
