"""A policy's network as a table of layers, in the order of its weights."""

from itertools import takewhile
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space
from torch import nn

from dqn_plugins.learning.compiled import layers
from dqn_plugins.learning.compiled.convolution import GEOMETRY
from dqn_plugins.learning.compiled.layers import NONE
from dqn_plugins.policies import ImageExtractor, QNetwork, QPolicy

__all__ = ["NotCompiledError", "network_of", "products_of", "reason_against_layers"]

ACTIVATIONS: dict[type[nn.Module], int] = {
    nn.ReLU: layers.RECTIFIER,
    nn.LeakyReLU: layers.RECTIFIER,
    nn.Tanh: layers.TANH,
    nn.SiLU: layers.SILU,
}


class NotCompiledError(Exception):
    """Why a layer cannot be compiled."""


class _Layer(NamedTuple):
    """A row of the table: its kind, its one number, and how many weights and biases it has."""

    kind: int
    constant: float = 0.0
    n_weights: int = 0
    n_biases: int = 0


def network_of(
    policy: QPolicy,
    weights: np.ndarray,
    rewards: Any,
    normalized: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> layers.Network:
    """
    Describe a policy's network, whose layers can be compiled, to compiled code.

    :param weights: Its weights, flat.
    :param rewards: What its rewards are scaled by, by reference.
    :param normalized: Which observations are normalised, and their statistics.
    """
    q_net = policy.q_net
    rows, constants = [], []
    weight = unit = n_patches = 0
    n_out = get_flattened_obs_dim(policy.observation_space)
    image = _ImageShape.of_observations(q_net)
    for module in _modules_of(q_net):
        geometry: tuple[int, ...] = (0,) * GEOMETRY
        n_in = n_out
        if isinstance(module, nn.Linear):
            n_out = module.out_features
        elif isinstance(module, nn.Conv2d):
            assert image is not None
            geometry, image = image.convolved(module)
            n_out = image.size
            n_places, n_filters = image.height * image.width, module.out_channels
            n_patches = max(n_patches, module.weight.numel() // n_filters * n_places)
        for layer in _as_layers(module):
            places = (weight, weight + layer.n_weights) if layer.n_weights else (NONE, NONE)
            rows.append((layer.kind, n_in, n_out, *places, unit, unit + n_in, *geometry))
            constants.append(layer.constant)
            weight += layer.n_weights + layer.n_biases
            unit += n_in
            n_in = n_out
    local_values = getattr(q_net, "local_values", None)
    if local_values is not None:
        n_inputs, n_features, features = rows[0][1], local_values.weight.shape[1], unit + n_out
        rest = (0,) * GEOMETRY
        rows += [
            (layers.LOCAL_FEATURES, n_inputs, n_features, NONE, NONE, 0, features, *rest),
            (layers.LINEAR, n_features, n_out, weight, NONE, features, unit, *rest),
        ]
        constants += [0.0, 0.0]
        unit += n_features
    is_divided = q_net.normalize_images and is_image_space(policy.observation_space)
    return layers.Network(
        weights,
        np.array(rows, np.int64),
        np.array(constants, np.float64),
        *normalized,
        255.0 if is_divided else 1.0,
        np.zeros((3, unit + n_out), np.float32),
        np.zeros(n_patches, np.float32) if n_patches else None,
        None if local_values is None else rewards,
    )


def reason_against_layers(q_net: QNetwork) -> str | None:
    """Tell why a network's layers cannot be compiled, and what is needed; None if they can."""
    try:
        for module in _modules_of(q_net):
            _as_layers(module)
    except NotCompiledError as error:
        return str(error)
    if isinstance(q_net.features_extractor, ImageExtractor):
        for module in takewhile(_keeps_images, q_net.features_extractor.layers):
            if type(module) is nn.LayerNorm and len(module.normalized_shape) != 3:
                return "layer normalisation is of a part of an image, it must be of the whole"
    if not len(q_net.q_net) or type(q_net.q_net[-1]) is not nn.Linear:
        return "the network does not end with a linear layer"
    return None


def products_of(q_net: QNetwork) -> int:
    """Count how often a network's convolutions multiply for one image."""
    image, products = _ImageShape.of_observations(q_net), 0
    for module in _modules_of(q_net):
        if isinstance(module, nn.Conv2d):
            assert image is not None
            _, image = image.convolved(module)
            products += module.weight.numel() * image.height * image.width
    return products


def _as_layers(module: nn.Module) -> list[_Layer]:
    """Translate a module. A subclass may compute something else, so it is none of the known."""
    if type(module) is nn.Linear:
        if module.bias is None:
            raise NotCompiledError("a linear layer has no bias")
        return [_Layer(layers.LINEAR, 0.0, module.weight.numel(), module.out_features)]
    if type(module) is nn.Conv2d:
        if module.bias is None:
            raise NotCompiledError("a convolution has no bias")
        if module.dilation != (1, 1) or module.groups != 1 or module.padding_mode != "zeros":
            raise NotCompiledError("a convolution is dilated, in groups, or padded by other than 0")
        return [_Layer(layers.CONVOLUTION, 0.0, module.weight.numel(), module.out_channels)]
    if type(module) is nn.LayerNorm:
        if len(module.normalized_shape) not in (1, 3):
            raise NotCompiledError("layer normalisation is over other than a vector or an image")
        norm = _Layer(layers.LAYER_NORM, module.eps)
        if not module.elementwise_affine:
            return [norm]
        if module.bias is None:
            raise NotCompiledError("layer normalisation learns a scale without a shift")
        return [norm, _Layer(layers.SCALE, 0.0, module.weight.numel(), module.bias.numel())]
    if type(module) in ACTIVATIONS:
        return [_Layer(ACTIVATIONS[type(module)], getattr(module, "negative_slope", 0.0))]
    raise NotCompiledError(
        f"the network has a layer {type(module).__name__}, it must be Linear, Conv2d, LayerNorm, "
        "ReLU, LeakyReLU, Tanh or SiLU"
    )


def _keeps_images(module: nn.Module) -> bool:
    return type(module) is not nn.Flatten


def _modules_of(q_net: QNetwork) -> list[nn.Module]:
    """List a network's layers in the order of its weights, without those that only reshape."""
    modules = list(q_net.q_net)
    if isinstance(q_net.features_extractor, ImageExtractor):
        modules = [*q_net.features_extractor.layers, *modules]
    return [module for module in modules if _keeps_images(module)]


class _ImageShape(NamedTuple):
    """
    The shape of an image, and its layout in memory: how many numbers it is from one channel, row
    and column to the next.
    """

    channels: int
    height: int
    width: int
    steps: tuple[int, int, int]

    @classmethod
    def of_observations(cls, q_net: QNetwork) -> "_ImageShape | None":
        """Find the shape of the observations; None if the network does not take them as images."""
        extractor = q_net.features_extractor
        if not isinstance(extractor, ImageExtractor):
            return None
        shape = q_net.observation_space.shape
        assert shape is not None
        if not extractor.channels_last:
            return cls.in_order(*shape)
        height, width, channels = shape
        return cls(channels, height, width, (1, width * channels, channels))

    @classmethod
    def in_order(cls, channels: int, height: int, width: int) -> "_ImageShape":
        """Tell the layout of torch's images, channel by channel and row by row."""
        return cls(channels, height, width, (height * width, width, 1))

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.channels * self.height * self.width

    def convolved(self, module: nn.Conv2d) -> tuple[tuple[int, ...], "_ImageShape"]:
        """Describe a convolution as ``convolution.py`` does, and find the shape of its outputs."""
        kernel, stride = module.kernel_size, module.stride
        # torch's own: left, right, top and bottom, which differ where "same" is uneven
        left, right, top, bottom = module._reversed_padding_repeated_twice
        out = self.in_order(
            module.out_channels,
            (self.height + top + bottom - kernel[0]) // stride[0] + 1,
            (self.width + left + right - kernel[1]) // stride[1] + 1,
        )
        geometry = (*self[:3], *out[1:3], *kernel, *stride, top, left, *self.steps)
        return geometry, out
