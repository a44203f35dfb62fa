"""The average of the weights: what it is, who uses it, and that nothing is learned from it."""

import math

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from dqn_plugins import StreamQ
from tests.helpers import optimizer_numbers, weights

SMALL = {"net_arch": [8]}


def make(backend: str = "auto", n_envs: int = 1, **policy_kwargs: object) -> StreamQ:
    return StreamQ(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=n_envs),
        learning_rate=1e-2,
        policy_kwargs={**SMALL, **policy_kwargs},
        seed=0,
        backend=backend,
        update="mean",
    )


def average(model: StreamQ) -> np.ndarray:
    parameters = model.policy.average_q_net.parameters()
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in parameters])


def learned(model: StreamQ, steps: int) -> list[np.ndarray]:
    """The weights after each step."""
    seen: list[np.ndarray] = []
    model.learn(steps, callback=lambda *_: seen.append(weights(model).astype(np.float64)) or True)
    return seen


def decaying_average(seen: list[np.ndarray]) -> np.ndarray:
    """
    Of the weights after updates 1 to n, written as one sum: update t weighs as much as there are
    ways to choose 4 of the t + 3 updates up to the third after it, about as t to the fourth.
    """
    shares = np.array([math.comb(update + 3, 4) for update in range(1, len(seen) + 1)])
    return np.average(seen, axis=0, weights=shares)


@pytest.mark.parametrize(("n_envs", "last_fading"), [(1, 96), (2, 46)])
def test_past_the_window_it_is_an_exponential_average(backend, n_envs, last_fading):
    # 20 transitions of two environments are ten averaged updates: 5 / (46 + 4) is 1 / 10.
    model = make(backend, n_envs=n_envs, averaging_window=20)
    seen = learned(model, 200)
    expected = decaying_average(seen[:last_fading])
    for newest in seen[last_fading:]:
        expected += (newest - expected) * n_envs / 20
    assert np.abs(average(model) - expected).max() < 1e-6


@pytest.mark.parametrize("window", [1, 7, 10_000])
def test_nothing_is_learned_from_it(backend, window):
    with_it, without = make(backend, averaging_window=window), make(backend, averaging_window=None)
    with_it.learn(200)
    without.learn(200)
    assert np.array_equal(weights(with_it), weights(without))
    for one, other in zip(optimizer_numbers(with_it), optimizer_numbers(without), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("update", ["each", "mean"])
def test_it_counts_the_transitions_of_several_environments(backend, update):
    env = make_vec_env("CartPole-v1", n_envs=3)
    model = StreamQ("MlpPolicy", env, policy_kwargs=SMALL, seed=0, update=update, backend=backend)
    model.learn(3 * 40)
    assert model.policy.n_averaged.item() == 120


@pytest.mark.parametrize("window", [None, 10_000])
def test_predict_acts_by_the_average_if_there_is_one(backend, window):
    model = make(backend, averaging_window=window)
    observation = np.zeros(4, np.float32)
    prefers = {0: th.tensor([1.0, 0.0]), 1: th.tensor([0.0, 1.0])}
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
        model.q_net.q_net[-1].bias.copy_(prefers[1])
        if window is not None:
            model.policy.average_q_net.q_net[-1].bias.copy_(prefers[0])
    action, _ = model.predict(observation, deterministic=True)
    assert action == (1 if window is None else 0)


def test_it_normalises_observations_by_the_newest_statistics(backend):
    model = make(backend)
    model.learn(100)
    normalizer = model.policy.average_q_net.observation_normalizer
    assert normalizer is model.q_net.observation_normalizer
    assert normalizer.statistics["observation"].count.item() > 100


@pytest.mark.parametrize("window", [0, -1, 0.5, float("nan")])
def test_a_window_below_one_update_is_refused(window):
    with pytest.raises(ValueError, match=r"averaging_window: received .* at least 1"):
        make(averaging_window=window)
