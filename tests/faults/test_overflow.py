"""Numbers that grow too large are stopped at their step, with the last finite weights kept."""

from typing import Any

import numpy as np
import pytest
import torch as th

from dqn_plugins import DivergenceError, NaiveDQN, StreamQ
from dqn_plugins.policies import AdaptiveObGD, KerasAdam, ObGD, TraceAdam
from tests.environments import RecordingEnv
from tests.helpers import everything, optimizer_numbers, statistics, weights

OPTIMIZERS = [
    (NaiveDQN, th.optim.SGD),
    (NaiveDQN, th.optim.Adam),
    (NaiveDQN, KerasAdam),
    (StreamQ, TraceAdam),
    (StreamQ, ObGD),
    (StreamQ, AdaptiveObGD),
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


@pytest.mark.parametrize(("algorithm", "optimizer"), OPTIMIZERS)
@pytest.mark.parametrize("learning_rate", [1e20, 1e37, 1e38, 1e39, 1e300])
def test_a_huge_learning_rate(algorithm, optimizer, backend, learning_rate):
    model = algorithm(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=learning_rate,
        seed=0,
        backend=backend,
        policy_kwargs=policy_kwargs(algorithm, optimizer),
    )
    states, error = follow(model, 40)
    assert all_finite(model)
    if optimizer in (ObGD, AdaptiveObGD) and error is None:
        return  # these bound their steps whatever the rate
    assert error is not None
    assert error.step == len(states)
    assert f"environment 0 at step {error.step}" in str(error)
    # The weights come first, and nothing but the first observation came before the first step.
    assert everything(model)[0] == states[-1][0]
    if learning_rate > 1e38:
        assert error.step == 1
    # A rate that is sensible again is in force at once.
    model.policy.optimizer.param_groups[0]["lr"] = 1e-3
    if learning_rate > 1e38:
        model.learn(5, reset_num_timesteps=False)
        assert all_finite(model)


@pytest.mark.parametrize(("algorithm", "optimizer"), OPTIMIZERS)
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [1e17, 1e20, 1e30, 1e37])
def test_huge_rewards(algorithm, optimizer, backend, normalize, scale):
    if algorithm is NaiveDQN and normalize:
        return
    kwargs = {"normalize_rewards": normalize, "normalize_observations": normalize}
    model = algorithm(
        "MlpPolicy",
        Rewarding(scale),
        seed=0,
        backend=backend,
        policy_kwargs=policy_kwargs(algorithm, optimizer, **kwargs),
    )
    states, error = follow(model, 40)
    assert all_finite(model)
    if normalize:
        return  # a normalised reward may be of any size
    if scale >= 1e20:
        assert error is not None
        assert error.step == len(states) == 10
        # No weight, trace or moment was touched; the statistics had a look at the observation.
        n_numbers = 1 + len(optimizer_numbers(model))
        assert everything(model)[:n_numbers] == states[-1][:n_numbers]
