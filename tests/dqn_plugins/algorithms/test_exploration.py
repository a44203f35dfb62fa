"""Random actions: once or for a while, and for longer while the agent is stuck."""

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.algorithms.exploration import EpsilonGreedy, RecentEpisodes
from dqn_plugins.learning import Transition
from tests.environments import ScriptedEnv

N_ACTIONS = 50
BAD = (-200.0, 1)
ENDLESS = [([-1.0] * 100_000, "truncated")]
Noting = partial(ScriptedEnv, n_actions=N_ACTIONS)


def model_of(*envs: ScriptedEnv, **kwargs: Any) -> StreamQ:
    defaults = {
        "learning_rate": 0.0,
        "exploration_fraction": 0.0,
        "exploration_final_eps": 1.0,
        "policy_kwargs": {"net_arch": []},
        "seed": 0,
    }
    env = DummyVecEnv([lambda env=env: env for env in envs])
    return StreamQ("MlpPolicy", env, **{**defaults, **kwargs})


def step(rewards: list[float], dones: list[bool] | None = None, first: int = 0) -> Transition:
    """One step of several environments, as the learner sees it."""
    n = len(rewards)
    obs, flags = np.zeros((n, 1), np.float32), np.array(dones or [False] * n)
    numbers = np.array(rewards, np.float32)
    every = np.ones(n, np.bool_)
    actions = np.zeros(n, np.int64)
    return Transition(obs, actions, numbers, obs, flags, flags, obs, every, None, first)


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
    model._explorer.episodes.lingering = 1.0
    model.act(obs)
    assert model.exploration_rate == 0.2
    model.act(obs, exploration_rate=0.05)
    assert model.exploration_rate == 0.05


@pytest.mark.parametrize(
    ("episodes", "stuck"),
    [
        # returns of episodes of one step
        ([], 0.0),
        ([BAD], 0.0),
        ([BAD] * 2, 1.0),
        ([BAD, (-100.0, 1)], 0.0),
        ([BAD] * 20, 1.0),
        ([BAD] * 20 + [(-190.0, 1)], 18 / 19),
        ([BAD] * 20 + [(-190.0, 1)] * 18, 1 / 19),
        ([BAD] * 20 + [(-190.0, 1)] * 20, 0.0),
        ([BAD] * 20 + [(-201.0, 1)], 0.0),
        ([(9.0, 1)] + [(500.0, 1)] * 20, 0.0),  # it has arrived
        # and lengths: stuck is who has all the time there is
        ([(0.0, 200)] * 20, 1.0),
        ([(0.0, 200)] * 20 + [(0.0, 50)], 18 / 19),
        ([(0.0, 200)] + [(0.0, 6)] * 20, 0.0),  # it fails early, and could do better later
        ([(0.0, 6)] * 20 + [(0.0, 7)], 0.0),
    ],
)
def test_stuck_is_who_ends_as_badly_and_as_late_as_ever(episodes, stuck):
    env = Noting([([value / n] * n, "terminated") for value, n in [*episodes, (0.0, 1)]])
    model = model_of(env).learn(0)
    n_steps = sum(length for _, length in episodes)
    model.learn(n_steps, reset_num_timesteps=False)
    assert model._explorer.episodes.stuck == pytest.approx(stuck)


def test_what_it_has_seen_is_saved(tmp_path):
    model = model_of(Noting([([-1.0] * 4, "truncated")])).learn(50)
    model.save(tmp_path / "model")
    loaded = StreamQ.load(tmp_path / "model")
    assert loaded._explorer.episodes == model._explorer.episodes != RecentEpisodes()
    assert loaded._explorer.held == model._explorer.held


def test_the_notebooks_agent_explores_as_ever():
    env = Noting([([-1.0] * 40, "truncated")])
    model = NaiveDQN("MlpPolicy", env, seed=0, exploration_final_eps=0.5, exploration_fraction=0.0)
    model.learn(400)
    assert model.exploration_rate == 0.5
    assert model._explorer.episodes == RecentEpisodes(returns=[0.0], lengths=[0])


# The object alone


def test_it_explores_as_often_as_it_is_asked_to_and_evenly():
    explorer = EpsilonGreedy(n_actions=4, n_envs=2, seed=1)
    greedy = np.full((20_000, 2), 3)
    chosen = np.array([explorer.choose(row.copy(), 0.4) for row in greedy])
    # A random action is one of four, the greedy one among them.
    for env_index in range(2):
        shares = np.bincount(chosen[:, env_index], minlength=4) / len(chosen)
        assert shares == pytest.approx([0.1, 0.1, 0.1, 0.7], abs=0.01)
    both = (chosen != 3).all(axis=1).mean()
    assert both == pytest.approx(0.3**2, abs=0.01)  # a coin for each


@pytest.mark.parametrize("kind", ["epsilon_greedy", "extended", "extended_when_stuck"])
def test_without_exploration_the_greedy_actions_stay(kind):
    explorer = EpsilonGreedy(n_actions=4, n_envs=3, seed=1, kind=kind, duration=2)
    assert explorer.choose(np.array([2, 0, 3]), 0.0).tolist() == [2, 0, 3]


def test_the_same_seed_draws_the_same_and_predicting_is_no_part_of_it():
    one, other = (EpsilonGreedy(n_actions=50, seed=4) for _ in range(2))
    greedy = np.zeros(1, np.int64)
    drawn = []
    for explorer in (one, other):
        for _ in range(20 if explorer is one else 0):
            explorer.choose_to_predict(np.zeros((2, 3), np.int64), 1.0)
        drawn.append([int(explorer.choose(greedy.copy(), 1.0)[0]) for _ in range(50)])
    assert drawn[0] == drawn[1]
    one.set_random_seed(4)
    assert [int(one.choose(greedy.copy(), 1.0)[0]) for _ in range(50)] == drawn[0]


def test_environments_that_take_turns_hold_their_own_actions():
    explorer = EpsilonGreedy(n_actions=1_000, n_envs=4, seed=0, kind="extended", duration=3)
    taken = [
        [explorer.choose(np.zeros(2, np.int64), 1.0, first).tolist() for first in (0, 2)]
        for _ in range(3)
    ]
    assert taken[0] == taken[1] == taken[2]
    assert len({action for turn in taken[0] for action in turn}) == 4
    explorer.follow(step([0.0, 0.0], [False, True], first=2))
    assert explorer.held.steps == [0, 0, 0, 0]
    explorer.choose(np.zeros(2, np.int64), 1.0, 2)
    explorer.follow(step([0.0, 0.0], [False, True], first=2))
    assert explorer.held.steps == [0, 0, 2, 0]
    explorer.begin(2)
    assert explorer.held.steps == [0, 0]


CRASH, LANDING, HOVERING = (-100.0, 3), (100.0, 6), (-30.0, 20)


@pytest.mark.parametrize(
    ("episodes", "lingering"),
    [
        ([CRASH, LANDING, *[HOVERING] * 5], 4 / 6),
        ([*[HOVERING] * 5, LANDING, CRASH], 4 / 6),
        ([CRASH, *[HOVERING] * 5], 0.0),  # it is the best so far
        ([HOVERING, LANDING, CRASH, *[(-20.0, 30)] * 5], 4 / 7),
        ([HOVERING, CRASH, *[(-40.0, 30)] * 5], 4 / 6),  # it hovered for less
        ([CRASH, LANDING, HOVERING, *[(100.0, 20)] * 4], 0.0),
        ([(9.0, 9), *[(40.0, 40)] * 5], 0.0),
    ],
)
def test_lingering_is_who_takes_long_over_what_is_done_better_in_less(episodes, lingering):
    explorer = EpsilonGreedy(2, kind="extended_when_stuck", stuck_rate=0.5)
    for value, length in episodes:
        for n in range(length):
            explorer.follow(step([value if n == 0 else 0.0], [n == length - 1]))
    assert explorer.episodes.lingering == pytest.approx(lingering)
    assert explorer.smallest_rate == pytest.approx(lingering / 2)
    assert explorer.episodes.stuck == 0.0  # no action is held


def after(ended: list[int], *running: int, reward: float = -1.0) -> EpsilonGreedy:
    """Episodes of these lengths ended, and in each environment one runs since so many steps."""
    explorer = EpsilonGreedy(
        2, n_envs=max(len(running), 1), kind="extended_when_stuck", stuck_rate=0.2
    )
    for length in ended:
        for n in range(length):
            explorer.follow(step([reward], [n == length - 1]))
    for env_index, length in enumerate(running):
        for _ in range(length):
            explorer.follow(step([reward], first=env_index))
    return explorer


@pytest.mark.parametrize(
    ("ended", "running", "reward", "stuck"),
    [
        # As long as the longest, or not yet twice: the episode may be about to end.
        ([10, 4], [10], -1.0, 0.0),
        ([10, 4], [19], -1.0, 0.0),
        # It counts as two episodes, the longest that ended as one, of which one is left out.
        ([10, 4], [20], -1.0, 2 / 3),
        ([10, 4], [39], -1.0, 3 / 4),
        ([4] * 19 + [10], [30], -1.0, 3 / 22),
        ([4] * 19 + [10], [1_000], -1.0, 100 / 119),
        ([10, 4], [25, 3], -1.0, 2 / 3),
        ([10, 4], [25, 25], -1.0, 4 / 5),
        # Before any has ended, 1,000 steps stand for the longest.
        ([], [1_999], -1.0, 0.0),
        ([], [2_000], -1.0, 1.0),
        # It is no worse than the worst.
        *[(*long, reward, 0.0) for long in (([10, 4], [100]), ([], [5_000])) for reward in (0, 1)],
    ],
)
def test_an_episode_that_does_not_end_counts_as_stuck(ended, running, reward, stuck):
    explorer = after(ended, *running, reward=reward)
    assert explorer.episodes.stuck == pytest.approx(stuck)
    assert explorer.smallest_rate == pytest.approx(0.2 * stuck)
    explorer.begin(1)  # it is given up
    assert (explorer.episodes.stuck, explorer.episodes.lingering) == (0.0, 0.0)


def test_a_long_episode_that_ends_well_is_stuck_no_longer():
    explorer = after([10, 4], 20)
    explorer.follow(step([15.0]))
    assert explorer.episodes.stuck == 0.0
    explorer.follow(step([-10.0]))
    assert explorer.episodes.stuck == pytest.approx(2 / 3)
    explorer.follow(step([30.0], [True]))
    assert explorer.episodes == RecentEpisodes(
        explorer.episodes.last, -10.0, 23, 15.0, -4.0, [0.0], [0], stuck=0.0, lingering=0.0
    )


# Possible actions


@pytest.mark.parametrize("n_envs", [1, 3])
def test_random_actions_are_drawn_evenly_from_what_is_possible(n_envs):
    explorer = EpsilonGreedy(n_actions=4, n_envs=n_envs, seed=1)
    masks = np.array([[0, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], bool)[:n_envs]
    greedy = masks.argmax(axis=1)
    chosen = np.array([explorer.choose(greedy.copy(), 0.5, 0, masks) for _ in range(8_000)])
    predicted = np.array([explorer.choose_to_predict(greedy, 0.5, masks) for _ in range(8_000)])
    expected = [[0, 0.75, 0, 0.25], [0.625, 0.125, 0.125, 0.125], [0, 0, 1, 0]]
    for actions in (chosen, predicted):
        for row in range(n_envs):
            shares = np.bincount(actions[:, row], minlength=4) / len(actions)
            assert shares == pytest.approx(expected[row], abs=0.02)
            assert (shares[~masks[row]] == 0).all()


def test_with_everything_possible_the_same_is_drawn_as_without_masks():
    one, other = (EpsilonGreedy(n_actions=7, n_envs=2, seed=3) for _ in range(2))
    every = np.ones((2, 7), bool)
    for _ in range(100):
        masked = one.choose(np.array([1, 2]), 0.6, 0, every)
        assert masked.tolist() == other.choose(np.array([1, 2]), 0.6).tolist()


def test_an_action_that_is_held_is_dropped_when_it_becomes_impossible():
    explorer = EpsilonGreedy(n_actions=3, n_envs=1, seed=0, kind="extended", duration=4)
    first = explorer.choose(np.array([0]), 1.0, 0, np.array([[False, True, False]]))
    held = explorer.choose(np.array([0]), 0.0, 0, np.array([[True, True, False]]))
    assert first.tolist() == held.tolist() == [1]
    dropped = explorer.choose(np.array([0]), 0.0, 0, np.array([[True, False, True]]))
    again = explorer.choose(np.array([0]), 0.0, 0, np.array([[True, True, True]]))
    assert dropped.tolist() == again.tolist() == [0]
