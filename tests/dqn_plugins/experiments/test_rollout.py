"""The loop that plays greedy episodes, against episodes worked out by hand."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from dqn_plugins import NaiveDQN
from dqn_plugins.experiments.algorithms import make_model, resolve
from dqn_plugins.experiments.environments import EnvironmentSettings, TrainingEnvironment
from dqn_plugins.experiments.rollout import Player, save_episodes
from dqn_plugins.experiments.training_clock import TrainingClock
from dqn_plugins.wrappers import Overlay, read_frames

PLAIN = EnvironmentSettings()


class Countdown(gym.Env):
    """Ends when its count, the seed at first, is 0; each step is worth the action."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
    action_space = gym.spaces.Discrete(100)
    opened = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        Countdown.opened += 1

    def observe(self):
        return np.array([self.count], dtype=np.float32)

    def render(self):
        return np.full((64, 64, 3), self.count, dtype=np.uint8)

    def reset(self, *, seed=None, options=None):
        self.count = seed
        return self.observe(), {}

    def step(self, action):
        self.count -= 1
        return self.observe(), float(action), self.count == 0, False, {}


class Named(Countdown):
    """The same with a dictionary for an observation."""

    observation_space = gym.spaces.Dict({"count": Countdown.observation_space})

    def observe(self):
        return {"count": super().observe()}


gym.register("Countdown-v0", Countdown)
gym.register("NamedCountdown-v0", Named)


class Echo:
    """Acts by the count that it sees, of several stacked the newest."""

    def predict(self, observation, deterministic=False):
        assert deterministic
        counts = observation["count"] if isinstance(observation, dict) else observation
        return np.round(counts[:, -1]).astype(int), None


@pytest.mark.parametrize("env_id", ["Countdown-v0", "NamedCountdown-v0"])
@pytest.mark.parametrize("n_envs", [1, 2, 8])
def test_each_seed_is_played_once_to_its_end(env_id, n_envs):
    Countdown.opened = 0
    player = Player(env_id, PLAIN, 1_000, n_envs)
    for _ in range(2):  # the environments serve again
        episodes = player.play(Echo(), [2, 4, 1])
        assert [episode.seed for episode in episodes] == [2, 4, 1]
        assert [episode.episode_return for episode in episodes] == [3.0, 10.0, 1.0]
        assert [episode.length for episode in episodes] == [2, 4, 1]
        assert not any(episode.is_cut for episode in episodes)
    assert Countdown.opened == n_envs
    player.close()


def test_an_episode_that_does_not_end_is_cut():
    player = Player("Countdown-v0", PLAIN, 3, n_envs=2)
    episodes = player.play(Echo(), [2, 90, 3])
    assert [(each.length, each.is_cut) for each in episodes] == [(2, False), (3, True), (3, False)]


def test_observations_are_stacked_and_normalised_as_in_training():
    stacked = Player("Countdown-v0", EnvironmentSettings(frame_stack=3), 1_000)
    seen = []
    stacked.play(Echo(), [2], lambda observations: seen.append(observations[0].tolist()))
    assert seen[:2] == [[0, 0, 2], [0, 2, 1]]
    settings = EnvironmentSettings(normalize=True)
    training = VecNormalize(Player("Countdown-v0", PLAIN, 1_000).venv)
    training.obs_rms.mean, training.obs_rms.var = np.array([1.0]), np.array([4.0])
    player = Player("Countdown-v0", settings, 1_000)
    player.normalization.obs_rms = training.obs_rms
    seen.clear()
    (episode,) = player.play(Echo(), [3], lambda observations: seen.append(observations.item()))
    assert seen[:3] == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    assert episode.episode_return == 1.0  # raw rewards, of the rounded actions 1, 0 and 0
    assert training.obs_rms.mean == 1.0  # looked at, not changed


def test_a_recording_has_the_reset_every_step_and_the_terminal_state(tmp_path):
    player = Player("Countdown-v0", PLAIN, 1_000, render_mode="rgb_array")
    path, episode = player.record(Echo(), 5, tmp_path / "episode.mp4", with_q_values=False)
    assert (episode.length, episode.episode_return) == (5, 15.0)
    assert len(list(read_frames(path))) == 6
    path, episode = player.record(Echo(), 5, tmp_path / "cut.mp4", False, most_frames=3)
    assert (episode.length, len(list(read_frames(path)))) == (5, 3)


def test_the_file_has_one_row_per_episode(tmp_path):
    episodes = Player("Countdown-v0", PLAIN, 2).play(Echo(), [3])
    save_episodes(episodes, tmp_path / "episodes.csv")
    text = (tmp_path / "episodes.csv").read_text()
    assert text == "episode,seed,return,length,cut\n0,3,5.0,2,True\n"


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("tells", ["method", "info"])
def test_impossible_actions_are_neither_learned_from_nor_played(tmp_path, tells, vectorization):
    """MaskablePPO is one entry of the table: it is told of masks where the environment has any."""
    pytest.importorskip("sb3_contrib")
    settings = {"n_envs": 2, "vectorization": vectorization} if vectorization == "async" else {}
    variants = {"masked": {"algorithm": "maskable_ppo", "n_steps": 64, "wrappers": [
        f"{__name__}:OnlyLeft{tells.title()}"], **settings}}  # fmt: skip
    variant = resolve("masked", "CartPole-v1", variants)
    environment = TrainingEnvironment("CartPole-v1", variant, tmp_path / "log")
    model = make_model(variant, environment.env, seed=0)
    TrainingClock(64).train(model)  # another action than the first raises
    environment.env.close()
    Player("CartPole-v1", variant.environment, 100, n_envs=2).play(model, [1, 2, 3])


@pytest.mark.parametrize("tells", ["Method", "Info"])
def test_films_are_told_what_is_possible(tmp_path, monkeypatch, tells):
    drawn, draw = [], Overlay.draw
    monkeypatch.setattr(Overlay, "draw", lambda *args: (drawn.append(args[2]), draw(*args))[1])
    settings = EnvironmentSettings(wrappers=(f"{__name__}:OnlyLeft{tells}",))
    player = Player("CartPole-v1", settings, 5, render_mode="rgb_array")
    model = NaiveDQN("MlpPolicy", "CartPole-v1", seed=0)
    player.record(model, 1, tmp_path / "episode.mp4", with_q_values=True)
    assert [each.action_mask.tolist() for each in drawn] == [[True, False]] * 6


class OnlyLeft(gym.Wrapper):
    def step(self, action):
        assert action == 0
        return self.env.step(action)


class OnlyLeftMethod(OnlyLeft):
    def action_masks(self):
        return np.array([True, False])


class OnlyLeftInfo(OnlyLeft):
    def reset(self, **kwargs):
        return self.env.reset(**kwargs)[0], {"action_mask": np.array([1, 0], np.int8)}

    def step(self, action):
        return *super().step(action)[:4], {"action_mask": np.array([1, 0], np.int8)}
