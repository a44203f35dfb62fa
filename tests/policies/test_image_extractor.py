"""The convolutions over images of any size, type and layout."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from dqn_plugins.policies import (
    CnnPolicy,
    Convolution,
    ImageExtractor,
    StreamCnnPolicy,
)
from dqn_plugins.policies.image_extractor import LARGE_IMAGES, SMALL_IMAGES

ACTIONS = spaces.Discrete(3)


def image(*shape: int, dtype: type = np.float32) -> spaces.Box:
    return spaces.Box(0, 255 if dtype is np.uint8 else 1, shape, dtype)


def convolutions(module: nn.Module) -> list[Convolution]:
    return [
        Convolution(layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d)
    ]


@pytest.mark.parametrize(
    ("shape", "expected", "features", "units"),
    [
        ((10, 10, 4), SMALL_IMAGES, 16 * 8 * 8, 128),
        ((4, 10, 10), SMALL_IMAGES, 16 * 8 * 8, 128),
        ((10, 10, 10), SMALL_IMAGES, 16 * 8 * 8, 128),
        ((3, 3, 1), SMALL_IMAGES, 16, 128),
        ((52, 90, 3), SMALL_IMAGES, 16 * 50 * 88, 128),
        ((53, 53, 3), LARGE_IMAGES, 64, 256),
        ((84, 84, 4), LARGE_IMAGES, 256, 256),
        ((4, 84, 84), LARGE_IMAGES, 256, 256),
        ((210, 160, 3), LARGE_IMAGES, 64 * 6 * 4, 256),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.bool_])
def test_the_network_follows_the_size_of_the_image(shape, expected, features, units, dtype):
    space = image(*shape, dtype=dtype)
    policy = StreamCnnPolicy(space, ACTIONS, lambda _: 1e-3)
    assert tuple(convolutions(policy.q_net)) == expected
    assert policy.q_net.features_dim == features
    assert policy.q_net.net_arch == [units]
    space.seed(0)
    assert ACTIONS.contains(int(policy.predict(space.sample())[0]))


def test_a_padded_map_is_as_large_as_the_image():
    extractor = ImageExtractor(image(6, 5, 2), convolutions=[Convolution(3, 3, padding="same")])
    assert extractor.features_dim == 3 * 6 * 5
    assert extractor(th.rand(2, 6, 5, 2)).shape == (2, 90)


def test_where_the_channels_are_can_be_said():
    cube = image(10, 10, 10)
    assert ImageExtractor(cube).channels_last
    first = ImageExtractor(cube, channels_last=False)
    last = ImageExtractor(cube)
    first.load_state_dict(last.state_dict())
    obs = th.rand(2, 10, 10, 10)
    assert th.equal(first(obs.movedim(-1, 1)), last(obs))
    tall = StreamCnnPolicy(
        image(60, 60, 70),
        ACTIONS,
        lambda _: 1e-3,
        features_extractor_kwargs={"channels_last": True},
    )
    assert tall.q_net.net_arch == [256]


def test_the_extractor_has_the_policys_layers_unless_it_is_given_its_own():
    def layers(**kwargs):
        policy = CnnPolicy(image(6, 6, 2), ACTIONS, lambda _: 1e-3, **kwargs)
        return [type(layer) for layer in policy.q_net.features_extractor.layers]

    assert layers() == [nn.Conv2d, nn.ReLU, nn.Flatten]
    normalised = [nn.Conv2d, nn.LayerNorm, nn.Tanh, nn.Flatten]
    assert layers(layer_norm=True, activation_fn=nn.Tanh) == normalised
    own = {"layer_norm": False, "activation_fn": nn.ReLU, "convolutions": [(2, 2, 1), (3, 2, 2)]}
    assert layers(layer_norm=True, activation_fn=nn.Tanh, features_extractor_kwargs=own) == [
        nn.Conv2d,
        nn.ReLU,
        nn.Conv2d,
        nn.ReLU,
        nn.Flatten,
    ]


def test_each_map_is_normalised_as_a_whole():
    extractor = ImageExtractor(image(6, 5, 2), layer_norm=True, activation_fn=nn.Identity)
    features = extractor(th.rand(3, 6, 5, 2)).detach().numpy()
    np.testing.assert_allclose(features.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(features.var(axis=1), 1.0, rtol=1e-2)


def test_small_images_are_normalised_by_what_was_seen_only_on_request_and_photographs_never():
    for dtype, normalised in [(np.bool_, True), (np.float32, True), (np.uint8, False)]:
        arguments = image(10, 10, 4, dtype=dtype), ACTIONS, lambda _: 1e-3
        assert StreamCnnPolicy(*arguments).q_net.observation_normalizer is None
        policy = StreamCnnPolicy(*arguments, normalize_observations=True)
        assert bool(len(policy.q_net.observation_normalizer.statistics)) is normalised


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 1, (4,)), "must be an image for CnnPolicy: a Box of height, width"),
        (spaces.Box(0, 1, (2, 8, 8, 3)), "must be an image for CnnPolicy"),
        (spaces.Discrete(5), "Pass 'MlpPolicy' for vectors"),
        (image(2, 9, 1), "of which 2×9 places are left for filters of 3×3"),
    ],
)
def test_what_is_no_image_is_refused_with_the_fix(space, message):
    with pytest.raises(ValueError, match=message):
        StreamCnnPolicy(space, ACTIONS, lambda _: 1e-3)
