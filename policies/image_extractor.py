"""Features of images of any size: the convolutions of a Q-network."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

__all__ = ["LARGE_IMAGES", "SMALL_IMAGES", "Convolution", "ImageExtractor"]


class Convolution(NamedTuple):
    """
    One layer of convolutions.

    :param n_filters: Number of filters.
    :param kernel_size: Side of a filter, in pixels.
    :param stride: How many pixels lie between two places that a filter looks at.
    :param padding: "valid" keeps filters inside the image; "same" surrounds it with zeros, so that
        with stride 1, which it needs, the map is as large as the image.
    """

    n_filters: int
    kernel_size: int
    stride: int = 1
    padding: Literal["valid", "same"] = "valid"


SMALL_IMAGES = (Convolution(16, 3, 1),)
"""The convolutions of the MinAtar paper's network: Young and Tian (2019), arXiv 1903.03176."""

LARGE_IMAGES = (Convolution(32, 8, 5), Convolution(64, 4, 3), Convolution(64, 3, 2))
"""The stream-x network for 84×84 pixels: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606."""


class ImageExtractor(BaseFeaturesExtractor):
    """
    Convolutions over an image of any size and type, its channels first or last.

    The network's hidden layers come after it. By default they are one of :attr:`default_units`, or
    none after ``features_dim``.

    :param observation_space: An image: a Box of three dimensions, of which one is the channels.
    :param convolutions: The layers of convolutions, each a :class:`Convolution` or (filters, kernel
        size, stride, padding), of which the last two may be left out. By default
        :data:`SMALL_IMAGES` or, where the shorter side has 53 pixels or more,
        :data:`LARGE_IMAGES`.
    :param channels_last: Whether the channels are the last dimension. By default they are wherever
        the last dimension is not larger than the first.
    :param activation_fn: Activation function.
    :param layer_norm: Whether to normalise each map as a whole, over filters and places, before its
        activation, without learned scale and shift.
    :param features_dim: Number of features that a last linear layer makes of the maps, as in
        Stable-Baselines3's ``NatureCNN``; None leaves the maps as they are.
    :param normalized_image: Without effect: that of ``NatureCNN``, by which images of other numbers
        than bytes are taken, which are taken here anyway.
    :raises ValueError: If the space is no image, or too small for the convolutions.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        convolutions: Sequence[tuple[Any, ...]] | None = None,
        channels_last: bool | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        layer_norm: bool = False,
        features_dim: int | None = None,
        normalized_image: bool = False,
    ) -> None:
        height, width, n_channels, channels_last = _layout(observation_space, channels_last)
        if convolutions is None:
            convolutions = LARGE_IMAGES if _is_large(height, width) else SMALL_IMAGES
        modules: list[nn.Module] = []
        for layer in convolutions:
            n_filters, kernel_size, stride, padding = Convolution(*layer)
            if padding == "valid":
                if min(height, width) < kernel_size:
                    raise ValueError(
                        f"observation_space: received {observation_space}, of which {height}×"
                        f"{width} places are left for filters of {kernel_size}×{kernel_size}. Pass "
                        "features_extractor_kwargs=dict(convolutions=[(16, 1)]) or 'MlpPolicy'."
                    )
                height, width = ((side - kernel_size) // stride + 1 for side in (height, width))
            modules.append(nn.Conv2d(n_channels, n_filters, kernel_size, stride, padding))
            n_channels = n_filters
            if layer_norm:
                size = (n_channels, height, width)
                modules.append(nn.LayerNorm(size, elementwise_affine=False))
            modules.append(activation_fn())
        n_features = n_channels * height * width
        modules.append(nn.Flatten())
        if features_dim is not None:
            modules.append(nn.Linear(n_features, features_dim))
            if layer_norm:
                modules.append(nn.LayerNorm(features_dim, elementwise_affine=False))
            modules.append(activation_fn())
            n_features = features_dim
        super().__init__(observation_space, n_features)
        self.channels_last = channels_last
        self.layers = nn.Sequential(*modules)

    @staticmethod
    def default_units(
        observation_space: spaces.Space[Any], channels_last: bool | None = None, **_: Any
    ) -> int:
        """
        Tell how many units the hidden layer after the convolutions has, unless it is chosen.

        :param observation_space: The observation space.
        :param channels_last: As for the extractor, whose other arguments do not matter.
        :return: 256 where the shorter side has 53 pixels or more, 128 for smaller images.
        :raises ValueError: If the space is no image.
        """
        height, width, *_rest = _layout(observation_space, channels_last)
        return 256 if _is_large(height, width) else 128

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract features.

        :param observations: Images, shape (n, ...), float32.
        :return: Features, shape (n, features_dim).
        """
        if self.channels_last:
            observations = observations.movedim(-1, 1)
        features: th.Tensor = self.layers(observations)
        return features


def _layout(
    observation_space: spaces.Space[Any], channels_last: bool | None
) -> tuple[int, int, int, bool]:
    """Find the height, the width and the channels of an image, and whether these come last."""
    shape = observation_space.shape
    if not isinstance(observation_space, spaces.Box) or shape is None or len(shape) != 3:
        raise ValueError(
            f"observation_space: received {observation_space}, it must be an image for CnnPolicy: "
            "a Box of height, width and channels. Pass 'MlpPolicy' for vectors, 'MultiInputPolicy' "
            "for dictionaries."
        )
    if channels_last is None:
        channels_last = shape[-1] <= shape[0]
    if channels_last:
        return shape[0], shape[1], shape[2], True
    return shape[1], shape[2], shape[0], False


def _is_large(height: int, width: int) -> bool:
    """Tell whether the convolutions for large images leave at least one place."""
    return min(height, width) >= 53
