"""Numbers that grow too large are stopped at their step, with the last finite weights kept."""

from typing import Any

import numpy as np
import pytest

from dqn_plugins import DivergenceError, StreamQ
from dqn_plugins.policies import AdaptiveQOptimizer, IntentionalOptimizer
from tests.algorithms import each_algorithm, each_optimizer
from tests.environments import RecordingEnv
from tests.helpers import everything, follow, optimizer_numbers, statistics, weights


class Rewarding(RecordingEnv):
    """
    A :class:`RecordingEnv` with other rewards.

    :param scale: What rewards are multiplied by from the tenth step on.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def step(self, action: np.int64) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, reward * (self.scale if len(self.transitions) >= 10 else 1.0), *rest


def overflow(model: Any) -> tuple[list[list[bytes]], DivergenceError | None]:
    """All that the model was after every step, and what stopped it."""
    states, remember = follow(model)
    try:
        model.learn(40, callback=remember)
    except DivergenceError as error:
        return states, error
    return states, None


def all_finite(model: Any) -> bool:
    numbers = [weights(model), *optimizer_numbers(model), *statistics(model).values()]
    return all(bool(np.isfinite(array).all()) for array in numbers)


@each_algorithm
@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("lr", 1.1e15, "learning_rate"),
        ("lr", np.nan, "learning_rate"),
        ("eps", 0.0, "eps"),
        ("eps", 9e-13, "eps"),
    ],
)
def test_an_optimiser_that_would_overflow_is_refused_before_it_does(
    row, name, value, named, backend
):
    # Also where a schedule or the user sets its numbers later on
    model = row.make(learning_rate=1e-3, backend=backend).learn(8)
    before, group = everything(model), model.policy.optimizer.param_groups[0]
    good, group[name] = group[name], value
    with pytest.raises(ValueError, match=f"{named}: received {value!r}".replace("+", r"\+")):
        model.learn(8, log_interval=None)
    assert everything(model)[0] == before[0]
    group[name] = good
    model.learn(8)
    assert all_finite(model)


@each_algorithm
def test_an_eps_too_small_is_refused_when_the_model_is_made(backend, row):
    with pytest.raises(ValueError, match=r"eps: received 0.0, it must be at least 1e-12"):
        row.make(policy_kwargs={"optimizer_kwargs": {"eps": 0.0}}, backend=backend)


@each_optimizer
def test_the_largest_learning_rate_leaves_the_last_finite_weights(row, optimizer, backend):
    model = row.make(
        learning_rate=lambda left: 0.0 if left > 0.85 else 1e15,
        backend=backend,
        policy_kwargs={"optimizer_class": optimizer},
    )
    states, error = overflow(model)
    assert all_finite(model)
    # StreamQ's layers and rewards are normalised, and most of its optimisers' steps do not grow
    # with the TD error.
    grow = row.algorithm is not StreamQ or optimizer in (AdaptiveQOptimizer, IntentionalOptimizer)
    assert (error is not None) == grow
    if error is not None:
        assert error.step == len(states)
        assert f"environment 0 at step {error.step}" in str(error)
        assert everything(model) == states[-1]


@each_optimizer
@pytest.mark.parametrize("scale", [1e17, 1e20, 1e37])
def test_huge_rewards(row, optimizer, backend, scale):
    raw = {"normalize_rewards": False} if row.algorithm is StreamQ else {}
    model = row.make(
        Rewarding(scale), backend=backend, policy_kwargs={"optimizer_class": optimizer, **raw}
    )
    states, error = overflow(model)
    assert all_finite(model)
    if scale >= 1e20:
        assert error is not None
        # The tenth step, or the last one of its rollout
        assert error.step == len(states) == {1: 10, 4: 12}[row.rollout]
        # No weight, trace, moment or statistic was touched.
        assert everything(model) == states[-1]


def test_normalised_rewards_may_be_huge(backend):
    model = StreamQ("MlpPolicy", Rewarding(1e37), seed=0, backend=backend)
    _, error = overflow(model)
    assert all_finite(model)
    assert error is None
