"""EnvPool's environments are learned from, some while others step."""

import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.vec_env import VecNormalize

from dqn_plugins import NaiveDQN, StreamQ, make_vec_env
from dqn_plugins.environments import TransitionStream
from dqn_plugins.environments.envpool_vec_env import EnvPoolVecEnv
from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from dqn_plugins.environments.turns import TurnTakingVecEnv
from dqn_plugins.learning import Transition
from tests.helpers import weights

envpool = pytest.importorskip("envpool", reason="EnvPool is not installed")


def transitions_of(env: Any, n_steps: int, n_actions: int = 2) -> list[Transition]:
    """What random actions lead to."""
    rng, obs = np.random.default_rng(0), env.reset()
    stream, transitions = TransitionStream(env, env.observation_space), []
    obs = stream.to_act_on(obs)
    for step in range(n_steps):
        transition, _ = stream.step(obs, rng.integers(n_actions, size=len(obs)), step)
        transitions.append(transition)
        obs = stream.to_act_on(transition.new_obs)
    return transitions


@pytest.mark.parametrize("n_envs", [1, 2, 9])
def test_what_belongs_together_stays_together(n_envs):
    """Every transition is what Gymnasium's CartPole makes of the same state and action."""
    kwargs = {"max_episode_steps": 20}
    env = make_vec_env("CartPole-v1", n_envs, "envpool", seed=0, env_kwargs=kwargs)
    assert env.num_envs == n_envs
    cart_pole = gym.make("CartPole-v1").unwrapped
    newest: dict[int, np.ndarray] = {}
    seen = {"terminated": 0, "truncated": 0, "begun": 0}
    for transition in transitions_of(env, 300):
        obs, actions, rewards, next_obs, terminated, dones, new_obs, valid, begun, first = (
            transition[:10]
        )
        for row in range(len(actions)):
            index = first + row
            if index in newest:
                assert np.array_equal(obs[row], newest[index])
            newest[index] = new_obs[row]
            if valid[row]:
                cart_pole.reset()
                cart_pole.state = obs[row].astype(np.float64)
                expected, reward, is_terminal, _, _ = cart_pole.step(int(actions[row]))
                np.testing.assert_allclose(next_obs[row], expected, rtol=1e-4, atol=1e-5)
                assert rewards[row] == reward
                truncated = dones[row] and not terminated[row]
                # Of an episode that ends at its time limit, EnvPool tells nothing else.
                assert terminated[row] == (is_terminal and not truncated)
                seen["terminated"] += terminated[row]
                seen["truncated"] += truncated
            elif begun is not None:
                # The step that resets: what it gives is where an episode of CartPole begins.
                assert np.abs(new_obs[row]).max() <= 0.05
                assert begun[row]
                assert not dones[row]
                seen["begun"] += 1
    assert sorted(newest) == list(range(n_envs))
    assert all(seen.values())
    env.close()


def test_two_groups_are_under_way_and_the_others_wait():
    env = make_vec_env("CartPole-v1", 9, "envpool", seed=0, n_envs_per_turn=4)
    assert isinstance(env, TurnTakingVecEnv)
    transitions = transitions_of(env, 6)
    # The first turn has nothing to learn from yet.
    assert [(t.first_env_index, t.n_transitions) for t in transitions] == [
        (6, 0), (0, 3), (3, 3), (6, 3), (0, 3), (3, 3),
    ]  # fmt: skip
    with pytest.raises(RuntimeError, match=r"in the middle of a step.*reset"):
        env.step(np.zeros(9, np.int64))
    obs = env.reset()
    assert obs.shape == (9, 4)
    new_obs, rewards, dones, infos = env.step(np.zeros(9, np.int64))
    assert (new_obs.shape, rewards.tolist(), dones.tolist()) == ((9, 4), [1.0] * 9, [False] * 9)
    assert len(infos) == 9
    env.close()


def test_few_environments_take_turns_too():
    env = make_vec_env("CartPole-v1", 3, "envpool", seed=0)
    assert [len(group.env.pool) for group in env.groups] == [2, 1]
    env.close()


def test_a_turn_is_of_one_environment_at_least():
    with pytest.raises(ValueError, match=r"n_envs_per_turn: received 0, .* at least 1"):
        make_vec_env("CartPole-v1", 8, "envpool", n_envs_per_turn=0)


def test_after_a_reset_from_outside_every_group_is_stepped_again():
    model = NaiveDQN("MlpPolicy", "CartPole-v1", n_envs=4, vectorization="envpool", seed=0)
    model.learn(40)
    model.get_env().reset()
    firsts = []
    learn = model._learner.learn
    model._learner.learn = lambda t: firsts.append((t.first_env_index, t.n_transitions)) or learn(t)
    model.learn(20, reset_num_timesteps=False)
    assert firsts[:4] == [(2, 0), (0, 2), (2, 2), (0, 2)]
    assert model.num_timesteps == 60


@pytest.mark.parametrize("algorithm", [NaiveDQN, StreamQ])
def test_a_seed_decides_everything(algorithm):
    def learned(seed: int, **kwargs: Any) -> np.ndarray:
        env = {"n_envs": 6, "vectorization": "envpool"}
        return weights(algorithm("MlpPolicy", "CartPole-v1", seed=seed, **env).learn(600))

    assert np.array_equal(learned(3), learned(3))
    assert not np.array_equal(learned(3), learned(4))


def test_a_model_can_go_over_to_gymnasiums_environment_and_back(tmp_path, recwarn):
    model = StreamQ("MlpPolicy", "LunarLander-v3", n_envs=2, vectorization="envpool", seed=0)
    model.learn(100).save(tmp_path / "model")
    assert not [warning for warning in recwarn if "Box" in str(warning.message)]
    loaded = StreamQ.load(tmp_path / "model", env=gym.make("LunarLander-v3"))
    loaded.learn(100)
    loaded.save(tmp_path / "model")
    env = make_vec_env("LunarLander-v3", 2, "envpool")
    StreamQ.load(tmp_path / "model", env=env).learn(100)


def test_without_a_seed_no_two_are_the_same():
    one, other = (make_vec_env("CartPole-v1", 2, "envpool").reset() for _ in range(2))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_sb3s_wrappers_around_it_are_heeded():
    env = VecNormalize(make_vec_env("CartPole-v1", 4, "envpool", seed=0), norm_obs=False)
    model = NaiveDQN("MlpPolicy", env, seed=0)
    valid = []
    learn = model._learner.learn
    model._learner.learn = lambda t: valid.append(t.valid.copy()) or learn(t)
    model.learn(400)
    assert env.ret_rms.count > 300
    assert not np.all(valid)  # the steps that reset are known through the wrapper
    assert model.num_timesteps == np.sum(valid)


def test_a_pool_of_ones_own_is_taken():
    pool = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=3, seed=7)
    model = NaiveDQN("MlpPolicy", pool)
    assert type(model.get_env()) is EnvPoolVecEnv
    model.learn(300)
    assert len(model.ep_info_buffer) > 3
    with pytest.warns(UserWarning, match=r"seed: received 3.*Pass seed=3 to envpool\.make"):
        model.get_env().seed(3)
    wrapped = RecordEpisodeStatistics(
        envpool.make("CartPole-v1", env_type="gymnasium", num_envs=3, seed=7)
    )
    model = NaiveDQN("MlpPolicy", wrapped)
    assert type(model.get_env()) is GymnasiumVecEnv
    model.learn(300)
    assert all(info["r"] == info["l"] for info in model.ep_info_buffer)


def test_a_pool_without_order_is_refused():
    pool = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=4, batch_size=2)
    with pytest.raises(ValueError, match=r"batch_size=2 of num_envs=4.*vectorization='envpool'"):
        NaiveDQN("MlpPolicy", pool)


def test_a_pool_for_another_library_is_refused():
    pool = envpool.make("CartPole-v1", env_type="dm", num_envs=4)
    with pytest.raises(TypeError, match=r"env: received .*env_type='gymnasium' to envpool\.make"):
        NaiveDQN("MlpPolicy", pool)


def test_an_environment_that_envpool_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"env: received 'Taxi-v4'.*vectorization='sync'"):
        NaiveDQN("MlpPolicy", "Taxi-v4", n_envs=2, vectorization="envpool")


def test_where_envpool_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dqn-plugins\[envpool\]'"):
        NaiveDQN("MlpPolicy", "CartPole-v1", n_envs=2, vectorization="envpool")
