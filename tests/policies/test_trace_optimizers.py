import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch as th

from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    TraceAdam,
    TraceOptimizer,
)

KINDS: list[Any] = [
    *(ObGD, AdaptiveObGD, TraceAdam),
    *(AdaptiveQOptimizer, IntentionalOptimizer, MaxScaledOptimizer),
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
NO_RATES = [-0.1, 1.0, math.nan]


def parameter(*values: float) -> th.nn.Parameter:
    return th.nn.Parameter(th.tensor(values, dtype=th.float64))


def make(kind: Any, *values: float, n_envs: int = 1, **kwargs: Any) -> tuple[th.nn.Parameter, Any]:
    """A parameter, and an optimiser of it with traces for so many environments."""
    param = parameter(*values)
    optimizer = kind([param], **kwargs)
    optimizer.keep_traces_for(n_envs)
    return param, optimizer


def accumulate(
    optimizer: TraceOptimizer, env_index: int, decay: float, *gradients: tuple[float, ...]
) -> None:
    """Take one environment's gradient in, given parameter by parameter."""
    gradient = [th.tensor(part, dtype=th.float64) for part in gradients]
    optimizer.accumulate([gradient], decay, np.array([env_index]))


def accumulate_all(optimizer: TraceOptimizer, decay: float, *gradients: tuple[float, ...]) -> None:
    """Take a gradient of every environment in, of the only parameter."""
    optimizer.accumulate([[th.tensor(g, dtype=th.float64)] for g in gradients], decay)


def step(optimizer: TraceOptimizer, *td_errors: float) -> None:
    optimizer.step(th.tensor(td_errors, dtype=th.float64))


def trace(optimizer: TraceOptimizer, param: th.Tensor) -> list[list[float]]:
    return optimizer.state[param]["trace"].tolist()


# Traces


def test_more_traces_than_memory_holds_are_refused():
    optimizer = TraceAdam([parameter(1.0, 2.0)])
    optimizer.keep_traces_for(2)
    with pytest.raises(ValueError, match=r"n_envs: .*16000000\.0 GB; .* free\. Take at most \d+"):
        optimizer.keep_traces_for(10**15)


@EVERY_KIND
def test_a_trace_fades_and_takes_in_the_gradient(kind):
    param, optimizer = make(kind, 1.0, 2.0, n_envs=2)
    assert trace(optimizer, param) == [[0.0, 0.0], [0.0, 0.0]]
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    accumulate(optimizer, 1, 0.5, (0.0, 2.0))
    assert trace(optimizer, param) == [[3.0, -1.0], [0.0, 2.0]]
    accumulate(optimizer, 0, 0.5, (1.0, 1.0))
    assert trace(optimizer, param) == [[2.5, 0.5], [0.0, 2.0]]
    # With 0 a new trace begins.
    accumulate(optimizer, 1, 0.0, (7.0, 0.0))
    assert trace(optimizer, param) == [[2.5, 0.5], [7.0, 0.0]]
    optimizer.clear(0)
    assert trace(optimizer, param) == [[0.0, 0.0], [7.0, 0.0]]
    assert param.tolist() == [1.0, 2.0]


@EVERY_KIND
def test_traces_are_kept_for_the_same_number_of_environments_and_zero_for_another(kind):
    param, optimizer = make(kind, 1.0, 2.0)
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    optimizer.keep_traces_for(1)
    assert trace(optimizer, param) == [[3.0, -1.0]]
    optimizer.keep_traces_for(3)
    assert trace(optimizer, param) == [[0.0, 0.0]] * 3


@EVERY_KIND
def test_a_trace_a_td_error_or_a_learning_rate_of_zero_moves_nothing_at_first(kind):
    param, optimizer = make(kind, 1.0, 2.0, lr=1.0)
    step(optimizer, 5.0)
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    step(optimizer, 0.0)
    optimizer.param_groups[0]["lr"] = 0.0
    step(optimizer, 5.0)
    assert param.tolist() == [1.0, 2.0]


# ObGD, by hand


def test_obgd_takes_the_two_steps_worked_out_by_hand():
    param, optimizer = make(ObGD, 1.0, 2.0, lr=1.0, overshoot_factor=2.0)
    # z = (3, −1), ‖z‖ = 4, M = 1·2·max(0.5, 1)·4 = 8: the step is 1/8·0.5·z
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    step(optimizer, 0.5)
    assert param.tolist() == [1.1875, 1.9375]
    # z = (2.5, 0.5), ‖z‖ = 3, M = 2·4·3 = 24: the step is 1/24·(−4)·z
    accumulate(optimizer, 0, 0.5, (1.0, 1.0))
    step(optimizer, -4.0)
    assert param.tolist() == pytest.approx([1.1875 - 2.5 / 6, 1.9375 - 0.5 / 6], rel=1e-14)


# Adaptive ObGD, by hand


def test_adaptive_obgd_takes_the_two_steps_worked_out_by_hand():
    param, optimizer = make(
        AdaptiveObGD, 1.0, 2.0, lr=1.0, overshoot_factor=2.0, beta2=0.99, eps=0.25
    )
    # δz = (1.5, −0.5); corrected, the mean square is its square: (2.25, 0.25)
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    step(optimizer, 0.5)
    scaled = (3.0 / math.sqrt(2.5), -1.0 / math.sqrt(0.5))
    bound = 2.0 * 1.0 * (scaled[0] - scaled[1])
    first = [1.0 + 0.5 / bound * scaled[0], 2.0 + 0.5 / bound * scaled[1]]
    assert param.tolist() == pytest.approx(first, rel=1e-14)
    # z = (2.5, 0.5), δz = (−10, −2)
    accumulate(optimizer, 0, 0.5, (1.0, 1.0))
    step(optimizer, -4.0)
    squares = [
        (0.99 * 0.01 * 2.25 + 0.01 * 100.0) / (1 - 0.99**2),
        (0.99 * 0.01 * 0.25 + 0.01 * 4.0) / (1 - 0.99**2),
    ]
    scaled = (2.5 / math.sqrt(squares[0] + 0.25), 0.5 / math.sqrt(squares[1] + 0.25))
    bound = 2.0 * 4.0 * (scaled[0] + scaled[1])
    second = [w - 4.0 / bound * z for w, z in zip(first, scaled, strict=True)]
    assert param.tolist() == pytest.approx(second, rel=1e-14)


# Adam on traces


@pytest.mark.parametrize("n_envs", [1, 2])
def test_trace_adam_is_torchs_adam_on_the_mean_of_the_products(n_envs):
    ours, theirs = parameter(1.0, 2.0, 3.0), parameter(1.0, 2.0, 3.0)
    arguments = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3}
    optimizer, reference = TraceAdam([ours], **arguments), th.optim.Adam([theirs], **arguments)
    optimizer.keep_traces_for(n_envs)
    generator = th.Generator().manual_seed(0)
    z = th.zeros(n_envs, 3, dtype=th.float64)
    for _ in range(30):
        gradients = th.randn(n_envs, 3, generator=generator, dtype=th.float64)
        td_errors = th.randn(n_envs, generator=generator, dtype=th.float64)
        for env_index in range(n_envs):
            accumulate(optimizer, env_index, 0.7, tuple(gradients[env_index].tolist()))
        optimizer.step(td_errors)
        z = 0.7 * z + gradients
        theirs.grad = -(td_errors[:, None] * z).mean(dim=0)
        reference.step()
    th.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# Adaptive Q(λ)'s, by hand


def test_adaptive_q_takes_the_two_steps_worked_out_by_hand():
    param, optimizer = make(AdaptiveQOptimizer, 1.0, 2.0, lr=0.1, eps=0.5)
    # z = g = (3, −1), v = ¼·g², whose root is (1.5, 0.5): the step is 0.1·0.5·(3/2, −1/1)
    accumulate(optimizer, 0, 0.75, (3.0, -1.0))
    step(optimizer, 0.5)
    assert param.tolist() == pytest.approx([1.075, 1.95], rel=1e-14)
    # z = (3.25, 0.25), and v takes in the gradient (1, 1): ¾·(2.25, 0.25) + ¼ = (1.9375, 0.4375)
    accumulate(optimizer, 0, 0.75, (1.0, 1.0))
    step(optimizer, -4.0)
    expected = [
        1.075 - 0.4 * 3.25 / (math.sqrt(1.9375) + 0.5),
        1.95 - 0.4 * 0.25 / (math.sqrt(0.4375) + 0.5),
    ]
    assert param.tolist() == pytest.approx(expected, rel=1e-14)


def test_adaptive_q_keeps_its_mean_square_when_a_trace_is_cut():
    param, optimizer = make(AdaptiveQOptimizer, 1.0, 2.0, lr=0.1, eps=0.5)
    accumulate(optimizer, 0, 0.75, (4.0, 0.0))
    optimizer.clear(0)
    accumulate(optimizer, 0, 0.75, (0.0, 2.0))
    assert trace(optimizer, param) == [[0.0, 2.0]]
    assert optimizer.state[param]["exp_avg_sq"].tolist() == [3.0, 1.0]


# Intentional updates, by hand


def test_an_intentional_update_takes_the_two_steps_worked_out_by_hand():
    param, optimizer = make(IntentionalOptimizer, 1.0, 2.0, lr=0.25, beta2=0.75, eps=0.5)
    # Corrected, v is g² = (9, 1): D = (1/3.5, 1/1.5); σ = zᵀDz = gᵀDg, so α = 0.25/σ
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    step(optimizer, 0.5)
    norm = 9 / 3.5 + 1 / 1.5
    first = [1.0 + 0.125 / norm * 3 / 3.5, 2.0 - 0.125 / norm / 1.5]
    assert param.tolist() == pytest.approx(first, rel=1e-14)
    # v = (¾·¼·(9, 1) + ¼·(1, 1)) / (1 − ¾²), z = (2.5, 0.5), σ = (½·½·norm + ½·gᵀDg) / (1 − ½²)
    accumulate(optimizer, 0, 0.5, (1.0, 1.0))
    step(optimizer, -4.0)
    v = (0.75 * 0.25 * 9 + 0.25) / 0.4375, (0.75 * 0.25 + 0.25) / 0.4375
    scales = [1 / (math.sqrt(v[0]) + 0.5), 1 / (math.sqrt(v[1]) + 0.5)]
    sigma = (0.25 * norm + 0.5 * (scales[0] + scales[1])) / 0.75
    size = 0.25 / math.sqrt(sigma * (6.25 * scales[0] + 0.25 * scales[1]))
    second = [first[0] - 4 * size * scales[0] * 2.5, first[1] - 4 * size * scales[1] * 0.5]
    assert param.tolist() == pytest.approx(second, rel=1e-13)


def test_an_intentional_update_normalises_by_all_parameters_together():
    one, other = parameter(1.0), parameter(2.0)
    groups = [{"params": [one]}, {"params": [other], "lr": 0.5, "eps": 1.0}]
    optimizer = IntentionalOptimizer(groups, lr=0.25, beta2=0.75, eps=0.5)
    optimizer.keep_traces_for(1)
    # D is 1/3.5 for the one and 1/2 for the other; σ = zᵀDz = 9/3.5 + 1/2
    accumulate(optimizer, 0, 0.5, (3.0,), (-1.0,))
    step(optimizer, 2.0)
    norm = 9 / 3.5 + 1 / 2
    assert one.item() == pytest.approx(1.0 + 0.25 / norm * 2 * 3 / 3.5, rel=1e-14)
    assert other.item() == pytest.approx(2.0 - 0.5 / norm * 2 / 2, rel=1e-14)


@pytest.mark.parametrize(("decay", "weight"), [(0.0, 0.0), (0.5, 1 / 3), (1.0, 1 / 2)])
def test_the_mean_norm_of_intentional_updates_fades_as_traces_do(decay, weight):
    # Weights of the first of two norms: 0, ½/(1 + ½), and with a decay of 1 those of a plain mean
    param, optimizer = make(IntentionalOptimizer, 1.0, beta2=0.0, eps=1.0)
    accumulate(optimizer, 0, decay, (3.0,))
    accumulate(optimizer, 0, decay, (1.0,))
    # With β₂ = 0, gᵀDg is 9/(3 + 1) and then 1/(1 + 1).
    expected = weight * 9 / 4 + (1 - weight) / 2
    assert optimizer.state[param]["squared_norm"].item() == pytest.approx(expected, rel=1e-14)


# Scaled by the largest, by hand


def test_steps_scaled_by_the_largest_are_those_worked_out_by_hand():
    param, optimizer = make(MaxScaledOptimizer, 1.0, 2.0, lr=0.1, beta2=0.5, eps=0.5)
    # u = δz = (1.5, −0.5), v = |u|: the step is 0.1·(1.5/2, −0.5/1)
    accumulate(optimizer, 0, 0.5, (3.0, -1.0))
    step(optimizer, 0.5)
    assert param.tolist() == pytest.approx([1.075, 1.95], rel=1e-14)
    # z = (2.5, 0.5), u = (0.5, 0.1), v = (max(0.75, 0.5), max(0.25, 0.1))
    accumulate(optimizer, 0, 0.5, (1.0, 1.0))
    step(optimizer, 0.2)
    second = [1.075 + 0.1 * 0.5 / 1.25, 1.95 + 0.1 * 0.1 / 0.75]
    assert param.tolist() == pytest.approx(second, rel=1e-14)
    # u = (0, 4): the one v fades to half, the other jumps.
    accumulate(optimizer, 0, 0.0, (0.0, 1.0))
    step(optimizer, 4.0)
    assert param.tolist() == pytest.approx([second[0], second[1] + 0.4 / 4.5], rel=1e-14)
    assert optimizer.state[param]["exp_inf"].tolist() == [0.375, 4.0]


def test_steps_scaled_by_the_largest_take_the_mean_of_two_environments():
    param, optimizer = make(MaxScaledOptimizer, 1.0, 2.0, n_envs=2, lr=0.1, beta2=0.5, eps=0.5)
    accumulate_all(optimizer, 0.5, (3.0, -1.0), (1.0, 1.0))
    step(optimizer, 0.5, 2.0)
    # The mean of δz is ((1.5, −0.5) + (2, 2))/2 = (1.75, 0.75).
    expected = [1.0 + 0.1 * 1.75 / 2.25, 2.0 + 0.1 * 0.75 / 1.25]
    assert param.tolist() == pytest.approx(expected, rel=1e-14)


# State


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (ObGD, {"lr": 1.0, "overshoot_factor": 2.0}),
        (AdaptiveObGD, {"lr": 1.0, "overshoot_factor": 2.0, "beta2": 0.999, "eps": 1e-8}),
        (TraceAdam, {"betas": (0.9, 0.999), "eps": 1e-8}),
        (AdaptiveQOptimizer, {"lr": 4.6e-4, "eps": 0.1}),
        (IntentionalOptimizer, {"lr": 0.25, "beta2": 0.999, "eps": 1e-8}),
        (KerasAdam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-7}),
    ],
)
def test_the_defaults_are_the_papers_and_kerass(kind, defaults):
    assert defaults.items() <= kind([parameter(1.0)]).param_groups[0].items()


# Bad input


@pytest.mark.parametrize(
    ("argument", "values", "allowed", "kinds"),
    [
        ("lr", [-0.1, math.nan], "at least 0", [KerasAdam, *KINDS]),
        ("overshoot_factor", [0.0, -1.0, math.nan], "above 0", [ObGD, AdaptiveObGD]),
        (
            *("betas", [(bad, 0.9) for bad in NO_RATES] + [(0.9, bad) for bad in NO_RATES]),
            *(r"\[0, 1\)", [KerasAdam, TraceAdam]),
        ),
        (
            *("beta2", NO_RATES, r"\[0, 1\)"),
            [AdaptiveObGD, IntentionalOptimizer, MaxScaledOptimizer],
        ),
        ("eps", [0.0, 9e-13, math.nan], "at least 1e-12", [KerasAdam, *KINDS[1:]]),
    ],
)
def test_a_number_out_of_range_is_refused(argument, values, allowed, kinds):
    for kind, value in itertools.product(kinds, values):
        with pytest.raises(ValueError, match=rf"{argument}: received .*{allowed}"):
            kind([parameter(1.0)], **{argument: value})
