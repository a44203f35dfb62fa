"""Numbers that grow too large are stopped at their step, with the last finite weights kept."""

from typing import Any

import numpy as np
import pytest
import torch as th

from dqn_plugins import DivergenceError, NaiveDQN, StreamQ
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    TraceAdam,
)
from tests.environments import RecordingEnv
from tests.helpers import everything, optimizer_numbers, statistics, weights

OPTIMIZERS = [
    (NaiveDQN, th.optim.SGD),
    (NaiveDQN, th.optim.Adam),
    (NaiveDQN, KerasAdam),
    (StreamQ, TraceAdam),
    (StreamQ, ObGD),
    (StreamQ, AdaptiveObGD),
    (StreamQ, AdaptiveQOptimizer),
    (StreamQ, IntentionalOptimizer),
    (StreamQ, MaxScaledOptimizer),
]


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


def follow(
    model: NaiveDQN | StreamQ, steps: int
) -> tuple[list[list[bytes]], DivergenceError | None]:
    """All that the model was after every step, and what stopped it."""
    states = [everything(model)]

    def remember(*_: Any) -> bool:
        states.append(everything(model))
        return True

    try:
        model.learn(steps, callback=remember)
    except DivergenceError as error:
        return states, error
    return states, None


def all_finite(model: NaiveDQN | StreamQ) -> bool:
    numbers = [weights(model), *optimizer_numbers(model), *statistics(model).values()]
    return all(bool(np.isfinite(array).all()) for array in numbers)


def policy_kwargs(algorithm: type, optimizer: type, **more: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"net_arch": [8], "optimizer_class": optimizer}
    return {**kwargs, **more} if algorithm is StreamQ else kwargs


each_algorithm = pytest.mark.parametrize("algorithm", [NaiveDQN, StreamQ])


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
    algorithm, name, value, named, backend
):
    # Also where a schedule or the user sets its numbers later on
    kwargs = {"learning_rate": 1e-3, "seed": 0, "backend": backend}
    model = algorithm("MlpPolicy", RecordingEnv(), **kwargs).learn(5)
    before, group = everything(model), model.policy.optimizer.param_groups[0]
    good, group[name] = group[name], value
    with pytest.raises(ValueError, match=f"{named}: received {value!r}".replace("+", r"\+")):
        model.learn(5, log_interval=None)
    assert everything(model)[0] == before[0]
    group[name] = good
    model.learn(5)
    assert all_finite(model)


def test_an_eps_too_small_is_refused_when_the_model_is_made(backend):
    kwargs = {"optimizer_class": th.optim.Adam, "optimizer_kwargs": {"eps": 0.0}}
    with pytest.raises(ValueError, match=r"eps: received 0.0, it must be at least 1e-12"):
        NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs=kwargs, backend=backend)


@pytest.mark.parametrize(("algorithm", "optimizer"), OPTIMIZERS)
def test_the_largest_learning_rate_leaves_the_last_finite_weights(algorithm, optimizer, backend):
    model = algorithm(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=1e15,
        seed=0,
        backend=backend,
        policy_kwargs=policy_kwargs(algorithm, optimizer),
    )
    states, error = follow(model, 40)
    assert all_finite(model)
    # StreamQ's layers and rewards are normalised, and most of its optimisers' steps do not grow
    # with the TD error.
    grow = algorithm is NaiveDQN or optimizer in (AdaptiveQOptimizer, IntentionalOptimizer)
    assert (error is not None) == grow
    if error is not None:
        assert error.step == len(states)
        assert f"environment 0 at step {error.step}" in str(error)
        assert everything(model) == states[-1]


@pytest.mark.parametrize(("algorithm", "optimizer"), OPTIMIZERS)
@pytest.mark.parametrize("scale", [1e17, 1e20, 1e37])
def test_huge_rewards(algorithm, optimizer, backend, scale):
    kwargs = {"normalize_rewards": False, "normalize_observations": True}
    model = algorithm(
        "MlpPolicy",
        Rewarding(scale),
        seed=0,
        backend=backend,
        policy_kwargs=policy_kwargs(algorithm, optimizer, **kwargs),
    )
    states, error = follow(model, 40)
    assert all_finite(model)
    if scale >= 1e20:
        assert error is not None
        assert error.step == len(states) == 10
        # No weight, trace, moment or statistic was touched.
        assert everything(model) == states[-1]


def test_normalised_rewards_may_be_huge(backend):
    model = StreamQ("MlpPolicy", Rewarding(1e37), seed=0, backend=backend)
    _, error = follow(model, 40)
    assert all_finite(model)
    assert error is None
