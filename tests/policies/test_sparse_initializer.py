import math
import pickle

import pytest
import torch as th
from torch import nn

from dqn_plugins.policies import SparseInitializer


def drawn(module: nn.Module, sparsity: float = 0.9, seed: int = 0) -> th.Tensor:
    """The weights after initialisation, one row per unit."""
    th.manual_seed(seed)
    SparseInitializer(sparsity)(module)
    return module.weight.detach().flatten(1)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("fan_in", [100, 128, 8, 3, 1])
def test_every_unit_keeps_the_same_number_of_inputs_and_at_least_one(sparsity, fan_in):
    weights = drawn(nn.Linear(fan_in, 40), sparsity)
    n_zeros = (weights == 0).sum(dim=1)
    # Rounded down to whole weights
    assert n_zeros.tolist() == [math.floor(sparsity * fan_in + 1e-9)] * 40
    assert (n_zeros < fan_in).all()


def test_a_unit_of_eight_inputs_keeps_one():
    assert (drawn(nn.Linear(8, 128)) != 0).sum(dim=1).tolist() == [1] * 128


def test_weights_are_uniform_between_lecuns_bounds():
    weights = drawn(nn.Linear(100, 500), 0.5)
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


def test_biases_are_zero():
    layer = nn.Linear(10, 5)
    drawn(layer)
    assert layer.bias.tolist() == [0.0] * 5


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


def test_a_layer_without_a_bias_is_drawn_too():
    assert (drawn(nn.Linear(10, 5, bias=False)) == 0).sum() == 45


def test_other_modules_are_left_alone():
    network = nn.Sequential(nn.Linear(10, 10), nn.LayerNorm(10), nn.Embedding(3, 4))
    before = [p.clone() for module in network[1:] for p in module.parameters()]
    network.apply(SparseInitializer(0.9))
    after = [p for module in network[1:] for p in module.parameters()]
    assert all(map(th.equal, before, after))
    assert (network[0].weight == 0).sum() == 90


def test_the_drawing_follows_torchs_seed():
    first, same, other = (drawn(nn.Linear(20, 20), seed=seed) for seed in (1, 1, 2))
    assert th.equal(first, same)
    assert not th.equal(first, other)


def test_the_drawing_is_no_part_of_the_gradient():
    layer = nn.Linear(10, 5)
    SparseInitializer()(layer)
    assert layer.weight.requires_grad
    assert layer.weight.grad_fn is None
    layer(th.ones(1, 10)).sum().backward()
    assert layer.weight.grad is not None


def test_it_is_nine_tenths_by_default_and_compares_by_value():
    assert SparseInitializer() == SparseInitializer(0.9) != SparseInitializer(0.8)
    assert pickle.loads(pickle.dumps(SparseInitializer(0.7))) == SparseInitializer(0.7)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_a_sparsity_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match=r"sparsity: received .*\[0, 1\)"):
        SparseInitializer(value)
