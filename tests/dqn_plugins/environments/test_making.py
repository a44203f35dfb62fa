"""Environments made from ids can be recorded, and work for pictures only when they are."""

import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecVideoRecorder

from dqn_plugins import NaiveDQN
from dqn_plugins.environments import RenderOnDemand, make_env
from tests.environments import SpacesEnv


def particles(env: gym.Env) -> int:
    """How many particles LunarLander moves at every step."""
    return len(env.unwrapped.particles)


def fly(env: gym.Env, n_steps: int = 10) -> None:
    for _ in range(n_steps):
        env.step(2)  # the main engine


@pytest.mark.parametrize(
    ("env_id", "module", "extra"),
    [("MinAtar/Breakout-v1", "minatar", "minatar"), ("ALE/Pong-v5", "ale_py", "atari")],
)
def test_where_an_extra_is_missing_it_is_named(monkeypatch, env_id, module, extra):
    monkeypatch.setattr(gym, "registry", {})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyNotInstalled, match=rf"pip install 'dqn-plugins\[{extra}\]'"):
        NaiveDQN("CnnPolicy", env_id)


def test_nothing_is_prepared_for_pictures_before_the_first_is_drawn():
    env = make_env("LunarLander-v3")
    env.reset(seed=0)
    fly(env)
    assert particles(env) == 0
    assert env.render_mode == "rgb_array"
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((400, 600, 3), np.uint8)
    assert frame.std() > 0
    fly(env)
    assert particles(env) > 0
    env.close()


def test_it_steps_as_gymnasiums_own_environment():
    ours, theirs = make_env("LunarLander-v3"), gym.make("LunarLander-v3")
    assert np.array_equal(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    for action in np.random.default_rng(0).integers(4, size=50):
        one, other = ours.step(action), theirs.step(action)
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]


def test_a_model_of_an_id_is_fast_and_can_be_recorded(tmp_path):
    model = NaiveDQN("MlpPolicy", "LunarLander-v3", seed=0).learn(200)
    env = model.get_env()
    assert particles(env.envs[0]) == 0
    assert env.render_mode == "rgb_array"
    recorder = VecVideoRecorder(env, str(tmp_path), lambda step: step == 0, video_length=5)
    recorder.reset()
    for _ in range(6):
        recorder.step([2])
    recorder.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def test_an_environment_without_pictures_is_left_as_it_is():
    gym.register("NoPictures-v0", entry_point=lambda: SpacesEnv(gym.spaces.Discrete(2)))
    assert not isinstance(make_env("NoPictures-v0"), RenderOnDemand)


def test_its_spec_makes_it_again():
    env = make_env("CartPole-v1")
    again = gym.make(env.spec)
    assert isinstance(again, RenderOnDemand)
    assert again.reset(seed=0)[0].shape == (4,)


def test_where_others_made_environments_that_draw_that_is_said_once():
    slow = make_vec_env("LunarLander-v3", n_envs=2)
    with pytest.warns(UserWarning, match=r"env_kwargs=dict\(render_mode=None\)") as record:
        NaiveDQN("MlpPolicy", slow)
    assert len(record) == 1
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast = make_vec_env("LunarLander-v3", env_kwargs={"render_mode": None})
        NaiveDQN("MlpPolicy", fast)
        NaiveDQN("MlpPolicy", make_vec_env("CartPole-v1"))
