"""Gymnasium's vector environments are learned from as Stable-Baselines3's are."""

import os
import signal
import threading
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics, TransformReward
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecVideoRecorder

from dqn_plugins import (
    EnvironmentStepError,
    NaiveDQN,
    NonFiniteTransitionError,
    StreamQ,
    make_vec_env,
)
from dqn_plugins.environments.gymnasium_vec_env import GymnasiumVecEnv
from tests.environments import FaultyEnv, RecordingEnv, ScriptedEnv, observing, raising
from tests.helpers import everything, weights
from tests.wrappers.scripted import BareVecEnv

MODES = list(AutoresetMode)


def scripted(mode: AutoresetMode, n_envs: int = 2, **kwargs: Any) -> SyncVectorEnv:
    """The second environment's episodes are one step longer than the first one's."""
    envs = [
        lambda n=n: ScriptedEnv([([1.0] * (2 + n), "terminated"), ([2.0] * (2 + n), "truncated")])
        for n in range(n_envs)
    ]
    return SyncVectorEnv(envs, autoreset_mode=mode, **kwargs)


def cart_poles(mode: AutoresetMode, cls: type[VectorEnv] = SyncVectorEnv, n: int = 3) -> VectorEnv:
    make = [lambda: gym.make("CartPole-v1", max_episode_steps=30, render_mode="rgb_array")] * n
    return cls(make, autoreset_mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_told_as_a_monitor_tells_them(mode):
    env = GymnasiumVecEnv(scripted(mode))
    assert env.reset().tolist() == [[0, 0], [0, 0]]
    episodes: list[list[Any]] = [[], []]
    for _ in range(12):
        _, _, dones, infos = env.step(np.zeros(2, np.int64))
        for row, info in enumerate(infos):
            assert dones[row] == ("episode" in info) == ("terminal_observation" in info)
            if dones[row]:
                assert info["terminal_observation"].tolist() == [-1, -1]
                told = info["episode"]
                episodes[row].append((told["r"], told["l"], info["TimeLimit.truncated"]))
                assert told["t"] >= 0
    assert episodes[0][:4] == [(2.0, 2, False), (4.0, 2, True)] * 2
    assert episodes[1][:3] == [(3.0, 3, False), (6.0, 3, True), (3.0, 3, False)]
    assert env.env_is_wrapped(Monitor) == [True, True]


def test_the_step_that_resets_is_no_transition():
    env = GymnasiumVecEnv(scripted(AutoresetMode.NEXT_STEP))
    env.reset()
    valid, begun = [], []
    for _ in range(4):
        env.step(np.zeros(2, np.int64))
        valid.append(env.valid.tolist())
        begun.append(None if env.begun is None else env.begun.tolist())
    assert valid == [[True, True], [True, True], [False, True], [True, False]]
    assert begun == [None, None, [True, False], [False, True]]
    env.reset()
    env.step(np.zeros(2, np.int64))
    assert env.valid.all()  # a reset ends what was going on


@pytest.mark.parametrize("mode", MODES)
def test_what_is_handed_out_does_not_change_later(mode):
    env = GymnasiumVecEnv(scripted(mode, copy=False))
    handed_out = [env.reset()]
    handed_out += [env.step(np.zeros(2, np.int64))[0] for _ in range(6)]
    kept = [obs.copy() for obs in handed_out]
    env.step(np.zeros(2, np.int64))
    assert all(np.array_equal(obs, copy) for obs, copy in zip(handed_out, kept, strict=True))


def pools() -> Any:
    pytest.importorskip("envpool")
    kwargs = {"max_episode_steps": 30, "render_mode": "rgb_array"}
    return make_vec_env("CartPole-v1", 3, "envpool", 1, env_kwargs=kwargs)


OFFERED = [partial(cart_poles, m, c) for m in MODES for c in (SyncVectorEnv, AsyncVectorEnv)]


@pytest.mark.parametrize("make", [*OFFERED, pools])
def test_it_works_with_what_sb3_offers(tmp_path, make):
    env, evaluated = make(), make()
    model = StreamQ("MlpPolicy", env, seed=0)
    if isinstance(evaluated, VectorEnv):
        evaluated = GymnasiumVecEnv(evaluated)
    evaluation = EvalCallback(evaluated, n_eval_episodes=3, eval_freq=50, verbose=0)
    model.learn(300, callback=[evaluation, StopTrainingOnMaxEpisodes(1_000)])
    assert len(model.ep_info_buffer) > 3
    assert 8 <= evaluation.last_mean_reward <= 30
    returns, lengths = evaluate_policy(
        model, model.get_env(), n_eval_episodes=4, return_episode_rewards=True, warn=True
    )
    assert returns == lengths  # a point for every step
    recorder = VecVideoRecorder(model.get_env(), str(tmp_path), lambda x: x == 0, video_length=5)
    recorder.reset()
    for _ in range(6):
        recorder.step(np.zeros(3, np.int64))
    recorder.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_decides_everything_and_a_saved_model_goes_on(tmp_path, mode):
    one, other = (StreamQ("MlpPolicy", cart_poles(mode), seed=3).learn(200) for _ in range(2))
    assert np.array_equal(weights(one), weights(other))
    one.save(tmp_path / "model")
    loaded = StreamQ.load(tmp_path / "model", env=cart_poles(mode))
    assert everything(loaded) == everything(one)
    loaded.learn(60, reset_num_timesteps=False)
    assert not np.array_equal(weights(loaded), weights(one))


def test_processes_and_one_process_teach_the_same():
    models = [
        NaiveDQN("MlpPolicy", cart_poles(AutoresetMode.NEXT_STEP, cls), seed=1).learn(200)
        for cls in (SyncVectorEnv, AsyncVectorEnv)
    ]
    assert np.array_equal(*map(weights, models))


def test_gymnasiums_wrappers_are_heeded():
    env = RecordEpisodeStatistics(cart_poles(AutoresetMode.NEXT_STEP))
    model = NaiveDQN("MlpPolicy", TransformReward(env, lambda reward: 0.5 * reward), seed=0)
    rewards = set()
    model.learn(200, callback=lambda found, _: rewards.update(found["rewards"].tolist()) or True)
    # Where a step resets, the reward is none.
    assert rewards == {0.0, 0.5}
    # The statistics were taken inside: of the environment's own rewards.
    assert all(info["r"] == info["l"] for info in model.ep_info_buffer)


def test_dictionaries_are_learned_from():
    class Pair(ScriptedEnv):
        observation_space = spaces.Dict(
            {"a": spaces.Box(-1.0, np.inf, (2,)), "b": spaces.Discrete(3)}
        )

        def _obs(self) -> Any:
            return {"a": super()._obs(), "b": np.int64(self.step_in_episode)}

        def step(self, action: np.int64) -> Any:
            return self._obs(), *super().step(action)[1:]

    for mode in MODES:
        env = SyncVectorEnv([lambda: Pair([([1.0] * 3, "truncated")])] * 2, autoreset_mode=mode)
        before = StreamQ("MultiInputPolicy", env, seed=0)
        start = weights(before)
        assert not np.array_equal(weights(before.learn(20)), start)


def test_where_nobody_says_how_it_resets_that_is_refused():
    env = scripted(AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(ValueError, match=r"env: received .*autoreset_mode'\] is None"):
        NaiveDQN("MlpPolicy", env)


def test_options_are_handed_on_if_they_are_the_same_for_all():
    class Optioned(RecordingEnv):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.options = options
            return super().reset(seed=seed)

    env = GymnasiumVecEnv(SyncVectorEnv([Optioned, Optioned]))
    env.seed(4)
    env.set_options({"wind": 1.0})
    env.reset()
    assert env.get_attr("options") == [{"wind": 1.0}] * 2
    assert env.get_attr("seeds") == [[4], [5]]
    env.reset()
    assert env.get_attr("seeds", indices=[1]) == [[5, None]]
    assert env.get_attr("options") == [None] * 2
    env.set_options([{"wind": 1.0}, {"wind": 2.0}])
    with pytest.raises(ValueError, match=r"options: received .*'wind': 2\.0.*the same for all"):
        env.reset()


def test_attributes_and_methods_are_those_of_all_environments():
    env = GymnasiumVecEnv(SyncVectorEnv([RecordingEnv, RecordingEnv]))
    env.set_attr("wind", 3.0)
    assert env.get_attr("wind") == [3.0, 3.0]
    env.reset()
    assert [obs.shape for obs in env.env_method("_draw")] == [(3,), (3,)]
    with pytest.raises(NotImplementedError, match=r"indices: received 1, it must be None"):
        env.env_method("_draw", indices=1)


# What goes wrong is named with the environment's index


FAULTS = {
    "raises": raising(ZeroDivisionError("no ground under the lander")),
    "longer": observing(np.zeros(4, np.float32)),
    "NaN": observing(np.full(3, np.nan)),
    "killed": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
}


def with_a_fault_in_the_third(cls: type[VectorEnv], fault: str) -> VectorEnv:
    faulty = partial(FaultyEnv, FAULTS[fault])
    return cls([faulty if i == 2 else RecordingEnv for i in range(4)])


@pytest.mark.parametrize(
    ("cls", "fault", "error_class", "words"),
    [
        (SyncVectorEnv, "raises", EnvironmentStepError, "no ground under the lander"),
        (SyncVectorEnv, "longer", EnvironmentStepError, "shape"),
        (SyncVectorEnv, "NaN", NonFiniteTransitionError, "observation.*nan"),
        (AsyncVectorEnv, "raises", EnvironmentStepError, "no ground under the lander"),
        (AsyncVectorEnv, "longer", EnvironmentStepError, "cast|shape"),
        (AsyncVectorEnv, "NaN", NonFiniteTransitionError, "observation.*nan"),
        (AsyncVectorEnv, "killed", EnvironmentStepError, "killed by SIGKILL"),
    ],
)
def test_the_one_of_several_is_named(cls, fault, error_class, words):
    model = StreamQ("MlpPolicy", with_a_fault_in_the_third(cls, fault), seed=0)
    states = [everything(model)]
    with pytest.raises(error_class, match=f"(?s){words}") as error:
        model.learn(100, callback=lambda *_: states.append(everything(model)) or True)
    assert error.value.env_index == 2
    assert "nvironment 2" in str(error.value)
    assert everything(model) == states[-1]
    closing = threading.Thread(target=model.get_env().close, daemon=True)
    closing.start()
    closing.join(timeout=60)
    assert not closing.is_alive()


# Every VectorEnv of Gymnasium, and every VecEnv that Stable-Baselines3 takes, is taken


@pytest.mark.parametrize("seed", [7, None])
def test_environments_of_one_piece_take_a_seed(seed):
    def first() -> np.ndarray:
        return NaiveDQN("MlpPolicy", gym.make_vec("CartPole-v1", 3), seed=seed).get_env().reset()

    assert np.array_equal(first(), first()) == (seed is not None)
    model = NaiveDQN("MlpPolicy", gym.make_vec("CartPole-v1", 3), seed=seed).learn(200)
    assert all(info["r"] == info["l"] for info in model.ep_info_buffer)
    assert len(model.ep_info_buffer) > 3


class OwnNumbers(VectorEnv):
    """One step per episode; it tells things of its own, some of each environment, some of all."""

    metadata = {"autoreset_mode": "NextStep"}  # noqa: RUF012 - by its name
    num_envs = 2
    single_observation_space = spaces.Box(-1.0, 1.0, (1,))
    single_action_space = spaces.Discrete(2)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions: Any) -> Any:
        infos = {
            "episode": 3,
            "r": np.array([1.0, 2.0]),
            "_r": np.array([True, False]),
            "names": ["a", "b", "c"],
            "nested": {"l": np.array([5, 6])},
            "_raw": 7,
        }
        return np.zeros((2, 1), np.float32), np.ones(2), np.ones(2, bool), np.zeros(2, bool), infos


def test_what_environments_tell_of_their_own_does_no_harm():
    env = GymnasiumVecEnv(OwnNumbers())
    env.reset()
    *_, infos = env.step(np.zeros(2, np.int64))
    assert [info["episode"]["r"] for info in infos] == [1.0, 1.0]
    assert [info.get("r") for info in infos] == [1.0, None]
    assert [info["nested"] for info in infos] == [{"l": 5}, {"l": 6}]
    assert all(info["names"] == ["a", "b", "c"] for info in infos)
    assert all(info["_raw"] == 7 for info in infos)


class SameArray(BareVecEnv):
    """Gives the same array at each step."""

    def reset(self) -> Any:
        self.obs = super().reset()
        return self.obs

    def step_wait(self) -> Any:
        obs, *rest = super().step_wait()
        self.obs[:] = obs
        return self.obs, *rest


class SameArrayVector(OwnNumbers):
    obs = np.zeros((2, 1), np.float32)

    def step(self, actions: Any) -> Any:
        self.obs += 1
        goes_on = np.zeros(2, bool)
        return self.obs, np.ones(2), goes_on, goes_on, {}


@pytest.mark.parametrize("make", [SameArray, SameArrayVector])
def test_an_environment_may_give_the_same_array_at_each_step(make, monkeypatch):
    model = StreamQ("MlpPolicy", make(), seed=0)
    learn, differences = model._learn_from, []

    def keep(transition: Any) -> Any:
        differences.append((transition.next_obs - transition.obs)[0, -1])
        return learn(transition)

    monkeypatch.setattr(model, "_learn_from", keep)
    model.learn(8)
    assert set(differences) == {1.0}


def test_a_vec_env_with_nothing_that_sb3_does_not_call():
    model = StreamQ("MlpPolicy", BareVecEnv(), seed=0)
    start = weights(model)
    model.learn(30, log_interval=1)
    assert not np.array_equal(weights(model), start)
    assert model.num_timesteps == 30
