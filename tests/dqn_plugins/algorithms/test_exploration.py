"""Random actions: once or for a while, and for longer while the agent is stuck."""

import itertools
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.algorithms.exploration import RecentEpisodes
from tests.environments import ScriptedEnv

N_ACTIONS = 50
ENDLESS = [([-1.0] * 100_000, "truncated")]


class Noting(ScriptedEnv):
    """Notes down the actions of each episode, among many."""

    def __init__(self, episodes: list[tuple[list[float], str]]) -> None:
        super().__init__(episodes, n_actions=N_ACTIONS)
        self.actions: list[list[int]] = []

    def reset(self, **kwargs: Any) -> Any:
        self.actions.append([])
        return super().reset(**kwargs)

    def step(self, action: np.int64) -> Any:
        self.actions[-1].append(int(action))
        return super().step(action)


def model_of(*envs: Noting, **kwargs: Any) -> StreamQ:
    defaults = {
        "learning_rate": 0.0,
        "exploration_fraction": 0.0,
        "exploration_final_eps": 1.0,
        "policy_kwargs": {"net_arch": []},
        "seed": 0,
    }
    env = DummyVecEnv([lambda env=env: env for env in envs])
    return StreamQ("MlpPolicy", env, **{**defaults, **kwargs})


def durations(actions: list[int]) -> list[int]:
    """For how many steps each action was taken, the last one left out."""
    return [len(list(run)) for _, run in itertools.groupby(actions)][:-1]


def test_an_action_is_held_until_its_time_is_over_or_the_episode():
    envs = [Noting([([0.0] * 12, "terminated")]), Noting([([0.0] * 7, "truncated")])]
    model_of(*envs, exploration="extended", exploration_duration=5).learn(2 * 84)
    for env, lengths in zip(envs, ([5, 5, 2], [5, 2]), strict=True):
        runs = [[len(list(run)) for _, run in itertools.groupby(a)] for a in env.actions[:-1]]
        # Now and then the same action is drawn again.
        assert sum(run == lengths for run in runs) > 0.8 * len(runs)
    assert envs[0].actions[0] != envs[1].actions[0]  # a coin for each


def test_durations_are_drawn_from_a_zeta_distribution():
    env = Noting(ENDLESS)
    model_of(env, exploration="extended", exploration_duration=None).learn(8_000)
    found = np.array(durations(env.actions[0]))
    # p(n) = n⁻² / ζ(2), but for equal actions that follow each other
    for n in (1, 2, 3):
        assert (found == n).mean() == pytest.approx(n**-2 / (np.pi**2 / 6), abs=0.05)


@pytest.mark.parametrize("kwargs", [{"exploration": "epsilon_greedy"}, {}])
def test_actions_are_taken_once_where_the_agent_is_not_stuck(kwargs):
    # Every episode ends better than the one before.
    env = Noting([([float(n)] * 5, "terminated") for n in range(200)])
    model_of(env, **kwargs).learn(1_000)
    repeated = [durations([*actions, -1]) for actions in env.actions]
    assert np.mean([max(runs) == 1 for runs in repeated if runs]) > 0.8


def test_a_stuck_agent_holds_its_actions_and_goes_on_exploring():
    env = Noting([([-1.0] * 40, "truncated")])
    model = model_of(env, exploration_final_eps=0.0, exploration_fraction=0.0)
    model.learn(80)
    assert model.exploration_rate == model.exploration_stuck_eps == 0.2
    model.exploration_stuck_eps = 1.0
    model.learn(40 * 20, reset_num_timesteps=False)
    assert [16, 16] in [durations(actions) for actions in env.actions]
    model.exploration_stuck_eps = 0.0
    model.learn(40, reset_num_timesteps=False)
    assert model.exploration_rate == 0.0


def test_an_exploration_rate_that_is_asked_for_is_taken_as_it_is():
    model = model_of(Noting(ENDLESS), exploration_final_eps=0.1)
    obs = np.zeros(2, np.float32)
    model._explorer.episodes.stuck = 1.0
    model.act(obs)
    assert model.exploration_rate == 0.2
    model.act(obs, exploration_rate=0.05)
    assert model.exploration_rate == 0.05


@pytest.mark.parametrize(
    ("returns", "stuck"),
    [
        ([], 0.0),
        ([-200.0], 0.0),
        ([-200.0] * 2, 1.0),
        ([-200.0, -100.0], 0.0),
        ([-200.0] * 20, 1.0),
        ([-200.0] * 20 + [-190.0], 18 / 19),
        ([-200.0] * 20 + [-190.0] * 18, 1 / 19),
        ([-200.0] * 20 + [-190.0] * 20, 0.0),
        ([-200.0] * 20 + [-201.0], 0.0),
        ([9.0] + [500.0] * 20, 0.0),  # it has arrived
    ],
)
def test_stuck_is_who_ends_as_badly_as_ever(returns, stuck):
    env = Noting([([r], "terminated") for r in [*returns, 0.0]])
    model = model_of(env)
    model.learn(0)
    if returns:
        model.learn(len(returns), reset_num_timesteps=False)
    assert model._explorer.episodes.stuck == pytest.approx(stuck)


@pytest.mark.parametrize(
    ("lengths", "stuck"),
    [
        ([200] * 20, 1.0),
        ([200] * 20 + [50], 18 / 19),
        ([200] + [6] * 20, 0.0),  # it fails early, and could do better by failing later
        ([6] * 20 + [7], 0.0),
    ],
)
def test_stuck_is_who_has_all_the_time_there_is(lengths, stuck):
    env = Noting([([0.0] * length, "terminated") for length in [*lengths, 1]])
    model = model_of(env).learn(sum(lengths))
    assert model._explorer.episodes.stuck == pytest.approx(stuck)


def test_what_it_has_seen_is_saved(tmp_path):
    model = model_of(Noting([([-1.0] * 4, "truncated")])).learn(50)
    model.save(tmp_path / "model")
    loaded = StreamQ.load(tmp_path / "model")
    assert loaded._explorer.episodes == model._explorer.episodes != RecentEpisodes()
    assert loaded._explorer.held == model._explorer.held


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("exploration", "boltzmann", "'epsilon_greedy', 'extended', 'extended_when_stuck'"),
        ("exploration_duration", 0, "an integer of at least 1, or None"),
        ("exploration_duration", 1.5, "an integer of at least 1, or None"),
        ("exploration_stuck_eps", 1.1, r"a number in \[0, 1\]"),
    ],
)
def test_what_makes_no_sense_is_refused(name, value, words):
    with pytest.raises(ValueError, match=rf"{name}: received {value!r}.*{words}"):
        model_of(Noting(ENDLESS), **{name: value})


def test_the_notebooks_agent_explores_as_ever():
    env = Noting([([-1.0] * 40, "truncated")])
    model = NaiveDQN("MlpPolicy", env, seed=0, exploration_final_eps=0.5, exploration_fraction=0.0)
    model.learn(400)
    assert model.exploration_rate == 0.5
    assert model._explorer.episodes == RecentEpisodes(returns=[0.0], lengths=[0])
