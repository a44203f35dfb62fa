"""What NaiveDQN learns, explores and is handed; the rest it has in common with all algorithms."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dqn_plugins import NaiveDQN
from tests.environments import RecordingEnv, Transition
from tests.helpers import learn_all, weights


def random_transitions(n: int) -> list[Transition]:
    rng = np.random.default_rng(0)
    return [
        Transition(
            rng.normal(size=3).astype(np.float32),
            int(rng.integers(3)),
            float(rng.normal()),
            rng.normal(size=3).astype(np.float32),
            bool(rng.random() < 0.3),
        )
        for _ in range(n)
    ]


def test_the_default_optimiser_is_torchs_adam_as_torch_defaults_it():
    optimizer = NaiveDQN("MlpPolicy", RecordingEnv()).policy.optimizer
    defaults = th.optim.Adam([th.zeros(1)], lr=1e-3).param_groups[0]
    assert type(optimizer) is th.optim.Adam
    group = optimizer.param_groups[0]
    assert {name: group[name] for name in group if name != "params"} == {
        name: defaults[name] for name in defaults if name != "params"
    }


# The loop


def test_normalised_observations_are_learned_from_at_the_end_of_an_episode_too(backend):
    env = RecordingEnv()
    vec_env = VecNormalize(DummyVecEnv([lambda: env]), training=False, norm_reward=False)
    vec_env.obs_rms.mean[:], vec_env.obs_rms.var[:] = [1.0, 0.0, -1.0], [4.0, 1.0, 0.25]
    model = NaiveDQN("MlpPolicy", vec_env, seed=3, backend=backend)
    model.learn(40)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    for obs, action, reward, next_obs, terminated in env.transitions:
        normalised = vec_env.normalize_obs(obs), vec_env.normalize_obs(next_obs)
        twin.learn_one(normalised[0], action, reward, normalised[1], terminated)
    assert np.array_equal(weights(model), weights(twin))


def test_a_callback_may_call_learn_one(backend):
    # The transitions it adds are learned from too, and the loop goes on undisturbed.
    extra = random_transitions(20)
    env = RecordingEnv()
    rates = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend, **rates)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=3, backend=backend)
    greedy: list[bool] = []

    def teach(locals_: dict[str, Any], _: dict[str, Any]) -> bool:
        played = env.transitions[-1]
        action = twin.predict(played.obs, deterministic=True)[0]
        greedy.append(action == played.action)
        learn_all(twin, [played, extra[len(greedy) - 1]])
        model.learn_one(*extra[len(greedy) - 1])
        return len(greedy) < len(extra)

    model.learn(1_000, callback=teach)
    assert np.array_equal(weights(model), weights(twin))
    assert all(greedy)


# Exploration


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_predict_explores_as_often_as_it_is_asked_to_and_tosses_a_coin_for_each(rate):
    # With 1000 actions, a random action is all but surely not the greedy one.
    env, linear = RecordingEnv(n_actions=1000), {"net_arch": []}
    model = NaiveDQN("MlpPolicy", env, exploration_initial_eps=rate, policy_kwargs=linear, seed=0)
    obs = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    greedy = model.predict(obs, deterministic=True)[0]
    assert np.array_equal(greedy, model.predict(obs, deterministic=True)[0])
    actions = model.predict(obs)[0]
    assert (actions != greedy).mean() == pytest.approx(rate, abs=0.08 if rate == 0.5 else 0.02)
    assert len(set(actions[actions != greedy])) >= 600 * rate


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        # After 1, 2, … 10 of 10 steps, from 1.0 to 0.2
        (1.0, [0.92, 0.84, 0.76, 0.68, 0.6, 0.52, 0.44, 0.36, 0.28, 0.2]),
        (0.5, [0.84, 0.68, 0.52, 0.36, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]),
        (0.1, [0.2] * 10),
        (0.0, [0.2] * 10),
    ],
)
def test_epsilon_goes_down_in_a_straight_line(fraction, expected):
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        exploration_fraction=fraction,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.2,
    )
    rates: list[float] = []
    model.learn(10, callback=lambda *_: rates.append(model.exploration_rate) or True)
    assert rates == pytest.approx(expected)


# learn_one


def test_learn_one_goes_on_after_learn_with_several_environments(backend):
    # `learn_one` is for one transition, whatever number of environments the model was made with.
    envs = [RecordingEnv() for _ in range(4)]
    model = NaiveDQN(
        "MlpPolicy", DummyVecEnv([lambda env=env: env for env in envs]), seed=0, backend=backend
    )
    model.learn(40)
    before = weights(model)
    learn_all(model, random_transitions(5))
    assert not np.array_equal(weights(model), before)
    model.learn(40, reset_num_timesteps=False)
    assert model._n_updates == 40 + 5 + 40
