"""Loops of one's own, in which ``act`` and ``learn_one`` take the place of ``learn``."""

from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor

from dqn_plugins import NaiveDQN, StreamQ
from tests.dqn_plugins.algorithms.test_images import Catch
from tests.environments import RecordingEnv
from tests.helpers import everything, own_loop, statistics
from tests.properties.tagged_env import MaskingEnv

SMALL = {"net_arch": [8]}
N_STEPS = 200  # within an episode
FALLING = lambda progress: 1e-3 * progress  # noqa: E731
ENDS = ["", "", "terminated", "", "", "", "truncated", "", "both"]
MASKING = partial(MaskingEnv, spaces.Box(0.0, np.inf, (2,), np.float32), ENDS)


@pytest.mark.parametrize(
    ("algorithm", "policy", "make_env", "arguments"),
    [
        (NaiveDQN, "MlpPolicy", RecordingEnv, {}),
        (StreamQ, "MlpPolicy", RecordingEnv, {"exploration_fraction": 0.5}),
        (StreamQ, "MlpPolicy", RecordingEnv, {"trace_cut": "watkins", "learning_rate": FALLING}),
        (StreamQ, "MlpPolicy", RecordingEnv, {"target": "expected", "trace_cut": "never"}),
        (NaiveDQN, "MlpPolicy", MASKING, {}),
        (StreamQ, "MlpPolicy", MASKING, {}),
        (StreamQ, "CnnPolicy", Catch, {}),
    ],
)
def test_a_loop_of_ones_own_learns_what_learn_learns(
    algorithm, policy, make_env, arguments, backend
):
    kwargs = {**arguments, "policy_kwargs": SMALL, "seed": 3, "backend": backend}
    theirs, ours = (algorithm(policy, make_env(), **kwargs) for _ in range(2))
    theirs.learn(N_STEPS)
    env = Monitor(make_env())
    own_loop(ours, env, N_STEPS, total_timesteps=N_STEPS)
    assert env.get_episode_lengths() == theirs.get_env().envs[0].get_episode_lengths()
    assert everything(ours) == everything(theirs)


def test_it_acts_by_the_newest_weights_and_not_by_their_average(backend):
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0, backend=backend).learn(100)
    with th.no_grad():
        for param in model.policy.average_q_net.parameters():
            param.neg_()
    observations = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    actions = [model.act(obs, exploration_rate=0.0) for obs in observations]
    newest = model._learner.greedy_actions(observations)
    average, _ = model.predict(observations, deterministic=True)
    assert actions == newest.tolist()
    assert actions != average.tolist()


@pytest.mark.parametrize(
    ("how", "expected"),
    [({"exploration_rate": 0.25}, 0.25), ({"total_timesteps": 100}, 1.0), ({}, 0.01)],
)
def test_how_it_explores(how, expected):
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0)
    obs = np.zeros(3, np.float32)
    model.act(obs, **how)
    assert model.exploration_rate == expected
    others = sum(
        model.act(obs, **how) != model.act(obs, exploration_rate=0.0) for _ in range(2_000)
    )
    assert others / 2_000 == pytest.approx(expected * 2 / 3, abs=0.04)


def test_schedules_follow_the_transitions_learned_from():
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=FALLING,
        exploration_initial_eps=1.0,
        exploration_final_eps=0.0,
        exploration_fraction=1.0,
        seed=0,
    )
    own_loop(model, RecordingEnv(), 30, total_timesteps=40)
    model.act(np.zeros(3, np.float32), total_timesteps=40)
    assert model.exploration_rate == pytest.approx(0.25)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(0.25e-3)


def test_the_first_observation_of_an_episode_is_seen_once():
    model, obs = StreamQ("MlpPolicy", RecordingEnv(), seed=0), np.ones(3, np.float32)
    count = "q_net.observation_normalizer.statistics.observation.count"
    for _ in range(3):
        model.act(obs)
    assert statistics(model)[count] == 1
    model.learn_one(obs, 0, 1.0, obs, False)
    assert statistics(model)[count] == 2
    model.act(obs)
    model.learn_one(obs, 0, 1.0, obs, True)
    assert statistics(model)[count] == 3
    model.act(obs)
    assert statistics(model)[count] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"obs": np.zeros(4)}, r"obs: received shape \(4,\)"),
        ({"obs": np.array([0.0, np.nan, 0.0])}, "observation .* is not finite"),
        ({"exploration_rate": 1.5}, r"exploration_rate: received 1.5, .*\[0, 1\]"),
        ({"total_timesteps": 0}, "total_timesteps: received 0, it must be an integer"),
        ({"total_timesteps": 10.5}, "total_timesteps: received 10.5, it must be an integer"),
        ({"total_timesteps": 9, "exploration_rate": 0.1}, "one of them must be None"),
    ],
)
def test_bad_arguments_are_refused_and_change_nothing(arguments, message):
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0).learn(10)
    before, rate = everything(model), model.exploration_rate
    with pytest.raises(ValueError, match=message):
        model.act(**{"obs": np.zeros(3), **arguments})
    assert everything(model) == before
    assert model.exploration_rate == rate
