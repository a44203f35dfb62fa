"""NaiveDQN does what Stable-Baselines3's users, callbacks, wrappers and scripts expect."""

import copy
import inspect
import io
import itertools
import json
import runpy
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger, configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork
from torch import nn

from dqn_plugins import NaiveDQN
from dqn_plugins.policies import CnnPolicy, KerasAdam, MlpPolicy, MultiInputPolicy, glorot_uniform
from tests.environments import FailingEnv, RecordingEnv, ScriptedEnv
from tests.helpers import learn_all, optimizer_numbers, weights


def same_numbers(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) > 0 and all(map(np.array_equal, one, other))


class MemoryWriter(KVWriter):
    """Keeps what is logged: a list of (step, values)."""

    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values, key_excluded, step=0) -> None:
        self.logs.append((step, dict(key_values)))

    def close(self) -> None:
        pass


def remember_logs(model: BaseAlgorithm) -> list[tuple[int, dict[str, Any]]]:
    writer = MemoryWriter()
    model.set_logger(Logger(folder=None, output_formats=[writer]))
    return writer.logs


class Watcher(BaseCallback):
    """Writes down in which order it was called, and what it could read."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.seen: list[dict[str, Any]] = []
        self.stop_after = stop_after

    def _on_training_start(self) -> None:
        self.calls.append("training_start")
        self.at_start = dict(self.locals)

    def _on_rollout_start(self) -> None:
        self.calls.append("rollout_start")

    def _on_step(self) -> bool:
        self.calls.append("step")
        self.seen.append(dict(self.locals))
        return self.stop_after is None or self.n_calls < self.stop_after

    def _on_rollout_end(self) -> None:
        self.calls.append("rollout_end")

    def _on_training_end(self) -> None:
        self.calls.append("training_end")


# Two terminations and a truncation: returns 3, 5 and -1; lengths 2, 1 and 3.
EPISODES = [([1.0, 2.0], "terminated"), ([5.0], "terminated"), ([-1.0, 0.0, 0.0], "truncated")]


# Callbacks


def test_a_callback_sees_training_rollouts_and_steps_in_sb3s_order():
    watcher = Watcher()
    NaiveDQN("MlpPolicy", RecordingEnv()).learn(3, callback=watcher)
    step = ["rollout_start", "step", "rollout_end"]
    assert watcher.calls == ["training_start", *step * 3, "training_end"]
    assert watcher.num_timesteps == watcher.n_calls == 3


def test_a_callback_finds_the_locals_that_dqn_has():
    watcher = Watcher()
    env = ScriptedEnv(EPISODES)
    model = NaiveDQN("MlpPolicy", env)
    model.learn(6, callback=watcher, log_interval=7, tb_log_name="name")
    assert watcher.at_start["total_timesteps"] == 6
    assert watcher.at_start["tb_log_name"] == "name"
    assert watcher.at_start["log_interval"] == 7
    assert watcher.at_start["self"] is model
    assert [float(seen["rewards"][0]) for seen in watcher.seen] == [1, 2, 5, -1, 0, 0]
    assert [bool(seen["dones"][0]) for seen in watcher.seen] == [0, 1, 1, 0, 0, 1]
    assert [seen["new_obs"][0].tolist() for seen in watcher.seen] == [
        [0, 1],
        [1, 0],
        [2, 0],
        [2, 1],
        [2, 2],
        [3, 0],
    ]
    for seen in watcher.seen:
        assert seen["env"] is model.get_env()
        assert seen["actions"].shape == seen["dones"].shape == seen["rewards"].shape == (1,)
        assert seen["dones"].dtype == np.bool_
        assert isinstance(seen["infos"], list)
    assert watcher.seen[1]["infos"][0]["terminal_observation"].tolist() == [-1, -1]
    assert watcher.seen[1]["infos"][0]["episode"]["r"] == 3.0
    assert watcher.seen[5]["infos"][0]["TimeLimit.truncated"]


def test_several_environments_make_one_callback_call_a_step():
    watcher = Watcher()
    model = NaiveDQN("MlpPolicy", make_vec_env(RecordingEnv, n_envs=3))
    model.learn(7, callback=watcher)
    assert watcher.n_calls == 3
    # A lower bound: three environments take nine steps.
    assert model.num_timesteps == watcher.num_timesteps == 9
    assert all(len(seen["dones"]) == len(seen["infos"]) == 3 for seen in watcher.seen)


def test_a_callback_stops_the_training_and_loses_nothing():
    watcher = Watcher(stop_after=4)
    env = ScriptedEnv(EPISODES)
    model = NaiveDQN("MlpPolicy", env)
    model.learn(1_000, callback=watcher)
    assert env.n_steps == model.num_timesteps == model._n_updates == 4
    assert watcher.calls[-1] == "training_end"
    assert [episode["r"] for episode in model.ep_info_buffer] == [3.0, 5.0]


def test_the_episode_that_ends_at_the_stop_is_counted():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    model.learn(1_000, callback=StopTrainingOnMaxEpisodes(3))
    assert model.num_timesteps == 6
    assert [episode["r"] for episode in model.ep_info_buffer] == [3.0, 5.0, -1.0]
    assert model._episode_num == 3


def test_stop_on_max_episodes_counts_over_all_environments():
    model = NaiveDQN("MlpPolicy", make_vec_env(lambda: ScriptedEnv([([1.0] * 5, "terminated")]), 2))
    model.learn(1_000, callback=StopTrainingOnMaxEpisodes(2))
    assert model.num_timesteps == 20


def test_a_list_of_callbacks_is_called_one_after_another():
    watchers = [Watcher(), Watcher(stop_after=3)]
    NaiveDQN("MlpPolicy", RecordingEnv()).learn(10, callback=watchers)
    assert [watcher.n_calls for watcher in watchers] == [3, 3]
    assert watchers[0].seen[-1]["rewards"] is watchers[1].seen[-1]["rewards"]
    assert watchers[0].calls[-1] == watchers[1].calls[-1] == "training_end"


def test_a_function_is_a_callback_and_may_stop_the_training():
    steps: list[int] = []

    def stop_at_5(locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        assert "__name__" in globals_
        steps.append(locals_["self"].num_timesteps)
        return steps[-1] < 5

    model = NaiveDQN("MlpPolicy", RecordingEnv()).learn(10, callback=stop_at_5)
    assert steps == [1, 2, 3, 4, 5]
    assert model.num_timesteps == 5


def test_every_n_timesteps_fires_every_n_timesteps():
    inner = Watcher()
    NaiveDQN("MlpPolicy", RecordingEnv()).learn(25, callback=EveryNTimesteps(10, inner))
    assert inner.n_calls == 2
    assert inner.num_timesteps == 20
    assert {"dones", "infos", "rewards", "new_obs"} <= inner.seen[0].keys()


def test_log_every_n_timesteps_logs():
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    logs = remember_logs(model)
    model.learn(25, callback=LogEveryNTimesteps(10), log_interval=None)
    assert [step for step, _ in logs] == [10, 20]


def test_a_checkpoint_holds_what_was_learned_up_to_it(tmp_path, backend):
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=0, backend=backend)
    model.learn(20, callback=CheckpointCallback(10, str(tmp_path), name_prefix="m"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m_10_steps.zip", "m_20_steps.zip"]
    halfway = NaiveDQN.load(tmp_path / "m_10_steps")
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend)
    learn_all(twin, env.transitions[:10])
    assert halfway.num_timesteps == 10
    assert np.array_equal(weights(halfway), weights(twin))


def test_checkpoints_save_vecnormalize(tmp_path):
    vec_env = VecNormalize(make_vec_env(RecordingEnv))
    callback = CheckpointCallback(5, str(tmp_path), save_vecnormalize=True)
    NaiveDQN("MlpPolicy", vec_env).learn(5, callback=callback)
    loaded = VecNormalize.load(
        str(tmp_path / "rl_model_vecnormalize_5_steps.pkl"), make_vec_env(RecordingEnv)
    )
    assert loaded.obs_rms.count > 5


def test_eval_callback_evaluates_saves_the_best_model_and_logs(tmp_path):
    eval_env = Monitor(ScriptedEnv([([2.0, 2.0], "terminated")]))
    callback = EvalCallback(
        eval_env,
        eval_freq=5,
        n_eval_episodes=2,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    model.learn(10, callback=callback)
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [5, 10]
        assert evaluations["results"].tolist() == [[4.0, 4.0]] * 2
    assert callback.best_mean_reward == 4.0
    assert NaiveDQN.load(tmp_path / "best_model").num_timesteps == 5


def test_a_reward_threshold_stops_the_training():
    stop = StopTrainingOnRewardThreshold(reward_threshold=3.0)
    eval_env = Monitor(ScriptedEnv([([2.0, 2.0], "terminated")]))
    callback = EvalCallback(
        eval_env, callback_on_new_best=stop, eval_freq=5, n_eval_episodes=1, verbose=0
    )
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    assert model.learn(100, callback=callback).num_timesteps == 5


def test_no_improvement_stops_the_training():
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1)
    eval_env = Monitor(ScriptedEnv([([2.0, 2.0], "terminated")]))
    callback = EvalCallback(
        eval_env, callback_after_eval=stop, eval_freq=5, n_eval_episodes=1, verbose=0
    )
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    assert model.learn(100, callback=callback).num_timesteps == 15


def test_eval_callback_keeps_vecnormalize_in_step():
    train_env = VecNormalize(make_vec_env(RecordingEnv))
    eval_env = VecNormalize(make_vec_env(RecordingEnv), training=False)
    callback = EvalCallback(eval_env, eval_freq=20, n_eval_episodes=1, verbose=0)
    NaiveDQN("MlpPolicy", train_env).learn(20, callback=callback)
    assert np.array_equal(eval_env.obs_rms.mean, train_env.obs_rms.mean)


@pytest.mark.parametrize("as_argument", [True, False])
def test_the_progress_bar_counts_every_step_and_closes(as_argument, monkeypatch):
    bars: list[ProgressBarCallback] = []
    init = ProgressBarCallback.__init__

    def remember(self: ProgressBarCallback) -> None:
        init(self)
        bars.append(self)

    monkeypatch.setattr(ProgressBarCallback, "__init__", remember)
    model = NaiveDQN("MlpPolicy", make_vec_env(RecordingEnv, n_envs=2))
    if as_argument:
        model.learn(10, progress_bar=True)
    else:
        model.learn(10, callback=[ProgressBarCallback()])
    (bar,) = bars
    assert bar.pbar.n == bar.pbar.total == 10
    assert bar.pbar.disable  # what `close` does to a bar


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_the_training_ends_for_callbacks_also_when_the_environment_raises(error):
    watcher = Watcher()
    env = FailingEnv(4, error)
    model = NaiveDQN("MlpPolicy", env)
    with pytest.raises(type(error)):
        model.learn(10, callback=watcher, progress_bar=True)
    assert watcher.calls.count("step") == 3
    assert watcher.calls[-1] == "training_end"
    # Whatever the user does next, the bar of this run is closed.
    env.at_step = 0
    model.learn(10, progress_bar=True)
    assert model.num_timesteps == 10


def test_the_training_ends_for_callbacks_also_when_a_callback_raises():
    class Raises(Watcher):
        def _on_step(self) -> bool:
            raise RuntimeError("broken callback")

    watcher = Raises()
    with pytest.raises(RuntimeError, match="broken callback"):
        NaiveDQN("MlpPolicy", RecordingEnv()).learn(10, callback=watcher)
    assert watcher.calls[-1] == "training_end"


def test_a_callback_records_into_the_models_log():
    class Records(BaseCallback):
        def _on_step(self) -> bool:
            self.logger.record("custom/steps", self.num_timesteps)
            return True

    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    logs = remember_logs(model)
    model.learn(6, callback=CallbackList([Records()]), log_interval=1)
    assert [values["custom/steps"] for _, values in logs] == [2, 3, 6]


# Logging


def test_the_log_says_what_the_episodes_and_updates_were_like():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES), exploration_final_eps=0.3)
    logs = remember_logs(model)
    model.learn(12, log_interval=3)
    assert [step for step, _ in logs] == [6, 12]
    for (step, values), updates in zip(logs, (6, 12), strict=True):
        assert values["rollout/ep_rew_mean"] == pytest.approx((3 + 5 - 1) / 3)
        assert values["rollout/ep_len_mean"] == pytest.approx(2)
        assert values["rollout/exploration_rate"] == 0.3
        assert values["time/episodes"] == updates / 2
        assert values["time/total_timesteps"] == step
        assert values["train/n_updates"] == updates
        assert values["train/learning_rate"] == 1e-3
        assert values["time/fps"] >= 0
        assert values["time/time_elapsed"] >= 0
        assert np.isfinite(values["train/loss"])


def test_every_key_that_dqn_logs_is_logged():
    logs = []
    for algorithm, kwargs in ((DQN, {"learning_starts": 1, "train_freq": 1}), (NaiveDQN, {})):
        model = algorithm("MlpPolicy", ScriptedEnv(EPISODES), **kwargs)
        memory = remember_logs(model)
        model.learn(12, log_interval=3)
        logs.append(memory[-1][1].keys())
    assert logs[0] <= logs[1]


def test_the_loss_is_the_mean_squared_error_that_was_descended():
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=0, learning_rate=0.0)
    logs = remember_logs(model)
    # Three whole episodes of 3, 4 and 1 steps
    model.learn(8, log_interval=3)
    twin = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, learning_rate=0.0)
    td_errors = np.array(learn_all(twin, env.transitions))
    losses = (model.q_step_size * td_errors) ** 2 / 3
    assert logs[0][1]["train/loss"] == pytest.approx(losses.mean(), rel=1e-5)


def test_success_is_logged_when_the_environment_reports_it():
    class Succeeds(ScriptedEnv):
        def step(self, action):
            obs, reward, terminated, truncated, info = super().step(action)
            if terminated or truncated:
                info["is_success"] = terminated
            return obs, reward, terminated, truncated, info

    model = NaiveDQN("MlpPolicy", Succeeds(EPISODES))
    logs = remember_logs(model)
    model.learn(6, log_interval=3)
    assert logs[0][1]["rollout/success_rate"] == pytest.approx(2 / 3)


def test_log_interval_none_logs_nothing():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    logs = remember_logs(model)
    model.learn(12, log_interval=None)
    assert logs == []


def test_the_stats_window_limits_the_logged_means():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES), stats_window_size=1)
    logs = remember_logs(model)
    model.learn(6, log_interval=1)
    assert [values["rollout/ep_rew_mean"] for _, values in logs] == [3.0, 5.0, -1.0]


def test_a_csv_logger_gets_the_log(tmp_path):
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(12, log_interval=3)
    model.logger.close()
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "rollout/ep_rew_mean" in lines[0].split(",")


def test_verbose_prints_the_table_and_verbose_0_prints_nothing(capsys):
    NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES), verbose=0).learn(12, log_interval=3)
    assert capsys.readouterr().out == ""
    NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES), verbose=1).learn(12, log_interval=3)
    assert "ep_rew_mean" in capsys.readouterr().out


def test_tensorboard_gets_the_curves_under_the_algorithms_name(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES), tensorboard_log=str(tmp_path))
    model.learn(12, log_interval=3)
    model.learn(6, log_interval=3, tb_log_name="other")
    model.logger.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NaiveDQN_1", "other_1"]
    events = event_accumulator.EventAccumulator(str(tmp_path / "NaiveDQN_1")).Reload()
    assert {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/exploration_rate",
        "time/fps",
        "train/loss",
        "train/learning_rate",
    } <= set(events.Tags()["scalars"])
    points = events.Scalars("rollout/ep_rew_mean")
    assert [point.step for point in points] == [6, 12]
    assert points[0].value == pytest.approx(7 / 3)


# Going on


def test_reset_num_timesteps_false_goes_on_counting():
    watcher = Watcher()
    env = ScriptedEnv([([0.0] * 100, "terminated")])
    model = NaiveDQN("MlpPolicy", env)
    model.learn(10)
    model.learn(5, reset_num_timesteps=False, callback=watcher)
    assert model.num_timesteps == 15
    assert watcher.n_calls == 5
    assert env.n_resets == 1, "the running episode goes on"
    assert watcher.seen[0]["new_obs"].tolist() == [[0, 11]]


def test_reset_num_timesteps_true_starts_again():
    env = ScriptedEnv([([0.0] * 100, "terminated")])
    model = NaiveDQN("MlpPolicy", env)
    model.learn(10).learn(5)
    assert model.num_timesteps == 5
    assert model._n_updates == 15
    assert env.n_resets == 2


def test_set_env_learns_from_the_new_environment_after_a_reset():
    first, second = RecordingEnv(), RecordingEnv()
    model = NaiveDQN("MlpPolicy", first, seed=0)
    model.learn(5)
    model.set_env(second)
    model.learn(5, reset_num_timesteps=False)
    assert len(first.transitions) == len(second.transitions) == 5
    assert len(second.seeds) >= 1
    assert model.num_timesteps == 10
    assert model.get_env().envs[0].unwrapped is second


def test_a_learning_rate_schedule_is_followed(backend):
    rates: list[float] = []
    model = NaiveDQN(
        "MlpPolicy", RecordingEnv(), learning_rate=lambda left: 0.5 * left, backend=backend
    )
    optimizer = model.policy.optimizer
    model.learn(5, callback=lambda *_: rates.append(optimizer.param_groups[0]["lr"]) or True)
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


def test_a_learning_rate_schedule_decides_how_far_the_weights_move(backend):
    # Zero in the first half of the training
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        learning_rate=lambda left: 0.0 if left > 0.5 else 0.01,
        seed=0,
        backend=backend,
    )
    history = [weights(model)]
    model.learn(10, callback=lambda *_: history.append(weights(model)) or True)
    moved = [not np.array_equal(a, b) for a, b in itertools.pairwise(history)]
    assert moved == [False] * 5 + [True] * 5


def test_sb3s_linear_schedule_is_a_learning_rate():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), learning_rate=LinearSchedule(1e-2, 1e-3, 1.0))
    model.learn(10)
    assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


# Saving and loading


NON_DEFAULT_ARGUMENTS: dict[str, Any] = {
    "learning_rate": 3e-3,
    "gamma": 0.8,
    "exploration_fraction": 0.7,
    "exploration_initial_eps": 0.9,
    "exploration_final_eps": 0.15,
    "max_grad_norm": 2.5,
    "stats_window_size": 17,
    "tensorboard_log": "logs",
    "policy_kwargs": {
        "net_arch": [7, 6],
        "activation_fn": nn.Tanh,
        "optimizer_class": KerasAdam,
        "optimizer_kwargs": {"betas": (0.8, 0.99), "eps": 1e-3},
        "layer_norm": True,
        "weight_initializer": glorot_uniform,
    },
    "verbose": 2,
    "seed": 11,
    "q_step_size": 0.4,
    "bootstrap_at_terminal": True,
    "update": "mean",
    "backend": "torch",
}


def test_every_constructor_argument_survives_saving_and_loading(tmp_path):
    signature = inspect.signature(NaiveDQN.__init__).parameters
    # Device and environments are chosen anew when loading, as everywhere in Stable-Baselines3.
    elsewhere = {"self", "policy", "env", "n_envs", "vectorization", "device", "_init_setup_model"}
    assert NON_DEFAULT_ARGUMENTS.keys() == signature.keys() - elsewhere
    for name, value in NON_DEFAULT_ARGUMENTS.items():
        assert value != signature[name].default, name
    model = NaiveDQN("MlpPolicy", RecordingEnv(), **NON_DEFAULT_ARGUMENTS)
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model")
    for name, value in NON_DEFAULT_ARGUMENTS.items():
        attribute = "_stats_window_size" if name == "stats_window_size" else name
        assert getattr(loaded, attribute) == value, name
    assert loaded.policy_class is MlpPolicy
    assert np.array_equal(weights(loaded), weights(model))


def test_the_loaded_arguments_are_in_force(tmp_path, backend):
    arguments = {**NON_DEFAULT_ARGUMENTS, "tensorboard_log": None, "verbose": 0}
    arguments["backend"] = backend
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, **arguments)
    model.learn(40)
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model")
    for one in (model, loaded):
        learn_all(one, env.transitions)
    assert np.array_equal(weights(loaded), weights(model))
    assert same_numbers(optimizer_numbers(loaded), optimizer_numbers(model))
    obs = np.zeros((50, 3), np.float32)
    assert np.array_equal(model.predict(obs)[0], loaded.predict(obs)[0])


@pytest.mark.parametrize(
    "optimizer", [{}, {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}}]
)
def test_a_loaded_model_learns_on_as_if_it_had_never_been_saved(optimizer):
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=0, policy_kwargs=optimizer)
    model.learn(30)
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    loaded = NaiveDQN.load(file)
    assert np.array_equal(weights(loaded), weights(model))
    assert same_numbers(optimizer_numbers(loaded), optimizer_numbers(model))
    learn_all(loaded, env.transitions)
    learn_all(model, env.transitions)
    assert np.array_equal(weights(loaded), weights(model))
    assert loaded.num_timesteps == model.num_timesteps == 60
    assert loaded._n_updates == model._n_updates


def test_learning_on_after_loading_explores_with_new_coins_not_with_the_first_ones(tmp_path):
    # From a fixed seed, a loaded model would otherwise repeat its first random actions.
    rates = {"exploration_initial_eps": 1.0, "exploration_final_eps": 1.0}
    env = RecordingEnv(n_actions=1000)
    model = NaiveDQN("MlpPolicy", env, seed=0, **rates)
    model.learn(20)
    model.save(tmp_path / "model")
    model.learn(20, reset_num_timesteps=False)
    again = RecordingEnv(n_actions=1000)
    NaiveDQN.load(tmp_path / "model", env=again).learn(20, reset_num_timesteps=False)
    actions = [step.action for step in env.transitions]
    assert [step.action for step in again.transitions] == actions[20:] != actions[:20]


def test_the_exploration_rate_is_saved_and_goes_on(tmp_path):
    model = NaiveDQN(
        "MlpPolicy",
        RecordingEnv(),
        exploration_initial_eps=1.0,
        exploration_final_eps=0.0,
        exploration_fraction=1.0,
    )
    model.learn(10, callback=Watcher(stop_after=5))
    assert model.exploration_rate == pytest.approx(0.5)
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model", env=RecordingEnv())
    assert loaded.exploration_rate == model.exploration_rate
    # 5 of then 10 steps are done: ε goes on from there instead of from the start.
    rates: list[float] = []
    loaded.learn(
        5,
        reset_num_timesteps=False,
        callback=lambda *_: rates.append(loaded.exploration_rate) or True,
    )
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])


def test_a_model_is_loaded_with_another_number_of_environments(tmp_path, backend):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend)
    model.learn(10)
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model", env=make_vec_env(RecordingEnv, n_envs=4))
    assert loaded.n_envs == 4
    before = weights(loaded)
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.num_timesteps == 30
    assert loaded._n_updates == 10 + 20
    assert not np.array_equal(weights(loaded), before)


def test_a_model_loads_without_an_environment_and_predicts(tmp_path):
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model")
    obs = np.ones((5, 3), np.float32)
    assert loaded.get_env() is None
    assert np.array_equal(
        loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )


def test_arguments_can_be_changed_when_loading(tmp_path):
    NaiveDQN("MlpPolicy", RecordingEnv()).save(tmp_path / "model")
    loaded = NaiveDQN.load(
        tmp_path / "model", env=RecordingEnv(), learning_rate=0.5, gamma=0.1, q_step_size=1.0
    )
    assert (loaded.gamma, loaded.q_step_size) == (0.1, 1.0)
    loaded.learn(1)
    assert loaded.lr_schedule(1.0) == 0.5


def test_the_file_holds_the_network_once(tmp_path):
    # An alias that is not excluded would be pickled beside the state dictionary.
    NaiveDQN("MlpPolicy", RecordingEnv()).learn(3).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        data = json.loads(file.read("data"))
        assert {"policy.pth", "policy.optimizer.pth"} <= set(file.namelist())
    assert not {"policy", "q_net", "_learner", "env"} & data.keys()


def test_the_alias_of_a_loaded_model_is_its_own_network(tmp_path):
    NaiveDQN("MlpPolicy", RecordingEnv()).save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model", env=RecordingEnv())
    assert loaded.q_net is loaded.policy.q_net
    before = weights(loaded)
    loaded.learn(3)
    after = np.concatenate([p.detach().numpy().ravel() for p in loaded.policy.parameters()])
    assert np.array_equal(weights(loaded), after)
    assert not np.array_equal(before, after)


def test_a_model_is_saved_and_loaded_by_path_string_and_open_file(tmp_path):
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    model.save(str(tmp_path / "a"))
    model.save(tmp_path / "b.zip")
    with (tmp_path / "c").open("wb") as file:
        model.save(file)
    with (tmp_path / "c").open("rb") as file:
        assert np.array_equal(weights(NaiveDQN.load(file)), weights(model))
    for name in ("a", "a.zip", "b"):
        assert np.array_equal(weights(NaiveDQN.load(str(tmp_path / name))), weights(model))


def test_parameters_go_from_one_model_to_another(backend):
    env = RecordingEnv()
    source = NaiveDQN("MlpPolicy", env, seed=0, backend=backend).learn(20)
    goal = NaiveDQN("MlpPolicy", RecordingEnv(), seed=1, backend=backend).learn(5)
    parameters = source.get_parameters()
    assert parameters.keys() == {"policy", "policy.optimizer"}
    goal.set_parameters(parameters)
    assert np.array_equal(weights(goal), weights(source))
    assert same_numbers(optimizer_numbers(goal), optimizer_numbers(source))
    # From here on both are the same model, and two models: neither moves the other.
    learn_all(goal, env.transitions)
    assert not np.array_equal(weights(goal), weights(source))
    learn_all(source, env.transitions)
    assert np.array_equal(weights(goal), weights(source))


def test_parameters_are_set_from_a_file(tmp_path):
    source = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0).learn(20)
    source.save(tmp_path / "model")
    goal = NaiveDQN("MlpPolicy", RecordingEnv(), seed=1)
    goal.set_parameters(str(tmp_path / "model"))
    assert np.array_equal(weights(goal), weights(source))


def test_exact_match_wants_every_parameter():
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    policy_only = {"policy": model.get_parameters()["policy"]}
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        model.set_parameters(policy_only)
    model.set_parameters(policy_only, exact_match=False)


@pytest.mark.parametrize("how", ["state_dict", "in_place", "data", "vector"])
def test_weights_put_in_from_outside_are_used_and_learned_from(backend, how):
    # Users copy, perturb and average networks; prediction and learning must see the same memory.
    env = RecordingEnv()
    model = NaiveDQN("MlpPolicy", env, seed=0, backend=backend).learn(20)
    source = NaiveDQN("MlpPolicy", RecordingEnv(), seed=1, backend=backend).learn(30)
    pairs = list(zip(model.q_net.parameters(), source.q_net.parameters(), strict=True))
    if how == "state_dict":
        model.policy.load_state_dict(source.policy.state_dict())
    elif how == "vector":
        model.policy.load_from_vector(source.policy.parameters_to_vector())
    for mine, theirs in pairs:
        if how == "in_place":
            with th.no_grad():
                mine.copy_(theirs)
        elif how == "data":
            mine.data = theirs.data.clone()
    # torch's optimisers keep the tensors that they are given.
    state = copy.deepcopy(source.policy.optimizer.state_dict())
    model.policy.optimizer.load_state_dict(state)
    assert np.array_equal(weights(model), weights(source))
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    for _ in range(2):
        greedy = [one.predict(obs, deterministic=True)[0] for one in (model, source)]
        assert np.array_equal(*greedy)
        errors = [learn_all(one, env.transitions) for one in (model, source)]
        assert errors[0] == errors[1]
        assert np.array_equal(weights(model), weights(source))


def test_an_optimiser_setting_changed_by_the_user_is_in_force_at_once(backend):
    model = NaiveDQN("MlpPolicy", (env := RecordingEnv()), seed=0, backend=backend).learn(10)
    before = weights(model)
    model.policy.optimizer.param_groups[0]["lr"] = 0.0
    learn_all(model, env.transitions)
    assert np.array_equal(weights(model), before)


def test_a_deep_copied_policy_is_a_snapshot():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0)
    snapshot = copy.deepcopy(model.policy)
    before = weights(model)
    model.learn(10)
    frozen = np.concatenate([p.detach().numpy().ravel() for p in snapshot.parameters()])
    assert np.array_equal(frozen, before)
    assert not np.array_equal(weights(model), before)


def test_a_compiled_policy_learns_predicts_saves_and_loads(tmp_path):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0)
    model.policy = th.compile(model.policy, backend="eager")
    if any(name.startswith("_orig_mod.") for name in model.get_parameters()["policy"]):
        pytest.skip("this Stable-Baselines3 saves a compiled policy's weights by other names")
    before = weights(model)
    model.learn(10)
    assert not np.array_equal(weights(model), before)
    model.save(tmp_path / "model")
    loaded = NaiveDQN.load(tmp_path / "model", env=RecordingEnv())
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert np.array_equal(
        loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
    )
    assert np.array_equal(weights(loaded), weights(model))
    loaded.learn(10)


def test_saving_while_learning_does_not_change_what_is_learned(tmp_path, backend):
    runs = []
    for callback in (None, CheckpointCallback(1, str(tmp_path))):
        model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend)
        runs.append(weights(model.learn(5, callback=callback)))
    assert np.array_equal(*runs)


# What scripts written for DQN read


def test_the_arguments_shared_with_dqn_have_its_names_and_its_order():
    theirs = list(inspect.signature(DQN.__init__).parameters)
    ours = list(inspect.signature(NaiveDQN.__init__).parameters)
    shared = [name for name in ours if name in theirs]
    assert shared == [name for name in theirs if name in ours]
    replay_and_target = {
        "buffer_size",
        "learning_starts",
        "batch_size",
        "tau",
        "train_freq",
        "gradient_steps",
        "replay_buffer_class",
        "replay_buffer_kwargs",
        "optimize_memory_usage",
        "n_steps",
        "target_update_interval",
    }
    assert set(theirs) - set(ours) == replay_and_target
    ours_alone = [name for name in ours if name not in theirs]
    kinds = inspect.signature(NaiveDQN.__init__).parameters
    assert all(kinds[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ours_alone)


@pytest.mark.parametrize("method", ["learn", "predict", "load", "save", "set_env"])
def test_methods_take_what_dqns_take(method):
    theirs = list(inspect.signature(getattr(DQN, method)).parameters)
    ours = list(inspect.signature(getattr(NaiveDQN, method)).parameters)
    assert ours == theirs


def test_the_q_network_is_reached_as_in_dqn():
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    assert model.q_net is model.policy.q_net
    assert isinstance(model.q_net, SB3QNetwork)
    obs, _ = model.policy.obs_to_tensor(np.ones(3, np.float32))
    with th.no_grad():
        q_values = model.q_net(obs)
        features = model.q_net.extract_features(obs, model.q_net.features_extractor)
        assert th.equal(model.q_net.q_net(features), q_values)
    assert q_values.shape == (1, 3)
    assert int(model.policy(obs)) == int(q_values.argmax())
    assert not any("target" in name for name, _ in model.policy.named_parameters())


def test_reading_the_model_as_a_dqn_script_does():
    model = NaiveDQN("MlpPolicy", "CartPole-v1", gamma=0.9, seed=4)
    model.learn(20)
    assert (model.num_timesteps, model._total_timesteps, model._n_updates) == (20, 20, 20)
    assert (model.gamma, model.seed, model.n_envs) == (0.9, 4, 1)
    assert model.exploration_rate == model.exploration_schedule(0.0) == 0.3
    assert model.exploration_initial_eps == model.exploration_final_eps == 0.3
    assert model.lr_schedule(1.0) == 1e-3
    assert str(model.device) == str(model.policy.device) == "cpu"
    assert isinstance(model.get_env(), VecEnv)
    assert model.get_vec_normalize_env() is None
    assert model.action_space.n == 2
    assert model.observation_space.shape == (4,)
    assert model.logger is not None


class VectorsEnv(gym.Env):
    """The shapes of a problem whose observations are a dictionary of vectors."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-1.0, 1.0, (2,)), "speed": spaces.Box(-1.0, 1.0, (3,))}
    )
    action_space = spaces.Discrete(2)


class OwnMlpPolicy(MlpPolicy):
    """A policy of a user's own, without convolutions."""


@pytest.mark.parametrize(
    ("policy", "make_env", "expected"),
    [
        ("MlpPolicy", RecordingEnv, "cpu"),
        (OwnMlpPolicy, RecordingEnv, "cpu"),
        ("MultiInputPolicy", lambda: SimpleMultiObsEnv(random_start=False), "gpu"),
        ("MultiInputPolicy", VectorsEnv, "cpu"),
        ("CnnPolicy", lambda: FakeImageEnv(3, screen_height=36, screen_width=36), "gpu"),
        ("MlpPolicy", lambda: FakeImageEnv(3, screen_height=8, screen_width=8), "cpu"),
    ],
)
def test_networks_without_convolutions_stay_on_the_cpu(policy, make_env, expected, monkeypatch):
    # torch's "meta" stands in for a GPU: it can be had everywhere, and holds no numbers.
    monkeypatch.setattr(
        "stable_baselines3.common.base_class.get_device",
        lambda device: th.device("meta" if device == "auto" else device),
    )
    model = NaiveDQN(policy, make_env(), backend="torch")
    kinds = {str(model.device), *(str(param.device) for param in model.policy.parameters())}
    assert kinds == {"cpu" if expected == "cpu" else "meta"}


def test_the_model_can_be_set_up_later():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), _init_setup_model=False)
    assert not hasattr(model, "policy") or model.policy is None
    model._setup_model()
    model.learn(3)
    assert model.num_timesteps == 3


def test_net_arch_empty_makes_a_linear_network_that_learns(backend):
    model = NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs={"net_arch": []}, backend=backend)
    assert [type(layer) for layer in model.q_net.q_net] == [nn.Linear]
    before = weights(model)
    model.learn(5)
    assert not np.array_equal(weights(model), before)


class Doubled(BaseFeaturesExtractor):
    """A features extractor of the user's own, with weights to learn."""

    def __init__(self, observation_space: gym.Space[Any], factor: int = 1) -> None:
        super().__init__(observation_space, features_dim=factor * observation_space.shape[0])
        self.linear = nn.Linear(observation_space.shape[0], self.features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(observations)


def test_a_features_extractor_of_ones_own_is_trained_saved_and_loaded(tmp_path):
    policy_kwargs = {
        "features_extractor_class": Doubled,
        "features_extractor_kwargs": {"factor": 2},
    }
    model = NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs, seed=0)
    extractor = model.q_net.features_extractor
    assert isinstance(extractor, Doubled)
    assert extractor.features_dim == 6
    before = extractor.linear.weight.detach().clone()
    model.learn(10)
    assert not th.equal(extractor.linear.weight, before)
    model.save(tmp_path / "model")
    assert np.array_equal(weights(NaiveDQN.load(tmp_path / "model")), weights(model))


@pytest.mark.parametrize(
    ("optimizer_class", "optimizer_kwargs"),
    [(th.optim.SGD, {}), (th.optim.RMSprop, {"alpha": 0.9}), (th.optim.AdamW, {})],
)
def test_an_optimiser_of_ones_own_moves_the_weights(tmp_path, optimizer_class, optimizer_kwargs):
    policy_kwargs = {"optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs}
    model = NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs, seed=0)
    assert type(model.policy.optimizer) is optimizer_class
    before = weights(model)
    model.learn(5)
    assert not np.array_equal(weights(model), before)
    model.save(tmp_path / "model")
    assert type(NaiveDQN.load(tmp_path / "model").policy.optimizer) is optimizer_class


def test_the_callers_policy_kwargs_stay_as_they_were():
    policy_kwargs = {
        "net_arch": [4],
        "optimizer_class": th.optim.Adam,
        "optimizer_kwargs": {"eps": 1e-3},
        "features_extractor_kwargs": {},
    }
    NaiveDQN("MlpPolicy", RecordingEnv(), policy_kwargs=policy_kwargs).learn(2)
    assert policy_kwargs == {
        "net_arch": [4],
        "optimizer_class": th.optim.Adam,
        "optimizer_kwargs": {"eps": 1e-3},
        "features_extractor_kwargs": {},
    }


SCRIPT = """
import gymnasium as gym
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

env = gym.make("CartPole-v1")
eval_env = Monitor(gym.make("CartPole-v1"))
model = DQN(
    "MlpPolicy",
    env,
    learning_rate=2.3e-3,
    batch_size=64,
    buffer_size=100_000,
    learning_starts=10,
    gamma=0.99,
    target_update_interval=10,
    train_freq=4,
    gradient_steps=1,
    exploration_fraction=0.16,
    exploration_final_eps=0.04,
    policy_kwargs=dict(net_arch=[25, 25], activation_fn=th.nn.Tanh),
    tensorboard_log="./tensorboard/",
    verbose=1,
    seed=1,
)
callbacks = [
    CheckpointCallback(save_freq=100, save_path="./logs/", name_prefix="rl_model"),
    EvalCallback(eval_env, best_model_save_path="./best/", eval_freq=100, n_eval_episodes=2),
]
model.learn(total_timesteps=300, log_interval=4, callback=callbacks, progress_bar=True)
print("epsilon", model.exploration_rate, "steps", model.num_timesteps)
model.save("dqn_cartpole")
del model  # remove to demonstrate saving and loading

model = DQN.load("dqn_cartpole", env=env)
mean_reward, std_reward = evaluate_policy(model, model.get_env(), n_eval_episodes=2)
vec_env = model.get_env()
obs = vec_env.reset()
for _ in range(20):
    action, _states = model.predict(obs, deterministic=True)
    obs, rewards, dones, info = vec_env.step(action)
obs, info = env.reset()
for _ in range(20):
    action, _states = model.predict(obs, deterministic=False)
    obs, reward, terminated, truncated, info = env.step(action)
    if terminated or truncated:
        obs, info = env.reset()
with th.no_grad():
    q_values = model.q_net(model.policy.obs_to_tensor(obs)[0])
model.learn(100, reset_num_timesteps=False)
parallel = DQN.load("dqn_cartpole", env=make_vec_env("CartPole-v1", n_envs=2))
parallel.learn(100)
"""

REPLAY_AND_TARGET_LINES = (
    "batch_size=",
    "buffer_size=",
    "learning_starts=",
    "target_update_interval=",
    "train_freq=",
    "gradient_steps=",
)


@pytest.mark.parametrize("algorithm", [DQN, NaiveDQN], ids=["DQN", "NaiveDQN"])
def test_a_script_that_swaps_dqn_for_naivedqn_runs_unchanged(
    algorithm, tmp_path, monkeypatch, capsys
):
    script = SCRIPT
    if algorithm is NaiveDQN:
        script = script.replace(
            "from stable_baselines3 import DQN", "from dqn_plugins import NaiveDQN"
        ).replace(" DQN", " NaiveDQN")
        kept = [
            line
            for line in script.splitlines()
            if not line.strip().startswith(REPLAY_AND_TARGET_LINES)
        ]
        assert len(kept) == len(script.splitlines()) - len(REPLAY_AND_TARGET_LINES)
        script = "\n".join(kept)
    path = tmp_path / "script.py"
    path.write_text(script)
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(path))
    assert "epsilon 0.04 steps 300" in capsys.readouterr().out
    assert type(names["model"]) is type(names["parallel"]) is algorithm
    assert names["model"].num_timesteps >= 400
    assert names["q_values"].shape == (1, 2)
    assert names["parallel"].n_envs == 2
    assert (tmp_path / "best" / "best_model.zip").exists()
    assert len(list((tmp_path / "logs").iterdir())) == 3
    runs = sorted(path.name for path in (tmp_path / "tensorboard").iterdir())
    assert runs == [f"{algorithm.__name__}_1", f"{algorithm.__name__}_2"]


# Predicting


def test_predict_takes_one_observation_or_a_batch():
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    for deterministic in (False, True):
        single, state = model.predict(np.zeros(3, np.float32), deterministic=deterministic)
        assert single.shape == ()
        assert state is None
        assert model.action_space.contains(single[()])
        batch, _ = model.predict(np.zeros((5, 3), np.float32), deterministic=deterministic)
        assert batch.shape == (5,)
        assert np.issubdtype(batch.dtype, np.integer)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_predict_takes_dictionaries(rate):
    env = SimpleMultiObsEnv(random_start=False)
    model = NaiveDQN("MultiInputPolicy", env, exploration_initial_eps=rate, seed=0)
    obs, _ = env.reset(seed=0)
    assert model.predict(obs)[0].shape == ()
    batch = {key: np.stack([value] * 3) for key, value in obs.items()}
    actions, _ = model.predict(batch)
    assert actions.shape == (3,)
    assert all(env.action_space.contains(action) for action in actions)


def test_predict_hands_the_state_back():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), exploration_initial_eps=1.0)
    _, state = model.predict(
        np.zeros((2, 3), np.float32), state=None, episode_start=np.ones(2, bool)
    )
    assert state is None


def test_predict_refuses_an_observation_of_another_shape():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), exploration_initial_eps=1.0)
    with pytest.raises(ValueError, match="observation shape"):
        model.predict(np.zeros(4, np.float32))


# Policies and spaces


def learns(model: NaiveDQN, steps: int) -> bool:
    before = weights(model)
    model.learn(steps)
    after = weights(model)
    return bool(np.isfinite(after).all() and not np.array_equal(before, after))


def round_trip(model: NaiveDQN) -> NaiveDQN:
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return NaiveDQN.load(file)


@pytest.mark.parametrize("channel_first", [False, True])
def test_cnn_policy_learns_from_images(channel_first):
    env = FakeImageEnv(3, screen_height=36, screen_width=36, channel_first=channel_first)
    model = NaiveDQN("CnnPolicy", env, seed=0)
    assert type(model.policy) is CnnPolicy
    assert learns(model, 15)
    loaded = round_trip(model)
    assert np.array_equal(weights(loaded), weights(model))
    obs = env.observation_space.sample()
    assert model.predict(obs)[0].shape == ()


def test_multi_input_policy_learns_from_dictionaries():
    model = NaiveDQN("MultiInputPolicy", SimpleMultiObsEnv(), seed=0)
    assert type(model.policy) is MultiInputPolicy
    assert learns(model, 30)
    assert np.array_equal(weights(round_trip(model)), weights(model))
    assert learns(NaiveDQN("MultiInputPolicy", make_vec_env(SimpleMultiObsEnv, 2)), 30)


def test_dictionaries_bootstrap_from_their_true_last_observation():
    class Recording(gym.ObservationWrapper):
        def __init__(self) -> None:
            super().__init__(RecordingEnv())
            part = self.env.observation_space
            self.observation_space = gym.spaces.Dict({"a": part, "b": part})

        def observation(self, observation):
            return {"a": observation, "b": -observation}

    env = Recording()
    model = NaiveDQN("MultiInputPolicy", env, seed=3).learn(30)
    twin = NaiveDQN("MultiInputPolicy", Recording(), seed=3)
    for obs, action, reward, next_obs, terminated in env.unwrapped.transitions:
        twin.learn_one(env.observation(obs), action, reward, env.observation(next_obs), terminated)
    assert np.array_equal(weights(model), weights(twin))


def test_discrete_observations_are_learned_from():
    model = NaiveDQN("MlpPolicy", IdentityEnv(5, ep_length=7), seed=0)
    assert learns(model, 20)
    assert model.predict(np.array(3))[0].shape == ()
    model.learn_one(3, 1, 1.0, 2, False)


@pytest.mark.parametrize("policy", [MlpPolicy, "MlpPolicy"])
def test_a_policy_is_given_by_class_or_by_name(policy):
    assert type(NaiveDQN(policy, RecordingEnv()).policy) is MlpPolicy


def test_integer_observations_are_learned_from(backend):
    class Integers(RecordingEnv):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Box(-100, 100, (3,), np.int32)

        def _draw(self):
            return self.np_random.integers(-3, 3, size=3).astype(np.int32)

    env = Integers()
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    model.learn(20)
    twin = NaiveDQN("MlpPolicy", Integers(), seed=3, backend=backend)
    learn_all(twin, env.transitions)
    assert np.array_equal(weights(model), weights(twin))


def test_matrices_are_flattened(backend):
    class Matrices(RecordingEnv):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2, 2), np.float64)

    env = Matrices()
    model = NaiveDQN("MlpPolicy", env, seed=3, backend=backend)
    assert learns(model, 20)
    twin = NaiveDQN("MlpPolicy", Matrices(), seed=3, backend=backend)
    learn_all(twin, env.transitions)
    assert np.array_equal(weights(model), weights(twin))


# Vectorised environments and their wrappers


@pytest.mark.parametrize("n_envs", [1, 3])
def test_dummy_vec_env(n_envs):
    model = NaiveDQN("MlpPolicy", make_vec_env("CartPole-v1", n_envs=n_envs), seed=0)
    assert learns(model, 60)
    assert len(model.ep_info_buffer) > 0


def test_subproc_vec_env_gives_the_same_weights_as_dummy_vec_env():
    runs = []
    for vec_env_cls in (DummyVecEnv, SubprocVecEnv):
        vec_env = make_vec_env("CartPole-v1", n_envs=2, vec_env_cls=vec_env_cls)
        model = NaiveDQN("MlpPolicy", vec_env, seed=0)
        runs.append(weights(model.learn(200)))
        vec_env.close()
    assert np.array_equal(*runs)


def test_one_environment_gives_the_same_weights_in_a_dummy_vec_env():
    envs = gym.make("CartPole-v1"), make_vec_env("CartPole-v1")
    runs = [weights(NaiveDQN("MlpPolicy", env, seed=0).learn(200)) for env in envs]
    assert np.array_equal(*runs)


def test_vec_monitor_is_where_the_returns_come_from():
    vec_env = VecMonitor(DummyVecEnv([lambda: ScriptedEnv(EPISODES)] * 2))
    model = NaiveDQN("MlpPolicy", vec_env)
    model.learn(12)
    assert sorted(episode["r"] for episode in model.ep_info_buffer) == [-1, -1, 3, 3, 5, 5]


def test_vec_normalize_with_normalised_rewards():
    vec_env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    model = NaiveDQN("MlpPolicy", vec_env, seed=0)
    assert model.get_vec_normalize_env() is vec_env
    assert learns(model, 200)
    # Returns are logged as the environment gave them: whole numbers of steps.
    assert all(episode["r"] == episode["l"] for episode in model.ep_info_buffer)


def test_vec_frame_stack():
    stacked = VecFrameStack(make_vec_env(RecordingEnv, n_envs=2), n_stack=3)
    model = NaiveDQN("MlpPolicy", stacked, seed=0)
    assert model.observation_space.shape == (9,)
    assert learns(model, 40)


def test_vec_frame_stack_of_images():
    images = make_vec_env(lambda: FakeImageEnv(3, screen_height=36, screen_width=36), n_envs=1)
    model = NaiveDQN("CnnPolicy", VecFrameStack(images, n_stack=2), seed=0)
    assert model.observation_space.shape == (2, 36, 36)
    assert learns(model, 12)


def test_vec_frame_stack_bootstraps_from_the_true_last_stack(backend):
    env = RecordingEnv()
    stacked = VecFrameStack(DummyVecEnv([lambda: env]), n_stack=2)
    model = NaiveDQN("MlpPolicy", stacked, seed=3, backend=backend)
    model.learn(30)
    twin = NaiveDQN(
        "MlpPolicy", VecFrameStack(DummyVecEnv([RecordingEnv]), 2), seed=3, backend=backend
    )
    previous = None
    for obs, action, reward, next_obs, terminated in env.transitions:
        if previous is None or not np.array_equal(previous[1], obs):
            previous = (np.zeros(3, np.float32), obs)
        stack = np.concatenate(previous)
        previous = (obs, next_obs)
        twin.learn_one(stack, action, reward, np.concatenate(previous), terminated)
    assert np.array_equal(weights(model), weights(twin))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "MountainCar-v0"])
def test_environments_are_made_from_their_ids(env_id):
    model = NaiveDQN("MlpPolicy", env_id, seed=0)
    assert learns(model, 30)
    mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    assert np.isfinite([mean, std]).all()


def test_evaluate_policy_takes_the_model_greedily_and_not():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    for deterministic in (True, False):
        returns, lengths = evaluate_policy(
            model,
            Monitor(ScriptedEnv(EPISODES)),
            n_eval_episodes=3,
            deterministic=deterministic,
            return_episode_rewards=True,
        )
        assert returns == [3.0, 5.0, -1.0]
        assert lengths == [2, 1, 3]


def test_an_environment_with_a_monitor_is_not_monitored_twice():
    env = Monitor(ScriptedEnv(EPISODES))
    model = NaiveDQN("MlpPolicy", env)
    assert model.get_env().envs[0] is env
    model.learn(6)
    assert env.get_episode_rewards() == [3.0, 5.0, -1.0]


def test_no_warning_is_given_in_ordinary_use(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = NaiveDQN("MlpPolicy", "CartPole-v1", seed=0)
        model.learn(50)
        model.save(tmp_path / "model")
        NaiveDQN.load(tmp_path / "model", env=make_vec_env("CartPole-v1", 2)).learn(10)


def test_learning_a_solvable_task_solves_it():
    # One-hot contexts, reward 1 for the right one of three actions: nothing to bootstrap.
    env = IdentityEnv(3, ep_length=1)
    model = NaiveDQN("MlpPolicy", env, learning_rate=1e-2, q_step_size=1.0, gamma=0.0, seed=0)
    model.learn(600)
    actions, _ = model.predict(np.arange(3), deterministic=True)
    assert actions.tolist() == [0, 1, 2]


def test_memory_does_not_grow_with_steps(tmp_path):
    # Nothing is kept but the weights, the optimiser's state and statistics of bounded size.
    sizes = []
    model = NaiveDQN("MlpPolicy", ScriptedEnv([([0.0] * 10, "terminated")]), seed=0)
    for steps in (2_000, 4_000):
        model.learn(steps, log_interval=None)
        model.save(tmp_path / "model")
        sizes.append((tmp_path / "model.zip").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200


def test_the_package_is_imported_under_its_public_names():
    import dqn_plugins

    for name in ("NaiveDQN", "NOTEBOOK_HYPERPARAMETERS", "DivergenceError"):
        assert name in dqn_plugins.__all__
        assert hasattr(dqn_plugins, name)
    assert Path(sys.modules["dqn_plugins.policies"].__file__).parent.name == "policies"
