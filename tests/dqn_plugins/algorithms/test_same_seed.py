"""One seed decides everything, for every algorithm, and nothing else does."""

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN
from tests.algorithms import each_algorithm
from tests.environments import RecordingEnv
from tests.helpers import everything, weights


@each_algorithm
@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(backend, row, n_envs):
    runs = []
    for disturbance, seed in ((1, 7), (2, 7), (3, 8)):
        # What else happened in the process must not matter.
        random.seed(disturbance)
        np.random.seed(disturbance)
        th.manual_seed(disturbance)
        env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * n_envs)
        runs.append(everything(row.make(env, seed=seed, backend=backend).learn(120 * n_envs)))
    assert runs[0] == runs[1] != runs[2]


@each_algorithm
def test_nobodys_random_numbers_change_what_is_learned(backend, row):
    def disturb(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        random.random()
        np.random.random()
        th.rand(1)
        locals_["self"].predict(locals_["new_obs"])
        locals_["self"].action_space.sample()
        return True

    models = [row.make(backend=backend).learn(40, callback=each) for each in (None, disturb)]
    assert everything(models[0]) == everything(models[1])


@each_algorithm
def test_different_seeds_give_different_weights_and_different_episodes(row):
    envs = [RecordingEnv(), RecordingEnv()]
    models = [row.make(env, seed=seed) for seed, env in enumerate(envs, start=1)]
    assert not np.array_equal(*map(weights, models))
    for model in models:
        model.learn(40)
    first, second = (env.transitions for env in envs)
    assert not any(np.array_equal(a.obs, b.obs) for a, b in zip(first, second, strict=True))
    assert [step.action for step in first] != [step.action for step in second]


@each_algorithm
def test_what_the_environment_handed_out_is_left_as_it_was(backend, row):
    # The arrays are those that the callbacks see; learning must not write into them.
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def remember(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        seen.append((locals_["new_obs"], locals_["new_obs"].copy()))
        return True

    row.make(backend=backend).learn(20, callback=remember)
    assert all(np.array_equal(now, then) for now, then in seen)
    assert len({now.ctypes.data for now, _ in seen}) == len(seen) == 20


def test_one_seed_seeds_every_environment_differently():
    envs = [RecordingEnv() for _ in range(3)]
    vec_env = DummyVecEnv([lambda env=env: env for env in envs])
    NaiveDQN("MlpPolicy", vec_env, seed=10).learn(3)
    assert [env.seeds[0] for env in envs] == [10, 11, 12]


def test_seeding_again_repeats_the_random_actions():
    model = NaiveDQN("MlpPolicy", RecordingEnv(n_actions=100), seed=0, exploration_initial_eps=1.0)
    obs = np.zeros((50, 3), np.float32)
    model.set_random_seed(4)
    first = model.predict(obs)[0]
    second = model.predict(obs)[0]
    model.set_random_seed(4)
    assert np.array_equal(model.predict(obs)[0], first)
    assert not np.array_equal(first, second)
