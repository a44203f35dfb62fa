"""One way to ask every kind of model what it expects."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN

from dqn_plugins import StreamQ
from dqn_plugins.experiments.algorithms import ALGORITHMS, make_model, resolve
from dqn_plugins.values import values_of


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_of_the_table_says_what_it_has(name: str) -> None:
    if not ALGORITHMS[name].is_installed:
        pytest.skip("not installed")
    env = gym.make("CartPole-v1")
    model = make_model(resolve(name, "CartPole-v1"), env, seed=0)
    found = values_of(model, env.reset(seed=0)[0])
    kind = ALGORITHMS[name].values
    if found is None:
        assert not kind
    else:
        assert found.kind == kind
        assert found.numbers.shape == ((2,) if kind == "Q" else (1,))
        assert found.numbers.dtype == np.float64


def test_quantiles_are_averaged_to_what_predict_acts_by() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = gym.make("LunarLander-v3")
    model = contrib.QRDQN("MlpPolicy", env, seed=1, policy_kwargs={"net_arch": [8]})
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        found = values_of(model, observation)
        assert found is not None
        assert found.numbers.argmax() == model.predict(observation, deterministic=True)[0]
    with th.no_grad():
        quantiles = model.policy.quantile_net(th.as_tensor(observation)[None])
    np.testing.assert_allclose(found.numbers, quantiles[0].numpy().mean(axis=0), rtol=1e-5)


def test_the_average_of_the_weights_or_those_that_are_learned() -> None:
    env = gym.make("CartPole-v1")
    model = StreamQ("MlpPolicy", env, seed=0).learn(300)
    observation, _ = env.reset(seed=0)
    by_average, learned = values_of(model, observation), values_of(model, observation, True)
    tensor = th.as_tensor(observation)[None]
    with th.no_grad():
        expected: list[Any] = [
            network(tensor)[0].numpy() for network in (model.policy.average_q_net, model.q_net)
        ]
    assert by_average is not None
    assert learned is not None
    np.testing.assert_allclose(by_average.numbers, expected[0], rtol=1e-6)
    np.testing.assert_allclose(learned.numbers, expected[1], rtol=1e-6)
    assert not np.array_equal(by_average.numbers, learned.numbers)


def test_functions_are_asked_and_what_has_no_values_says_none() -> None:
    found = values_of(lambda observation: [[1, observation[0]]], np.array([2.0]))
    assert found is not None
    assert (found.kind, found.numbers.tolist()) == ("Q", [1.0, 2.0])
    assert values_of(object(), np.zeros(1)) is None
    assert values_of(DQN("MlpPolicy", "CartPole-v1"), np.zeros(4)) is not None
