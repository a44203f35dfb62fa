"""The loop that plays greedy episodes, against episodes worked out by hand."""

import gymnasium as gym
import numpy as np
import pytest

from dqn_plugins.experiments.rollout import play_episodes, rollout, save_episodes


class Countdown(gym.Env):
    """Ends when its count, the seed at first, is 0; each step is worth the action."""

    observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
    action_space = gym.spaces.Discrete(100)

    def observe(self):
        return np.array([self.count], dtype=np.float32)

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


class Echo:
    """Acts by the count that it sees, and remembers how many were asked for at once."""

    def __init__(self):
        self.batches = []

    def predict(self, observation, deterministic=False):
        assert deterministic
        counts = observation["count"] if isinstance(observation, dict) else observation
        self.batches.append(len(counts))
        return counts[:, 0].astype(int), None


@pytest.mark.parametrize("kind", [Countdown, Named])
def test_episodes_run_side_by_side_until_each_is_over(kind):
    model = Echo()
    episodes = play_episodes(model, [kind(), kind(), kind()], [2, 4, 1])
    assert [episode.seed for episode in episodes] == [2, 4, 1]
    assert [episode.episode_return for episode in episodes] == [3.0, 10.0, 1.0]
    assert [episode.length for episode in episodes] == [2, 4, 1]
    assert all(episode.is_over and episode.reward == 1.0 for episode in episodes)
    assert model.batches == [3, 2, 1, 1]


def test_a_watcher_sees_the_reset_and_every_step():
    seen = [
        (episode.observation[0], episode.reward, episode.episode_return, episode.length)
        for (episode,) in rollout(Echo(), [Countdown()], [2])
    ]
    assert seen == [(2, 0.0, 0.0, 0), (1, 2.0, 2.0, 1), (0, 1.0, 3.0, 2)]


def test_the_file_has_one_row_per_episode(tmp_path):
    save_episodes(play_episodes(Echo(), [Countdown()], [3]), tmp_path / "episodes.csv")
    assert (tmp_path / "episodes.csv").read_text() == "episode,seed,return,length\n0,3,6.0,3\n"
