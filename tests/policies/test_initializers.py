import math

import pytest
import torch as th
from torch import nn

from dqn_plugins.policies import glorot_uniform, orthogonal


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (nn.Linear(200, 100), 200, 100),
        (nn.Conv2d(8, 16, kernel_size=3), 8 * 9, 16 * 9),
    ],
    ids=["linear", "convolution"],
)
def test_weights_are_uniform_between_glorots_bounds(layer, fan_in, fan_out):
    th.manual_seed(0)
    glorot_uniform(layer)
    limit = math.sqrt(6 / (fan_in + fan_out))
    weight = layer.weight.detach()
    assert weight.abs().max() <= limit
    assert weight.min() < -0.98 * limit
    assert weight.max() > 0.98 * limit
    # A uniform distribution's standard deviation; with over 1,000 draws good to 5 %.
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)


def test_biases_are_zero():
    layer = nn.Linear(3, 50)
    nn.init.ones_(layer.bias)
    glorot_uniform(layer)
    assert not layer.bias.any()


def test_a_layer_without_a_bias_is_drawn_too():
    layer = nn.Linear(3, 5, bias=False)
    nn.init.zeros_(layer.weight)
    glorot_uniform(layer)
    assert layer.weight.all()


def test_every_layer_of_a_network_is_drawn_and_nothing_else():
    norm = nn.LayerNorm(5)
    network = nn.Sequential(nn.Linear(3, 5), norm, nn.ReLU(), nn.Linear(5, 2))
    nn.init.constant_(norm.weight, 7.0)
    for layer in (network[0], network[3]):
        nn.init.constant_(layer.weight, 9.0)
        nn.init.constant_(layer.bias, 9.0)
    network.apply(glorot_uniform)
    assert (norm.weight == 7.0).all()
    for layer in (network[0], network[3]):
        assert layer.weight.abs().max() < 2.0
        assert not layer.bias.any()


def test_the_drawing_follows_torchs_seed():
    layers = [nn.Linear(4, 4) for _ in range(3)]
    for seed, layer in zip((0, 0, 1), layers, strict=True):
        th.manual_seed(seed)
        glorot_uniform(layer)
    assert th.equal(layers[0].weight, layers[1].weight)
    assert not th.equal(layers[0].weight, layers[2].weight)


def test_orthogonal_rows_are_orthogonal_and_as_long_as_the_root_of_two():
    layer = nn.Linear(10, 4)
    orthogonal(layer)
    gram = layer.weight @ layer.weight.T
    th.testing.assert_close(gram, 2 * th.eye(4), atol=1e-5, rtol=0)
    assert (layer.bias == 0).all()
    norm = nn.LayerNorm(4)
    orthogonal(norm)
    assert (norm.weight == 1).all()
