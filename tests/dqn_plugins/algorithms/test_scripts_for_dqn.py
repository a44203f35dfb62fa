"""What scripts do that were written for Stable-Baselines3's DQN."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.dqn import policies as dqn_policies

from dqn_plugins import NaiveDQN, StreamQ
from tests.algorithms import each_algorithm, each_online_algorithm
from tests.environments import RecordingEnv, SampledEnv, ScriptedEnv
from tests.helpers import everything, learn_all, own_loop, through_a_file

# Policy classes


@each_algorithm
@pytest.mark.parametrize("name", ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"])
def test_a_policy_class_of_dqn_is_ours_of_that_name(row, name):
    env = RecordingEnv()
    if name == "CnnPolicy":
        env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    elif name == "MultiInputPolicy":
        env = SimpleMultiObsEnv()
    model = row.make(env, getattr(dqn_policies, name))
    assert type(model.policy) is row.algorithm.policy_aliases[name]
    assert everything(model) == everything(row.make(env, name))
    assert everything(through_a_file(model)) == everything(model)


class OwnDQNPolicy(dqn_policies.DQNPolicy):
    pass


@each_algorithm
@pytest.mark.parametrize("policy", [ActorCriticPolicy, OwnDQNPolicy, None, 3, [1]])
def test_another_policy_is_refused(row, policy):
    with pytest.raises(ValueError, match=r"policy: received .*unknown to .*it must be one of"):
        row.make(policy=policy)


# Overridden methods


@each_algorithm
def test_an_overridden_predict_is_asked_while_learning(row, backend):
    class Last(row.algorithm):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            assert not deterministic
            return np.full(len(observation), 2), state

    env = RecordingEnv()
    replace(row, algorithm=Last).make(env, backend=backend).learn(40)
    assert {step.action for step in env.transitions} == {2}


@each_algorithm
def test_a_predict_that_asks_ours_learns_what_ours_learns(row, backend):
    asked = []

    class Watching(row.algorithm):
        def predict(self, observation, *args, **kwargs):
            asked.append(np.shape(observation))
            return super().predict(observation, *args, **kwargs)

    rows = row, replace(row, algorithm=Watching)
    model, watching = (each.make(backend=backend).learn(64) for each in rows)
    assert everything(model) == everything(watching)
    assert asked == [(1, 3)] * 64


def test_a_predict_may_take_the_newest_greedy_actions_and_look_at_others():
    class Greedy(StreamQ):
        def predict(self, observation, *args, **kwargs):
            seen.append(super().predict(-observation[0], deterministic=True)[0])
            return super().predict(observation, deterministic=True)

    seen = []
    model = Greedy("MlpPolicy", (env := RecordingEnv()), seed=0, exploration_final_eps=1.0)
    for _ in range(30):
        obs, _ = env.reset(seed=1)
        action = model.act(obs)
        assert action == model._learner.greedy_actions(obs[np.newaxis])[0]
        assert np.shape(seen.pop()) == ()
        own_loop(model, env, 3)


@pytest.mark.parametrize("answer", [[3], [-1], [0.5], [0, 1], 0, [[0]], [None]])
def test_a_predict_that_gives_no_actions_changes_nothing(answer):
    class Wrong(NaiveDQN):
        def predict(self, *args, **kwargs):
            return answer, None

    model = Wrong("MlpPolicy", (env := RecordingEnv()), seed=0)
    before = everything(model)
    with pytest.raises(ValueError, match=r"predict: returned the actions .*from 0 to 2"):
        model.learn(10)
    assert everything(model) == before
    assert env.transitions == []


@each_algorithm
def test_an_overridden_on_step_is_called_after_every_step(row):
    class Counting(row.algorithm):
        def _on_step(self):
            super()._on_step()
            steps.append(self.num_timesteps)
            self.exploration_final_eps = 0.5  # numbers may be set here, too

    steps = []
    replace(row, algorithm=Counting).make().learn(24)
    assert steps == list(range(1, 25))


# Learning rates


def rate_of(model):
    return model.policy.optimizer.param_groups[0]["lr"]


@each_algorithm
@pytest.mark.parametrize("first", [1e-3, lambda progress: 1e-3 * progress])
def test_a_learning_rate_that_is_set_later_is_the_one_learned_with(row, first):
    model = row.make(learning_rate=first, backend="torch").learn(8)
    model.learning_rate = 1e-5
    assert rate_of(model.learn(8)) == 1e-5
    model.learning_rate = 2e-5
    model._setup_lr_schedule()  # as scripts do
    assert rate_of(model.learn(8, reset_num_timesteps=False)) == 2e-5
    model.lr_schedule = lambda progress: 3e-5
    assert rate_of(model.learn(8)) == 3e-5
    model.learning_rate = -1.0
    with pytest.raises(ValueError, match=r"learning_rate: received -1\.0"):
        model.learn(8)


@each_algorithm
def test_a_learning_rate_may_come_with_custom_objects(row, tmp_path):
    row.make(learning_rate=1e-3, backend="torch").learn(8).save(tmp_path / "model")
    custom = {"learning_rate": 1e-5, "lr_schedule": None}
    model = row.algorithm.load(tmp_path / "model", RecordingEnv(), custom_objects=custom)
    assert rate_of(model) == rate_of(model.learn(8)) == 1e-5


@each_algorithm
def test_a_rate_that_the_optimiser_was_given_stays(row):
    model = row.make(learning_rate=1e-3, backend="torch")
    model.policy.optimizer.param_groups[0]["lr"] = 1e-5
    assert rate_of(model.learn(8)) == rate_of(through_a_file(model)) == 1e-5


# Logs


class Reading(BaseCallback):
    """Reads the logger at every step."""

    def __init__(self):
        super().__init__()
        self.found = []

    def _on_step(self) -> bool:
        values = self.logger.name_to_value
        self.found.append({key: values[key] for key in values if key.startswith("train/")})
        return True


@each_algorithm
def test_a_callback_finds_the_loss_in_the_logger(row):
    reading = Reading()
    row.make(learning_rate=1e-3).learn(64, callback=reading, log_interval=1_000)
    first = row.rollout - 1  # in a rollout, nothing has been learned from yet
    assert ["train/loss" in each for each in reading.found] == [n >= first for n in range(64)]


def test_a_loss_in_the_logger_is_that_of_the_last_td_errors():
    env, reading = RecordingEnv(), Reading()
    model, twin = (
        NaiveDQN("MlpPolicy", each, seed=0, q_step_size=0.5, learning_rate=0.0)
        for each in (env, RecordingEnv())
    )
    model.learn(20, callback=reading, log_interval=None)
    errors = learn_all(twin, env.transitions)
    for n, found in enumerate(reading.found, start=1):
        # α² δ² / n_actions, the mean over the steps since the last log, of which there is none
        assert found["train/loss"] == pytest.approx(0.25 * np.mean(np.square(errors[:n])) / 3)


@pytest.mark.parametrize(("interval", "logs"), [(1, 6), (2, 3), (4, 1), (None, 0)])
def test_every_so_many_episodes_are_logged(interval, logs):
    model = NaiveDQN("MlpPolicy", ScriptedEnv([([1.0] * 3, "terminated")]))
    dumped, dump = [], model.dump_logs
    model.dump_logs = lambda: dumped.append(model.num_timesteps) or dump()
    model.learn(18, log_interval=interval)
    assert dumped == [3 * interval * n for n in range(1, logs + 1)] if interval else dumped == []


def test_an_interval_of_no_episodes_is_refused():
    env = RecordingEnv()
    with pytest.raises(ValueError, match="log_interval: received 0, it must be at least 1"):
        NaiveDQN("MlpPolicy", env).learn(10, log_interval=0)
    assert env.transitions == []


# Spaces

BOX = spaces.Box(-1.0, 1.0, (2,))


@each_algorithm
@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Tuple([BOX, BOX]), r"observation_space: received Tuple.*Wrap the environment"),
        (spaces.Text(5), r"observation_space: received Text"),
        (spaces.Sequence(BOX), r"observation_space: received Sequence"),
        (spaces.Dict({}), r"observation_space: received Dict\(\)"),
        (spaces.Dict(a=spaces.Dict(b=BOX)), r"observation_space\['a'\]: received Dict"),
        (spaces.Dict(a=BOX, b=spaces.Tuple([BOX])), r"observation_space\['b'\]: received Tuple"),
        (spaces.Dict({"": BOX}), r"observation_space: received the keys \[''\]"),
        (spaces.Discrete(3, start=1), r"observation_space: .*must start at 0.*subtracts 1 from"),
        (spaces.Dict(a=spaces.Discrete(3, start=-1)), r"observation_space\['a'\].*must start at 0"),
        (
            spaces.MultiDiscrete([3, 3], start=[0, 2]),
            r"observation_space: .*MultiDiscrete space must start at 0",
        ),
        (spaces.Dict(a=spaces.MultiDiscrete([3], start=[2])), r"\['a'\].*must start at 0"),
        (spaces.MultiDiscrete([[3, 3], [2, 2]]), r"(?s)observation_space: .*flat MultiDiscrete"),
        (spaces.Box(0.0, 1.0, (0,)), r"observation_space: received Box"),
        (spaces.Box(0.0, 1.0, ()), r"observation_space: received Box.*at least one dimension"),
        (spaces.Dict(a=spaces.Box(0.0, 1.0, ())), r"observation_space\['a'\]: received Box"),
        (
            spaces.Dict(a=spaces.Box(0, 255, (8, 8, 3), np.uint8)),
            r"observation_space: received Dict.*at least 36×36 pixels",
        ),
    ],
)
def test_observations_that_cannot_be_learned_from_are_refused_at_once(row, space, message):
    env = RecordingEnv()
    env.observation_space = space
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    with pytest.raises(ValueError, match=message):
        row.make(env, policy)


@each_algorithm
def test_a_dictionary_may_have_any_keys(row):
    space = spaces.Dict({"a.b": BOX, "a_b": BOX, "type": spaces.Discrete(2), "part_a_b": BOX})
    for each in (space, spaces.Dict({0: BOX, 1: BOX})):
        model = row.make(SampledEnv(each), "MultiInputPolicy").learn(24)
        assert everything(through_a_file(model)) == everything(model)
        sample = each.sample()
        action, _ = model.predict(sample, deterministic=True)
        changed = {key: np.zeros_like(part) for key, part in sample.items()}
        values = [
            model.q_net(model.policy.obs_to_tensor({**sample, key: changed[key]})[0]).tolist()
            for key in each
        ]
        assert len({str(each) for each in values}) == len(values)  # each part counts
        assert 0 <= action < 3


@each_algorithm
def test_a_policy_for_dictionaries_says_that_it_needs_one(row):
    with pytest.raises(ValueError, match=r"observation_space: .*it must be a Dict .*'MlpPolicy'"):
        row.make(policy="MultiInputPolicy")


@each_algorithm
def test_a_model_without_environment_says_what_to_do(row):
    with pytest.raises(ValueError, match=r"env: received None"):
        row.algorithm("MlpPolicy", None)
    model = through_a_file(row.make())
    with pytest.raises(ValueError, match=r"env: .*set_env"):
        model.learn(1)


@each_algorithm
def test_seeds_of_numpy_are_seeds(row, tmp_path):
    model = row.make(seed=np.int64(7))
    assert everything(model) == everything(row.make(seed=7))
    model.save(tmp_path / "model")
    again, expected = (row.algorithm.load(tmp_path / "model", seed=s) for s in (np.int32(8), 8))
    assert type(again.seed) is int
    assert everything(again) == everything(expected)
    again.set_random_seed(np.uint16(9))
    expected.set_random_seed(9)
    assert everything(again) == everything(expected)


# What environments tell


class OwnEpisodes(DummyVecEnv):
    """Without ``Monitor``, and with something of its own under the name of what that tells."""

    told: Any = None

    def step_wait(self) -> Any:
        obs, rewards, dones, infos = super().step_wait()
        return obs, rewards, dones, [{**info, "episode": self.told} for info in infos]


@each_algorithm
@pytest.mark.parametrize("told", [3, "first", [1, 2], np.arange(3), {"number": 3}, {"r": 2.0}, {}])
def test_what_an_environment_itself_calls_an_episode_is_left_alone(row, told):
    env = OwnEpisodes([RecordingEnv])
    env.told = told
    model = row.make(env)
    model.learn(20, log_interval=1)
    assert len(model.ep_info_buffer) == 0
    env.told = {"r": np.array([2.0]), "l": np.array([3]), "t": 0.1}  # as Gymnasium's wrapper tells
    model.learn(20, log_interval=1)
    assert [info["l"] for info in model.ep_info_buffer] == [3] * len(model.ep_info_buffer) != []


class ColumnsFirst(DummyVecEnv):
    """Observations in the memory layout of Gymnasium's vectorised CartPole."""

    def reset(self) -> Any:
        return np.asfortranarray(super().reset())

    def step_wait(self) -> Any:
        obs, *rest = super().step_wait()
        return np.asfortranarray(obs), *rest


@each_algorithm
def test_observations_may_have_any_layout_in_memory(row):
    models = [row.make(vec_env([RecordingEnv] * 2)) for vec_env in (ColumnsFirst, DummyVecEnv)]
    for model in models:
        model.learn(40)
    assert everything(models[0]) == everything(models[1])


@each_algorithm
def test_a_reset_may_tell_none_instead_of_nothing(row):
    class Silent(SampledEnv):
        def reset(self, **kwargs):
            return super().reset(**kwargs)[0], None

    model = row.make(Silent(BOX)).learn(24)
    assert model.action_masks is None
    assert everything(model) == everything(row.make(SampledEnv(BOX)).learn(24))


# What a program has set in torch


@each_algorithm
@pytest.mark.parametrize(
    "mode", [th.no_grad, th.inference_mode, lambda: th.autocast("cpu", dtype=th.bfloat16)]
)
def test_learning_is_the_same_in_every_mode_of_torch(row, mode):
    model, expected = row.make(backend="torch"), row.make(backend="torch")
    for each in (model, expected):
        each.exploration_initial_eps = each.exploration_final_eps = 1.0  # greedy values are rounded
        each._setup_schedules()
    with mode():
        model.learn(24)
    assert everything(model) == everything(expected.learn(24))


@each_online_algorithm
def test_batch_normalisation_of_one_transition_is_refused(row):
    class Normalized(FlattenExtractor):
        def __init__(self, observation_space):
            super().__init__(observation_space)
            self.norm = th.nn.BatchNorm1d(self.features_dim)

        def forward(self, observations):
            return self.norm(super().forward(observations))

    model = row.make(policy_kwargs={"features_extractor_class": Normalized})
    with pytest.raises(ValueError, match=r"policy_kwargs: .*batch normalisation.*LayerNorm"):
        model.learn(8)
