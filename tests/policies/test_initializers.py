import math
import pickle
from typing import Any

import pytest
import torch as th
from torch import nn

from dqn_plugins.policies import SparseInitializer, glorot_uniform, orthogonal


def drawn(module: nn.Module, initializer: Any = None, seed: int = 0) -> th.Tensor:
    """The weights after initialisation, by default nine tenths sparse, one row per unit."""
    th.manual_seed(seed)
    (initializer or SparseInitializer(0.9))(module)
    return module.weight.detach().flatten(1)


# Any of them


@pytest.mark.parametrize("initializer", [glorot_uniform, orthogonal, SparseInitializer(0.5)])
def test_linear_layers_and_convolutions_are_drawn_by_torchs_seed_and_nothing_else(initializer):
    def network() -> nn.Sequential:
        made = nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.LayerNorm(5), nn.Linear(6, 5), nn.Embedding(3, 4)
        )
        for param in made.parameters():
            nn.init.constant_(param, 9.0)
        return made

    networks = [network() for _ in range(3)]
    for seed, each in zip((1, 1, 2), networks, strict=True):
        th.manual_seed(seed)
        each.apply(initializer)
        for layer in (each[0], each[2]):
            assert (layer.weight < 2.0).all()
            assert not layer.bias.any()
        assert all((p == 9.0).all() for left in (each[1], each[3]) for p in left.parameters())
    for one, same, other in zip(*(each[::2].parameters() for each in networks), strict=True):
        assert th.equal(one, same)
        assert not th.equal(one, other) or one.ndim == 1
    assert drawn(nn.Linear(10, 5, bias=False), initializer).any()
    # The drawing is no part of the gradient.
    layer = networks[0][2]
    assert layer.weight.grad_fn is None
    layer(th.ones(1, 6)).sum().backward()
    assert layer.weight.grad is not None


# Glorot's


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (nn.Linear(200, 100), 200, 100),
        (nn.Conv2d(8, 16, kernel_size=3), 8 * 9, 16 * 9),
    ],
    ids=["linear", "convolution"],
)
def test_weights_are_uniform_between_glorots_bounds(layer, fan_in, fan_out):
    limit, weight = math.sqrt(6 / (fan_in + fan_out)), drawn(layer, glorot_uniform)
    assert weight.abs().max() <= limit
    assert weight.min() < -0.98 * limit
    assert weight.max() > 0.98 * limit
    # A uniform distribution's standard deviation; with over 1,000 draws good to 5 %.
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)


# Orthogonal


def test_orthogonal_rows_are_orthogonal_and_as_long_as_the_root_of_two():
    weight = drawn(nn.Linear(10, 4), orthogonal)
    th.testing.assert_close(weight @ weight.T, 2 * th.eye(4), atol=1e-5, rtol=0)


# Sparse


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("fan_in", [100, 128, 8, 3, 1])
def test_every_unit_keeps_the_same_number_of_inputs_and_at_least_one(sparsity, fan_in):
    weights = drawn(nn.Linear(fan_in, 40), SparseInitializer(sparsity))
    n_zeros = (weights == 0).sum(dim=1)
    # Rounded down to whole weights
    assert n_zeros.tolist() == [math.floor(sparsity * fan_in + 1e-9)] * 40
    assert (n_zeros < fan_in).all()


def test_weights_are_uniform_between_lecuns_bounds():
    weights = drawn(nn.Linear(100, 500), SparseInitializer(0.5))
    kept = weights[weights != 0]
    bound = 0.1  # 1/√100
    assert kept.abs().max() <= bound
    assert kept.abs().max() > 0.99 * bound
    # 25,000 numbers: the mean of a uniform distribution is known to 0.06/√25000 = 4e-4
    assert kept.mean().abs() < 5 * 4e-4
    assert kept.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_the_inputs_that_are_kept_are_chosen_at_random_for_each_unit():
    kept = drawn(nn.Linear(20, 2000)) != 0
    assert len({tuple(row.tolist()) for row in kept}) > 150  # of 190 pairs
    # Each input is kept by 2 of 20 units: 200 of 2000, give or take 13
    assert (kept.sum(dim=0) - 200).abs().max() < 5 * 13.5


@pytest.mark.parametrize(
    ("module", "fan_in"),
    [(nn.Conv2d(4, 6, 5), 100), (nn.Conv1d(10, 6, 3), 30), (nn.Conv2d(4, 6, 5, groups=2), 50)],
)
def test_a_convolution_counts_its_whole_kernel_as_inputs(module, fan_in):
    weights = drawn(module)
    assert weights.shape == (6, fan_in)
    assert (weights == 0).sum(dim=1).tolist() == [int(0.9 * fan_in)] * 6
    assert weights.abs().max() <= fan_in**-0.5
    assert not module.bias.any()


def test_it_is_nine_tenths_by_default_and_compares_by_value():
    assert SparseInitializer() == SparseInitializer(0.9) != SparseInitializer(0.8)
    assert pickle.loads(pickle.dumps(SparseInitializer(0.7))) == SparseInitializer(0.7)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_a_sparsity_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"sparsity: received .*\[0, 1\)"):
        SparseInitializer(value)
