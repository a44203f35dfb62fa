"""Reward wrappers of all forms, against numbers worked out by hand."""

from __future__ import annotations

import copy
import inspect
import pickle
import queue
import sys
import warnings
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import Autoreset, RecordEpisodeStatistics
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecMonitor, VecNormalize

from dqn_plugins.environments import wrap_env
from dqn_plugins.wrappers import (
    EpisodeReward,
    RecordVideo,
    VecEpisodeReward,
    VectorEpisodeReward,
)
from dqn_plugins.wrappers.rewards.episode import EpisodeHistory
from tests.wrappers.scripted import EPISODES, Scripted, play

RETURNS = [-0.5, 8.25, 1.0]
LENGTHS = [3, 2, 4]
LAST_REWARDS = [0.5, 8.0, 4.0]
# With gamma 0.5: 1 - 1 + 0.125; 0.25 + 4; -1 - 0.5 - 0.25 + 0.5.
DISCOUNTED = [0.125, 4.25, -1.25]


def run(venv: Any, steps: int) -> list[dict[str, Any]]:
    """Step a vectorised environment; return the infos of the episodes' last steps."""
    venv.reset()
    last = []
    for _ in range(steps):
        _, _, dones, infos = venv.step(np.zeros(venv.num_envs, dtype=int))
        last += [info for info, done in zip(infos, dones, strict=True) if done]
    return last


def scalar(make: Any = Scripted, **arguments: Any) -> tuple[Any, list[dict[str, Any]]]:
    env: Any = EpisodeReward(make(), **arguments)
    return env, play(env, 3)


def vector(
    make: Any = Scripted, several: Any = DummyVecEnv, **arguments: Any
) -> tuple[Any, list[dict[str, Any]]]:
    venv = VecEpisodeReward(several([make]), **arguments)
    return venv, run(venv, sum(LENGTHS))


def rows(infos: dict[str, Any]) -> list[dict[str, Any]]:
    """What the infos of a Gymnasium VectorEnv say of the episodes that ended."""
    masks = {key[1:]: value for key, value in infos.items() if key in {"_episode", "_whole"}}
    return [
        {key: {name: values[index] for name, values in infos[key].items()}}
        for key, mask in masks.items()
        for index in np.flatnonzero(mask)
    ]


def gymnasium_vector(mode: AutoresetMode) -> Any:
    def make(**arguments: Any) -> tuple[Any, list[dict[str, Any]]]:
        envs = SyncVectorEnv([Scripted], autoreset_mode=mode)
        env: Any = VectorEpisodeReward(envs, **arguments)
        env.reset()
        told = []
        while env.episode_count < 3:
            _, _, terminated, truncated, infos = env.step(np.zeros(1, dtype=int))
            told += rows(infos)
            if mode is AutoresetMode.DISABLED and (terminated | truncated).any():
                env.reset(options={"reset_mask": terminated | truncated})
        return env, told

    return make


MODES = list(AutoresetMode)
twins = pytest.mark.parametrize(
    "make",
    [
        scalar,
        vector,
        partial(vector, several=partial(SubprocVecEnv, start_method="fork")),
        *map(gymnasium_vector, MODES),
    ],
    ids=["scalar", "vector", "processes", *(mode.name.lower() for mode in MODES)],
)


@twins
def test_numbers_worked_out_by_hand(make: Any) -> None:
    env, infos = make(gamma=0.5)
    assert env.returns == RETURNS
    assert env.lengths == LENGTHS
    assert env.last_rewards == LAST_REWARDS
    assert env.discounted_returns == DISCOUNTED
    assert env.episode_count == 3
    assert env.incomplete_count == 0
    assert env.mean_return == pytest.approx(sum(RETURNS) / 3)
    assert env.mean_length == 3
    assert env.mean_last_reward == pytest.approx(12.5 / 3)
    assert env.mean_discounted_return == pytest.approx(3.125 / 3)
    assert [record.terminated for record in env.records] == [True, False, True]
    assert [record.truncated for record in env.records] == [False, True, False]
    assert not any(record.incomplete for record in env.records)
    assert [info["episode"]["r"] for info in infos] == RETURNS
    assert [info["episode"]["l"] for info in infos] == LENGTHS
    assert all(0 < info["episode"]["t"] < 60 for info in infos)
    assert all(set(info["episode"]) == {"r", "l", "t"} for info in infos)
    elapsed = [record.elapsed for record in env.records]
    assert elapsed == sorted(elapsed)
    # Under the names of the peers
    assert list(env.return_queue) == env.get_episode_rewards() == RETURNS
    assert list(env.length_queue) == env.get_episode_lengths() == LENGTHS
    assert list(env.time_queue) == [info["episode"]["t"] for info in infos]
    assert len(env.get_episode_times()) == 3
    env.close()


# Gymnasium's own checks of RecordEpisodeStatistics, one continuous action space among them.
@pytest.mark.parametrize("kind", [EpisodeReward, RecordEpisodeStatistics])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("length", [2, 5])
def test_drop_in_for_record_episode_statistics(kind: Any, env_id: str, length: int) -> None:
    env = kind(gym.make(env_id), length)
    queue = env.return_queue
    assert env.episode_count == 0
    for episode in range(5):
        env.reset(seed=episode)
        env.action_space.seed(episode)
        assert (env.episode_returns, env.episode_lengths) == (0.0, 0)
        rewards = []
        done = False
        while not done:
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            rewards.append(reward)
            assert (env.episode_returns, env.episode_lengths) == (sum(rewards), len(rewards))
            done = terminated or truncated
            assert ("episode" in info) == done
        assert info["episode"] == {"r": sum(rewards), "l": len(rewards), "t": env.time_queue[-1]}
        assert env.episode_count == episode + 1
    assert env.return_queue is queue
    for each in (env.return_queue, env.length_queue, env.time_queue):
        assert each.maxlen == len(each) == len(np.array(each)) == length
    assert (queue[-1], env.length_queue[-1]) == (sum(rewards), len(rewards))
    env.close()


@twins
@pytest.mark.parametrize(
    ("arguments", "key"),
    [({"window": 2}, "episode"), ({"buffer_length": 2, "stats_key": "whole"}, "whole")],
)
def test_a_window_of_another_length(make: Any, arguments: dict[str, Any], key: str) -> None:
    env, infos = make(**arguments)
    assert list(env.return_queue) == env.returns == RETURNS[1:]
    assert env.episode_count == 3
    assert [info[key]["r"] for info in infos] == RETURNS
    assert all(set(info) & {"episode", "whole"} == {key} for info in infos)
    # Monitor's methods tell of all.
    assert (env.get_episode_rewards(), env.get_episode_lengths()) == (RETURNS, LENGTHS)
    env.close()


@twins
def test_report_lines(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each covers all episodes since the line before, also those that left the window."""
    env, _ = make(report_every=2)
    env.close()
    assert capsys.readouterr().out == (
        "Episode 2: mean return 3.9, mean last reward 4.2, mean length 2.5 (over 2 episodes)\n"
    )
    lines: list[str] = []
    env, _ = make(window=1, report_every=3, report=lines.append)
    env.close()
    assert lines == [
        "Episode 3: mean return 2.9, mean last reward 4.2, mean length 3.0 (over 3 episodes)"
    ]


KINDS: dict[Any, Callable[..., Any]] = {
    EpisodeReward: lambda _=1: Scripted(),
    VecEpisodeReward: lambda n=1: DummyVecEnv([Scripted] * n),
    VectorEpisodeReward: lambda n=1: SyncVectorEnv([Scripted] * n),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"window": 0}, "window: received 0.*at least 1"),
        ({"window": True}, "window: received True"),
        ({"buffer_length": 0}, "buffer_length: received 0.*at least 1"),
        ({"report_every": -3}, "report_every: received -3"),
        ({"report_every": 2.5}, r"report_every: received 2\.5"),
        ({"gamma": 1.01}, r"gamma: received 1\.01.*\[0, 1\]"),
        ({"gamma": float("nan")}, "gamma: received nan"),
    ],
)
def test_arguments_out_of_range(kind: Any, arguments: dict[str, Any], fix: str) -> None:
    with pytest.raises(ValueError, match=fix):
        kind(KINDS[kind](), **arguments)


def test_environments_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match=r"venv: received SyncVectorEnv.*VectorEpisodeReward"):
        VecEpisodeReward(SyncVectorEnv([Scripted]))  # type: ignore[arg-type]
    for kind in (EpisodeReward, VectorEpisodeReward):
        with pytest.raises(TypeError, match="Expected env to be"):
            kind(DummyVecEnv([Scripted]))


def test_the_twins_have_the_same_arguments() -> None:
    first, *others = (
        [(a.name, a.kind, a.default) for a in inspect.signature(kind.__init__).parameters.values()]
        for kind in KINDS
    )
    assert all(other[2:] == first[2:] for other in others)


@pytest.mark.parametrize("kind", KINDS)
def test_no_episode_yet(kind: Any) -> None:
    env = kind(KINDS[kind](), gamma=0.9)
    means = [env.mean_return, env.mean_length, env.mean_last_reward, env.mean_discounted_return]
    assert np.isnan(means).all()


def test_sums_are_kept_in_double_precision() -> None:
    rewards = (np.float32(1.0), *[np.float32(1e-8)] * 200)
    env = EpisodeReward(Scripted(episodes=[(rewards, "terminated")]))
    play(env, 1)
    assert env.returns[0] == pytest.approx(1 + 2e-6, abs=1e-9)
    assert type(env.returns[0]) is float


def test_rewards_that_are_arrays_of_one() -> None:
    rewards = (np.array([1.0], np.float32), np.array([-0.5]))
    env = EpisodeReward(Scripted(episodes=[(rewards, "terminated")]), gamma=0.5)
    assert play(env, 1)[0]["episode"]["r"] == 0.5
    assert (env.last_rewards, env.discounted_returns) == ([-0.5], [0.75])


def test_rewards_of_several_parts_are_not_summed(tmp_path: Path) -> None:
    parts = np.array([1.0, -2.0])
    for reward in (parts, None, "much"):
        env = EpisodeReward(Scripted(episodes=[((reward,), "terminated")]))
        with pytest.raises(ValueError, match=r"(?s)reward: received .*one number.*below"):
            play(env, 1)
        filmed = RecordVideo(Scripted(episodes=[((reward,), "terminated")]), str(tmp_path))
        filmed.reset()
        assert filmed.step(0)[1] is reward
        filmed.close()


class InColumns(gym.vector.VectorWrapper):
    def step(self, actions: Any) -> Any:
        observations, rewards, *rest = self.env.step(actions)
        return observations, np.stack([rewards] * self.n_parts, axis=1), *rest


@pytest.mark.parametrize("n_parts", [1, 2])
def test_rewards_of_several_environments_in_columns(n_parts: int) -> None:
    env = VectorEpisodeReward(InColumns(SyncVectorEnv([Scripted] * 2)))
    env.env.n_parts = n_parts
    env.reset()
    if n_parts == 1:
        for _ in range(3):
            env.step(np.zeros(2, int))
        assert env.returns == [RETURNS[0]] * 2
    else:
        with pytest.raises(ValueError, match=r"reward: received array.*one number"):
            env.step(np.zeros(2, int))


# --- episodes that are given up ---


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_up_is_booked_as_incomplete(kind: Any) -> None:
    n = 1 if kind is EpisodeReward else 2
    env = kind(KINDS[kind](n), gamma=0.5)
    action = 0 if n == 1 else np.zeros(n, int)
    env.reset()
    for _ in range(2):
        env.step(action)
    assert np.all(env.episode_returns == np.full(n, -1.0))
    assert np.all(env.episode_lengths == np.full(n, 2))
    env.reset()
    env.reset()  # no step was taken: nothing to book
    assert (env.incomplete_count, env.episode_count, env.returns) == (n, 0, [])
    record = env.last_incomplete
    assert (record.episode_return, record.length, record.last_reward) == (-1.0, 2, -2.0)
    assert (record.incomplete, record.terminated, record.truncated) == (True, False, False)
    assert record.discounted_return == 0.0
    for _ in range(LENGTHS[2]):
        env.step(action)
    env.reset()  # the episode before is over: nothing to book
    assert (env.incomplete_count, env.episode_count) == (n, n)
    env.step(action)
    env.close()
    env.close()
    assert env.incomplete_count == 2 * n


def test_one_environment_is_one_whatever_it_says_of_itself(tmp_path: Path) -> None:
    class Claims(Scripted):
        num_envs = 4

    env = EpisodeReward(Claims(), log_file=tmp_path / "run")
    play(env, 2)
    env.close()
    assert env.returns == RETURNS[:2]
    assert [path.name for path in tmp_path.iterdir()] == ["run.monitor.csv"]


def test_an_environment_that_resets_itself() -> None:
    env = EpisodeReward(Autoreset(Scripted()))
    env.reset()
    for _ in range(3):
        env.step(0)
    env.step(0)  # this step is the reset
    env.step(0)
    env.step(0)
    assert env.returns == RETURNS[:2]


# --- in any stack ---


def time_limit(env: Any) -> Any:
    return gym.wrappers.TimeLimit(env, 100)


def listed(env: Any) -> Any:
    return vector_wrappers.DictInfoToList(env)


class Decorated(gym.Wrapper):
    @th.no_grad()
    def step(self, action: Any) -> Any:
        return self.env.step(action)


VectorStatistics = vector_wrappers.RecordEpisodeStatistics
STACKS: list[list[Any]] = [  # the innermost first
    [EpisodeReward, Monitor],
    [Monitor, EpisodeReward],
    [EpisodeReward, RecordEpisodeStatistics, Monitor],
    [RecordEpisodeStatistics, Monitor, EpisodeReward],
    [Monitor, EpisodeReward, RecordEpisodeStatistics],
    [EpisodeReward, Monitor, time_limit],
    [EpisodeReward, time_limit, RecordEpisodeStatistics],
    [EpisodeReward, EpisodeReward, RecordEpisodeStatistics],
    [EpisodeReward, Decorated, RecordEpisodeStatistics],
    [VecMonitor, VecEpisodeReward],
    [VecEpisodeReward, VecMonitor],
    [VectorStatistics, VectorEpisodeReward],
    [VectorEpisodeReward, VectorStatistics],
    [VectorEpisodeReward, VectorEpisodeReward, listed],
    [listed, VectorEpisodeReward],
]


@pytest.mark.parametrize("stack", STACKS)
def test_above_and_below_the_peers(stack: Any) -> None:
    several = {*stack} & {VecMonitor, VectorStatistics, listed}
    env: Any = Scripted()
    if several:
        env = (DummyVecEnv if VecMonitor in stack else SyncVectorEnv)([Scripted] * 2)
    ours = []
    for wrapper in stack:
        env = wrapper(env)
        ours += [env] if wrapper in KINDS else []
    if VecMonitor in stack:
        infos = run(env, sum(LENGTHS))
    elif several:
        env.reset()
        infos, steps = [], 0
        while ours[0].episode_count < 6 and (steps := steps + 1) < 99:
            *_, told = env.step(np.zeros(2, int))
            infos += [info for info in told if "episode" in info] if listed in stack else rows(told)
    else:
        infos = play(env, 3)
    repeats = 2 if several else 1
    assert [i["episode"]["r"] for i in infos] == pytest.approx(np.repeat(RETURNS, repeats))
    assert [i["episode"]["l"] for i in infos] == np.repeat(LENGTHS, repeats).tolist()
    for wrapper in ours:
        assert wrapper.returns == np.repeat(RETURNS, repeats).tolist()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_the_same_as_gymnasiums_vector_statistics(mode: AutoresetMode) -> None:
    """Of environments whose episodes end at different steps."""
    seen = []
    for kind in (vector_wrappers.RecordEpisodeStatistics, VectorEpisodeReward):
        makers = [lambda first=first: Scripted(EPISODES[first:]) for first in range(3)]
        envs = kind(SyncVectorEnv(makers, autoreset_mode=mode), buffer_length=4)
        envs.reset(seed=3)
        told = []
        for _ in range(30):
            _, _, terminated, truncated, infos = envs.step(np.zeros(3, int))
            told += [row["episode"] for row in rows(infos)]
            if mode is AutoresetMode.DISABLED and (terminated | truncated).any():
                envs.reset(options={"reset_mask": terminated | truncated})
        seen.append(([(row["r"], row["l"]) for row in told], envs))
    (theirs, their), (ours, our) = seen
    assert len(ours) > 15
    assert set(ours) == set(zip(RETURNS, LENGTHS, strict=True))
    if mode is AutoresetMode.DISABLED:
        return  # where one is reset, Gymnasium's 1.4 forgets the running episodes of all
    assert ours == theirs
    assert list(our.return_queue) == list(their.return_queue)
    assert list(our.length_queue) == list(their.length_queue)
    assert our.episode_count == their.episode_count
    assert our.episode_returns.tolist() == their.episode_returns.tolist()


def test_an_entry_of_another_kind_gives_way_in_the_step_that_ends_an_episode() -> None:
    class Tells(Scripted):
        def step(self, action: int) -> Any:
            return *super().step(action)[:4], {"episode": 7.5}

    env = VectorEpisodeReward(SyncVectorEnv([Tells]))
    env.reset()
    seen = [env.step(np.zeros(1, int))[-1]["episode"] for _ in range(LENGTHS[0])]
    assert seen[0] == seen[1] == 7.5
    assert seen[2]["r"] == RETURNS[0]


def test_environments_that_do_not_say_how_they_reset_themselves() -> None:
    class Silent(SyncVectorEnv):
        metadata = property(lambda self: {}, lambda self, value: None)  # type: ignore[assignment]

    with pytest.warns(UserWarning, match="does not say in metadata"):
        env = VectorEpisodeReward(Silent([Scripted]))
    env.reset()
    for _ in range(5):
        env.step(np.zeros(1, int))
    assert env.returns == RETURNS[:1]
    assert env.episode_lengths.tolist() == [1]


def test_a_reset_a_step_later_is_no_step(tmp_path: Path) -> None:
    """Gymnasium's vector environments reset themselves in the step after an episode's last."""
    env = wrap_env(gym.make_vec("CartPole-v1", 2, "sync", max_episode_steps=5))
    venv = VecEpisodeReward(env, log_file=tmp_path / "log")
    run(venv, 20)
    assert venv.episode_count > 4
    assert set(venv.lengths) == {5}
    assert set(venv.returns) == {5.0}
    venv.close()


@pytest.mark.parametrize("form", [scalar, vector])
def test_what_a_wrapper_closer_to_the_environment_wrote_stays(form: Any) -> None:
    def doubled() -> gym.Env[Any, Any]:
        return gym.wrappers.TransformReward(Monitor(Scripted()), lambda reward: 2 * reward)

    env, infos = form(doubled)
    # Monitor's are the environment's own rewards; ours show what comes out on top.
    assert [info["episode"]["r"] for info in infos] == RETURNS
    assert env.returns == [2 * value for value in RETURNS]


def test_sb3_reads_the_episodes() -> None:
    venv = VecEpisodeReward(DummyVecEnv([Scripted]))
    model = DQN("MlpPolicy", venv, learning_starts=1000, buffer_size=1000).learn(27)
    assert [info["r"] for info in model.ep_info_buffer or []] == RETURNS * 3
    env = Scripted()
    rewards, lengths = evaluate_policy(
        model, Monitor(EpisodeReward(env)), n_eval_episodes=3, return_episode_rewards=True
    )
    assert (rewards, lengths) == (pytest.approx(RETURNS), LENGTHS)


def scaled(env: Any) -> Any:
    return gym.wrappers.TransformReward(env, lambda reward: 0.01 * reward)


MONITORS: dict[str, Callable[[Any], Any]] = {
    "Monitor": lambda env: scaled(Monitor(env)),
    "scalar": lambda env: scaled(EpisodeReward(env)),
    "other key": lambda env: scaled(EpisodeReward(Monitor(env), stats_key="whole")),
    "in a VecEnv": lambda env: DummyVecEnv([lambda: scaled(EpisodeReward(env))]),
    "vector": lambda env: VecNormalize(VecEpisodeReward(DummyVecEnv([lambda: env]))),
}


@pytest.mark.parametrize("own", [None, 7, np.float32(2.5), {"score": 3}], ids=repr)
@pytest.mark.parametrize("kind", MONITORS)
def test_in_monitors_place_for_sb3(kind: str, own: Any) -> None:
    """The returns are the environment's own, whatever it tells of its own under the same key."""

    class Tells(Scripted):
        def step(self, action: int) -> Any:
            numbers = {"r": 1, "l": 2, "t": 3, "interventions": 4}
            return *super().step(action)[:4], numbers if own is None else {"episode": own}

    model = DQN("MlpPolicy", Scripted(), buffer_size=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rewards, lengths = evaluate_policy(
            model, MONITORS[kind](Tells()), n_eval_episodes=3, return_episode_rewards=True
        )
    assert (rewards, lengths) == (pytest.approx(RETURNS), LENGTHS)


def test_in_monitors_place_whenever_sb3_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monitors = sys.modules["stable_baselines3.common.monitor"]
    monkeypatch.delitem(sys.modules, monitors.__name__)
    env = EpisodeReward(Scripted())
    assert not isinstance(env, Monitor)
    monkeypatch.setitem(sys.modules, monitors.__name__, monitors)
    assert isinstance(env, Monitor)
    play(env, 3)
    found: Any = unwrap_wrapper(scaled(env), Monitor)
    assert found.get_episode_rewards() == RETURNS


def test_an_environment_may_tell_in_the_same_dictionary_at_each_step() -> None:
    class Tells(Scripted):
        told: dict[str, Any] = {}  # noqa: RUF012

        def step(self, action: int) -> Any:
            return *super().step(action)[:4], self.told

    _, infos = scalar(Tells)
    assert [info["episode"]["r"] for info in infos] == RETURNS
    assert Tells.told == {}


def test_under_another_key_sb3_looks_elsewhere() -> None:
    for env in (
        DummyVecEnv([lambda: EpisodeReward(Scripted(), stats_key="whole")]),
        VecEpisodeReward(DummyVecEnv([Scripted]), stats_key="whole"),
    ):
        assert env.env_is_wrapped(Monitor) == [False]


@pytest.mark.parametrize("form", [scalar, vector])
def test_an_environments_own_numbers_are_left_alone(form: Any, tmp_path: Path) -> None:
    class Tells(Scripted):
        def step(self, action: int) -> Any:
            own = {"r": 1, "l": 2.5, "interventions": 4, "valid": 0, "episode": self.episode}
            return *super().step(action)[:4], own

    class HasMore(DummyVecEnv):
        valid = 0

    more = {"several": HasMore} if form is vector else {}
    env, infos = form(Tells, log_file=tmp_path / "log", **more)
    assert env.returns == RETURNS
    assert all((info["r"], info["l"], info["interventions"]) == (1, 2.5, 4) for info in infos)
    env.close()
    assert load_results(str(tmp_path))["interventions"].isna().all()


def test_attributes_reach_the_environment_as_before() -> None:
    env = EpisodeReward(Scripted())
    env.env.size = (8, 8)
    assert env.unwrapped.size == env.env.size == (8, 8)
    env.set_wrapper_attr("size", (9, 9))
    assert env.unwrapped.size == env.get_wrapper_attr("size") == (9, 9)
    again = pickle.loads(pickle.dumps(EpisodeReward(Scripted())))
    assert type(again) is EpisodeReward
    assert play(again, 1)[0]["episode"]["r"] == RETURNS[0]


def test_a_copy_writes_no_log(tmp_path: Path) -> None:
    env = EpisodeReward(Scripted(), log_file=tmp_path / "log", window=np.int64(2))
    again = copy.deepcopy(env)
    for each in (env, again):
        play(each, 3)
        each.close()
        assert each.returns == RETURNS[1:]
    assert load_results(str(tmp_path))["r"].tolist() == RETURNS


def test_a_report_may_be_a_method_of_what_cannot_be_copied() -> None:
    lines: queue.Queue[str] = queue.Queue()
    play(EpisodeReward(Scripted(), report_every=3, report=lines.put), 3)
    assert lines.get_nowait().startswith("Episode 3:")


def test_vector_attributes_are_gymnasiums() -> None:
    theirs, ours = (
        kind(SyncVectorEnv([Scripted] * 2)) for kind in (VectorStatistics, VectorEpisodeReward)
    )
    for env in (theirs, ours):
        env.reset()
        for _ in range(3):
            env.step(np.zeros(2, int))
    assert ours.prev_dones.tolist() == theirs.prev_dones.tolist() == [True, True]
    assert ours.episode_start_times == pytest.approx(theirs.episode_start_times, abs=5.0)


@pytest.mark.parametrize("kind", [RecordEpisodeStatistics, EpisodeReward])
def test_attributes_are_set_as_gymnasiums(kind: Any) -> None:
    env = kind(Scripted())
    play(env, 2)
    env.episode_count = 10
    env.return_queue = deque([5.0], maxlen=2)
    env.length_queue.clear()
    env.time_queue = deque(maxlen=4)
    env.reset()
    env.episode_returns, env.episode_lengths = 100.0, 50
    env.episode_start_time -= 1000.0
    for _ in range(LENGTHS[2]):
        *_, info = env.step(0)
    assert (info["episode"]["r"], info["episode"]["l"]) == (100.0 + RETURNS[2], 50 + LENGTHS[2])
    assert 1000.0 < info["episode"]["t"] == env.time_queue[-1] < 1060.0
    assert list(env.return_queue) == [5.0, info["episode"]["r"]]
    assert list(env.length_queue) == [info["episode"]["l"]]
    assert env.episode_count == 11


@pytest.mark.parametrize("kind", [VecMonitor, VecEpisodeReward])
def test_attributes_are_set_as_vec_monitors(kind: Any) -> None:
    venv = kind(DummyVecEnv([Scripted] * 2))
    venv.reset()
    venv.episode_returns = np.array([10.0, 20.0])
    venv.episode_lengths = np.array([1, 2])
    venv.episode_count = 5
    for _ in range(LENGTHS[0]):
        *_, infos = venv.step(np.zeros(2, np.int64))
    assert [info["episode"]["r"] for info in infos] == [10.0 + RETURNS[0], 20.0 + RETURNS[0]]
    assert [info["episode"]["l"] for info in infos] == [1 + LENGTHS[0], 2 + LENGTHS[0]]
    assert venv.episode_count == 7


@pytest.mark.parametrize("kind", [Monitor, EpisodeReward])
def test_steps_are_counted_as_monitor_counts_them(kind: Any) -> None:
    env = kind(Scripted())
    counts = [env.get_total_steps()]
    play(env, 1)
    counts.append(env.get_total_steps())
    for _ in range(2):  # the first of them is given up
        env.reset()
        env.step(0)
        counts.append(env.get_total_steps())
    assert counts == [0, 3, 4, 5]


def test_what_is_forgotten_is_said() -> None:
    history = EpisodeHistory(most=2)
    for number in (1.0, 2.0):
        history.add(number, 1, number)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert history.told(history.returns) == [1.0, 2.0]
    history.add(3.0, 1, 3.0)
    with pytest.warns(UserWarning, match=r"Only the last 2 episodes are remembered.*log_file"):
        assert history.told(history.returns) == [2.0, 3.0]


def test_nothing_else_is_changed() -> None:
    bare, wrapped = Scripted(), EpisodeReward(Scripted())
    for env in (bare, wrapped):
        env.reset(seed=1)
    for _ in range(3):
        theirs, ours = bare.step(0), wrapped.step(0)
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1:4] == theirs[1:4]
    assert wrapped.unwrapped.np_random_seed == bare.np_random_seed == 1


def test_spec_rebuilds_the_same_wrapper(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "window": 7,
        "report_every": 3,
        "gamma": 0.5,
        "log_file": str(tmp_path / "log"),
        "append": False,
        "report": print,
        "buffer_length": 5,
        "stats_key": "whole",
    }
    parameters = set(inspect.signature(EpisodeReward.__init__).parameters)
    assert set(arguments) == parameters - {"self", "env"}
    env = EpisodeReward(gym.make("CartPole-v1"), **arguments)
    assert env.spec is not None
    rebuilt = gym.make(env.spec)
    assert isinstance(rebuilt, EpisodeReward)
    assert rebuilt._saved_kwargs == arguments
    env.close()
    rebuilt.close()


# --- the log ---


def test_log_is_read_by_load_results(tmp_path: Path) -> None:
    env, _ = scalar(log_file=str(tmp_path / "run"), gamma=0.5)
    env.reset()
    env.step(0)
    env.close()
    assert env.log_path == str(tmp_path / "run.monitor.csv")
    table = load_results(str(tmp_path))
    assert table["r"].tolist() == [*RETURNS, 1.0]
    assert table["l"].tolist() == [*LENGTHS, 1]
    assert table["last_reward"].tolist() == [*LAST_REWARDS, 1.0]
    assert table["terminated"].tolist() == [True, False, True, False]
    assert table["truncated"].tolist() == [False, True, False, False]
    assert table["incomplete"].tolist() == [False, False, False, True]
    assert table["discounted_return"].tolist() == [*DISCOUNTED, 1.0]
    assert table["t"].is_monotonic_increasing


def test_vector_log_has_one_file_per_environment(tmp_path: Path) -> None:
    venv = VecEpisodeReward(DummyVecEnv([Scripted] * 2), log_file=str(tmp_path / "run"))
    run(venv, sum(LENGTHS))
    venv.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run.0.monitor.csv", "run.1.monitor.csv"]
    assert sorted(load_results(str(tmp_path))["r"]) == sorted(RETURNS * 2)
    venv = VecEpisodeReward(DummyVecEnv([Scripted]), log_file=tmp_path)
    venv.close()
    assert (tmp_path / "0.monitor.csv").is_file()


def test_episodes_are_as_scripted() -> None:
    assert [sum(rewards) for rewards, _ in EPISODES] == RETURNS
