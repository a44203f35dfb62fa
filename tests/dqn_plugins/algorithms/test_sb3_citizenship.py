"""
What Stable-Baselines3's users, callbacks, wrappers and scripts expect.

Asked of every algorithm where they differ, else of one.
"""

import inspect
import runpy
import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import (
    BaseCallback,
    ConvertCallback,
    EvalCallback,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecMonitor,
    VecNormalize,
)
from stable_baselines3.dqn.policies import QNetwork as SB3QNetwork

from dqn_plugins import NaiveDQN
from dqn_plugins.policies import MlpPolicy
from tests.algorithms import each_algorithm
from tests.environments import FaultyEnv, NumberedEnv, RecordingEnv, ScriptedEnv, SpacesEnv, raising
from tests.helpers import through_a_file, weights
from tests.sb3_suite import LEFT_OUT


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


@each_algorithm
def test_a_callback_sees_training_rollouts_and_steps_in_sb3s_order(row):
    watcher = Watcher()
    row.make().learn(8, callback=watcher)
    rollout = ["rollout_start", *["step"] * row.rollout, "rollout_end"]
    assert watcher.calls == ["training_start", *rollout * (8 // row.rollout), "training_end"]
    assert watcher.num_timesteps == watcher.n_calls == 8


@each_algorithm
def test_a_callback_stops_the_training_and_loses_nothing(row):
    env, watchers = ScriptedEnv(EPISODES), [Watcher(), Watcher(stop_after=4)]
    model = row.make(env)
    model.learn(1_000, callback=watchers)
    assert env.n_steps == model.num_timesteps == watchers[0].n_calls == 4
    assert model._n_updates == 4 * model.__dict__.get("n_epochs", 1) // row.rollout
    assert watchers[0].seen[-1]["rewards"] is watchers[1].seen[-1]["rewards"]
    assert watchers[0].calls[-1] == watchers[1].calls[-1] == "training_end"
    assert [episode["r"] for episode in model.ep_info_buffer] == [3.0, 5.0]
    # A lower bound: what is begun is done by all environments, and to the end of a rollout.
    model = row.make(make_vec_env(RecordingEnv, n_envs=3))
    model.learn(7, callback=(watcher := Watcher()))
    assert watcher.n_calls == max(3, row.rollout)
    assert model.num_timesteps == watcher.num_timesteps == 3 * watcher.n_calls
    assert all(len(seen["dones"]) == len(seen["infos"]) == 3 for seen in watcher.seen)


def test_a_callback_finds_the_locals_that_dqn_has():
    watcher = Watcher()
    env = ScriptedEnv(EPISODES)
    model = NaiveDQN("MlpPolicy", env)
    model.learn(6, callback=watcher, log_interval=7, tb_log_name="name")
    assert watcher.at_start["total_timesteps"] == 6
    assert watcher.at_start["tb_log_name"] == "name"
    assert watcher.at_start["log_interval"] == 7
    assert watcher.at_start["self"] is model
    assert "__name__" in watcher.globals
    assert [float(seen["rewards"][0]) for seen in watcher.seen] == [1, 2, 5, -1, 0, 0]
    assert [bool(seen["dones"][0]) for seen in watcher.seen] == [0, 1, 1, 0, 0, 1]
    observed = [tuple(seen["new_obs"][0]) for seen in watcher.seen]
    assert observed == [(0, 1), (1, 0), (2, 0), (2, 1), (2, 2), (3, 0)]
    for seen in watcher.seen:
        assert seen["env"] is model.get_env()
        assert seen["actions"].shape == seen["dones"].shape == seen["rewards"].shape == (1,)
        assert seen["dones"].dtype == np.bool_
        assert isinstance(seen["infos"], list)
    assert watcher.seen[1]["infos"][0]["terminal_observation"].tolist() == [-1, -1]
    assert watcher.seen[1]["infos"][0]["episode"]["r"] == 3.0
    assert watcher.seen[5]["infos"][0]["TimeLimit.truncated"]


def test_the_episode_that_ends_at_the_stop_is_counted():
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    model.learn(1_000, callback=StopTrainingOnMaxEpisodes(3))
    assert model.num_timesteps == 6
    assert [episode["r"] for episode in model.ep_info_buffer] == [3.0, 5.0, -1.0]
    assert model._episode_num == 3


def test_eval_callback_evaluates_saves_the_best_model_and_logs(tmp_path):
    eval_env = Monitor(ScriptedEnv([([2.0, 2.0], "terminated")]))
    kwargs: dict[str, Any] = {"eval_freq": 5, "n_eval_episodes": 2, "verbose": 0}
    folder = str(tmp_path)
    callback = EvalCallback(eval_env, log_path=folder, best_model_save_path=folder, **kwargs)
    model = NaiveDQN("MlpPolicy", ScriptedEnv(EPISODES))
    model.learn(10, callback=callback)
    with np.load(tmp_path / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [5, 10]
        assert evaluations["results"].tolist() == [[4.0, 4.0]] * 2
    assert callback.best_mean_reward == 4.0
    assert NaiveDQN.load(tmp_path / "best_model").num_timesteps == 5
    stop = StopTrainingOnRewardThreshold(reward_threshold=3.0)
    model.learn(100, callback=EvalCallback(eval_env, callback_on_new_best=stop, **kwargs))
    assert model.num_timesteps == 5


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
def test_the_training_ends_for_callbacks_whatever_raises(error):
    watcher = Watcher()
    env = FaultyEnv(raising(error), 4)
    model = NaiveDQN("MlpPolicy", env)
    with pytest.raises(type(error)):
        model.learn(10, callback=watcher, progress_bar=True)
    assert watcher.calls.count("step") == 3
    assert watcher.calls[-1] == "training_end"
    # Whatever the user does next, the bar of this run is closed.
    env.at_step = 0
    model.learn(10, progress_bar=True)
    assert model.num_timesteps == 10

    def fail(*_: Any) -> bool:
        raise error

    watcher = Watcher()
    with pytest.raises(type(error)):
        model.learn(10, callback=[watcher, ConvertCallback(fail)])
    assert watcher.calls[-1] == "training_end"


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


@each_algorithm
def test_every_key_that_dqn_logs_is_logged(row):
    dqn = DQN("MlpPolicy", ScriptedEnv(EPISODES), learning_starts=1, train_freq=1)
    model, keys = row.make(ScriptedEnv(EPISODES), stats_window_size=1), []
    for each in (dqn, model):
        logs = remember_logs(each)
        each.learn(12, log_interval=3)
        keys.append(logs[-1][1].keys())
    assert keys[0] <= keys[1]
    # the last episode's, because of the window
    assert logs[-1][1]["rollout/ep_rew_mean"] == -1.0
    logs.clear()
    model.learn(12, log_interval=None)
    assert logs == []


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
    assert {"rollout/ep_len_mean", "time/fps", "train/loss"} <= set(events.Tags()["scalars"])
    points = events.Scalars("rollout/ep_rew_mean")
    assert [point.step for point in points] == [6, 12]
    assert points[0].value == pytest.approx(7 / 3)


# Going on


@each_algorithm
def test_reset_num_timesteps_decides_whether_the_count_and_the_episode_go_on(row):
    watcher = Watcher()
    env = ScriptedEnv([([0.0] * 100, "terminated")])
    model = row.make(env)
    model.learn(8)
    model.learn(4, reset_num_timesteps=False, callback=watcher)
    assert (model.num_timesteps, watcher.n_calls, env.n_resets) == (12, 4, 1)
    assert watcher.seen[0]["new_obs"].tolist() == [[0, 9]]
    updates = model._n_updates
    model.learn(4)
    assert (model.num_timesteps, env.n_resets) == (4, 2)
    assert model._n_updates == updates * 16 / 12


@each_algorithm
def test_set_env_learns_from_the_new_environment_after_a_reset(row):
    first, second = RecordingEnv(), RecordingEnv()
    model = row.make(first)
    model.learn(8)
    model.set_env(second)
    model.learn(8, reset_num_timesteps=False)
    assert len(first.transitions) == len(second.transitions) == 8
    assert len(second.seeds) >= 1
    assert model.num_timesteps == 16
    assert model.get_env().envs[0].unwrapped is second


# What scripts written for DQN read


def learned_from(model: Any, monkeypatch: Any) -> list[Any]:
    """What the model learns from, from now on."""
    learn, learned = model._learn_from, []

    def keep(transition: Any) -> Any:
        learned.append(transition)
        return learn(transition)

    monkeypatch.setattr(model, "_learn_from", keep)
    return learned


@each_algorithm
@pytest.mark.parametrize("make", [NumberedEnv, lambda: DummyVecEnv([NumberedEnv])])
@pytest.mark.parametrize("in_callback", [False, True])
def test_who_plays_in_the_models_environment_breaks_no_transition(
    row, in_callback, make, monkeypatch
):
    model = row.make(make())
    learned = learned_from(model, monkeypatch)
    if in_callback:
        model.learn(40, callback=EvalCallback(model.get_env(), eval_freq=9, n_eval_episodes=1))
    else:
        model.learn(16)
        evaluate_policy(model, model.get_env(), 1)
        model.learn(16, reset_num_timesteps=False)
    assert len(learned) >= 32
    assert {float(each.next_obs[0, 0] - each.obs[0, 0]) for each in learned} == {1.0}


@each_algorithm
def test_a_callback_may_set_another_environment(row, monkeypatch):
    class Harder(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 10:
                self.model.set_env(NumberedEnv(first=50_000))
            return True

    model = row.make(NumberedEnv())
    learned = learned_from(model, monkeypatch)
    model.learn(32, callback=Harder())
    first = [float(each.obs[0, 0]) for each in learned]
    assert max(first[:10]) < 50_000 < min(first[10:])
    assert {float(each.next_obs[0, 0] - each.obs[0, 0]) for each in learned} == {1.0}


def other_layer(model: Any) -> None:
    model.q_net.q_net[-1] = th.nn.Linear(8, 3)


def other_activation(model: Any) -> None:
    network = model.q_net.q_net
    (place,) = (i for i, each in enumerate(network) if "LU" in type(each).__name__)
    network[place] = th.nn.Tanh()


def other_parameter(model: Any) -> None:
    weight = model.q_net.q_net[-1].weight
    model.q_net.q_net[-1].weight = th.nn.Parameter(th.randn_like(weight))


def other_policy(model: Any) -> None:
    model.policy = type(model)(
        "MlpPolicy", RecordingEnv(), seed=5, policy_kwargs={"net_arch": [8]}
    ).policy


@each_algorithm
@pytest.mark.parametrize("replace", [other_layer, other_activation, other_parameter, other_policy])
def test_what_is_replaced_in_a_policy_is_acted_by(row, replace):
    model = row.make().learn(16)
    replace(model)
    model.learn(16, reset_num_timesteps=False)
    assert model.q_net is model.policy.q_net
    obs = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    with th.no_grad():
        values = model.q_net(th.from_numpy(obs))
    assert model._learner.greedy_actions(obs).tolist() == values.argmax(1).tolist()


def test_an_optimizer_may_have_numbers_of_its_own_form():
    kwargs = {"optimizer_class": th.optim.Adafactor}
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, policy_kwargs=kwargs)
    before = weights(model)
    assert not np.array_equal(weights(model.learn(16)), before)


def test_the_arguments_shared_with_dqn_have_its_names_and_its_order():
    theirs = list(inspect.signature(DQN.__init__).parameters)
    ours = list(inspect.signature(NaiveDQN.__init__).parameters)
    shared = [name for name in ours if name in theirs]
    assert shared == [name for name in theirs if name in ours]
    assert set(theirs) - set(ours) == LEFT_OUT  # what is for a buffer or a target network
    ours_alone = [name for name in ours if name not in theirs]
    kinds = inspect.signature(NaiveDQN.__init__).parameters
    assert all(kinds[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ours_alone)


@each_algorithm
def test_methods_take_what_dqns_take_and_arguments_come_from_dqn_and_ppo(row):
    for method in ("learn", "predict", "load", "save", "set_env"):
        theirs, ours = (inspect.signature(getattr(a, method)) for a in (DQN, row.algorithm))
        masks = ["action_masks"] if method == "predict" else []  # as sb3-contrib's MaskablePPO
        assert list(ours.parameters) == [*theirs.parameters, *masks]
    theirs = {*inspect.signature(PPO).parameters, *inspect.signature(DQN).parameters}
    positional = {
        name
        for name, parameter in inspect.signature(row.algorithm).parameters.items()
        if parameter.kind is not parameter.KEYWORD_ONLY
    }
    assert positional <= theirs | {"q_lambda"}


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


VECTOR = spaces.Box(-1.0, 1.0, (2,))


class OwnMlpPolicy(MlpPolicy):
    """A policy of a user's own, without convolutions."""


@pytest.mark.parametrize(
    ("policy", "make_env", "expected"),
    [
        ("MlpPolicy", RecordingEnv, "cpu"),
        (OwnMlpPolicy, RecordingEnv, "cpu"),
        ("MultiInputPolicy", lambda: SimpleMultiObsEnv(random_start=False), "gpu"),
        ("MultiInputPolicy", lambda: SpacesEnv(spaces.Dict(a=VECTOR, b=VECTOR)), "cpu"),
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


@each_algorithm
def test_predict_takes_one_observation_or_a_batch(row):
    model = row.make()
    for deterministic in (False, True):
        single, state = model.predict(np.zeros(3, np.float32), deterministic=deterministic)
        assert single.shape == ()
        assert state is None
        assert model.action_space.contains(single[()])
        batch, _ = model.predict(np.zeros((5, 3), np.float32), deterministic=deterministic)
        assert batch.shape == (5,)
        assert np.issubdtype(batch.dtype, np.integer)
    with pytest.raises(ValueError, match="observation shape"):
        model.predict(np.zeros(4, np.float32))


# Vectorised environments and their wrappers


def test_subproc_vec_env_gives_the_same_weights_as_dummy_vec_env():
    runs = []
    for vec_env_cls in (DummyVecEnv, SubprocVecEnv):
        vec_env = make_vec_env("CartPole-v1", n_envs=2, vec_env_cls=vec_env_cls)
        model = NaiveDQN("MlpPolicy", vec_env, seed=0)
        runs.append(weights(model.learn(200)))
        vec_env.close()
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
    before = weights(model)
    assert not np.array_equal(weights(model.learn(200)), before)
    # Returns are logged as the environment gave them: whole numbers of steps.
    assert all(episode["r"] == episode["l"] for episode in model.ep_info_buffer)


def test_an_environment_with_a_monitor_is_not_monitored_twice():
    env = Monitor(ScriptedEnv(EPISODES))
    model = NaiveDQN("MlpPolicy", env)
    assert model.get_env().envs[0] is env
    model.learn(6)
    assert env.get_episode_rewards() == [3.0, 5.0, -1.0]


@each_algorithm
def test_no_warning_is_given_in_ordinary_use(row):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = row.make("CartPole-v1").learn(20)
        through_a_file(model, env=make_vec_env("CartPole-v1", 2)).learn(10)


@each_algorithm
def test_a_policys_own_predict_may_take_what_stable_baselines3s_takes(row):
    class Own(row.algorithm.policy_aliases["MlpPolicy"]):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return super().predict(observation, state, episode_start, deterministic)

    model = row.make(policy=Own).learn(20)
    obs = np.zeros((5, 3), np.float32)
    actions, _ = model.predict(obs, deterministic=True)
    assert np.array_equal(actions, model.policy.predict(obs, deterministic=True)[0])
