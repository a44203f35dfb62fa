from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch as th

from dqn_plugins import STREAM_Q_PAPER_HYPERPARAMETERS
from dqn_plugins.comparison import ComparisonSettings
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.algorithms import resolve
from dqn_plugins.experiments.hyperparameters import build, describe, parse_value, read_yaml
from dqn_plugins.policies import ObGD, SparseInitializer, glorot_uniform


def test_dotted_names_and_classes_become_objects():
    built = build(
        {
            "activation_fn": "torch.nn.LeakyReLU",
            "optimizer_class": "dqn_plugins.policies.ObGD",
            "weight_initializer": {
                "class": "dqn_plugins.policies.SparseInitializer",
                "sparsity": 0.8,
            },
            "nested": [{"fn": "dqn_plugins.policies.glorot_uniform"}],
            "policy": "MlpPolicy",
            "net_arch": [64, 64],
            "outside": ["os.system", "subprocess.Popen"],  # nothing there is imported
        }
    )
    assert built == {
        "activation_fn": th.nn.LeakyReLU,
        "optimizer_class": ObGD,
        "weight_initializer": SparseInitializer(0.8),
        "nested": [{"fn": glorot_uniform}],
        "policy": "MlpPolicy",
        "net_arch": [64, 64],
        "outside": ["os.system", "subprocess.Popen"],
    }


def test_describing_is_the_reverse_of_building():
    described = describe(STREAM_Q_PAPER_HYPERPARAMETERS)
    assert described["policy_kwargs"]["activation_fn"] == "torch.nn.LeakyReLU"
    assert build(described) == STREAM_Q_PAPER_HYPERPARAMETERS
    assert describe({"a": np.float64(0.5), "b": (1, None)}) == {"a": 0.5, "b": [1, None]}
    assert describe(np.int64(3)) == 3
    assert describe([Path("a") / "b", date(2024, 1, 1)]) == [str(Path("a") / "b"), "2024-01-01"]
    assert describe(partial(ObGD, lr=0.5)) == {
        "partial": "dqn_plugins.policies.ObGD",
        "lr": 0.5,
    }
    assert describe(slice(1, 2)) == "slice(1, 2, None)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("torch.nn.RelU", "cannot be found"),
        ("torch.nn.nothing.here", "cannot be found"),
        ({"class": "torch.nn.functional.relu"}, "dotted name of a class"),
        ({"class": "subprocess.Popen", "args": "ls"}, "dotted name of a class"),
        ({"class": "dqn_plugins.policies.SparseInitializer", "sparseness": 1}, "cannot be made"),
        ({"class": "dqn_plugins.policies.SparseInitializer", "sparsity": 2.0}, "sparsity"),
        (
            {
                "class": "stable_baselines3.common.utils.LinearSchedule",
                "start": 1.0,
                "end": 0.0,
                "end_fraction": 0.0,
            },
            "cannot be made of .*'end_fraction': 0.0",
        ),
    ],
)
def test_names_that_lead_nowhere_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        build(value)


def test_a_file_can_destroy_nothing(tmp_path):
    precious = tmp_path / "thesis.tex"
    precious.write_text("years of work")
    for value in (
        {
            "class": "stable_baselines3.common.logger.HumanOutputFormat",
            "filename_or_file": str(precious),
        },
        {"class": "stable_baselines3.common.monitor.Monitor", "env": None},
        "stable_baselines3.common.save_util.load_from_pkl",
    ):
        with pytest.raises(SettingsError, match="and nothing else"):
            build(value)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.ReLU",
        "torch.optim.RMSprop",
        "torch.nn.init.orthogonal_",
        "dqn_plugins.policies.glorot_uniform",
        "dqn_plugins.policies.SparseInitializer",
        "stable_baselines3.common.torch_layers.NatureCNN",
        "stable_baselines3.dqn.MlpPolicy",
        "stable_baselines3.common.buffers.DictReplayBuffer",
        "stable_baselines3.common.utils.LinearSchedule",
    ],
)
def test_what_hyperparameters_are_made_of_can_be_named(name):
    assert describe(build(name)).rpartition(".")[2] == name.rpartition(".")[2].replace(
        "MlpPolicy", "DQNPolicy"
    )


class Opaque:
    def __call__(self, progress_remaining):
        return progress_remaining


class Open(Opaque):
    def __repr__(self):
        return "Open()"


def falling(progress_remaining):
    return 1e-3 * progress_remaining


def test_what_cannot_be_told_apart_is_refused():
    for value in (lambda progress: progress, Opaque(), partial(lambda progress: progress)):
        with pytest.raises(SettingsError, match=r"mine\.learning_rate: .*could not tell it from"):
            describe({"learning_rate": value}, "mine")
    assert describe(falling).endswith("test_hyperparameters.falling")
    assert describe(Open()) == "Open()"
    assert describe(partial(falling, 0.5))["arguments"] == [0.5]
    assert describe(th.tensor([1.0, 2.0])) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.995", 0.995),
        ("1e-3", 1e-3),
        ("-2E5", -2e5),
        ("3", 3),
        (".5", 0.5),
        ("[64, 64]", [64, 64]),
        ("{net_arch: [64]}", {"net_arch": [64]}),
        ("dict(net_arch=dict(pi=[8], vf=[9]))", {"net_arch": {"pi": [8], "vf": [9]}}),
        ("dict(activation_fn=nn.ReLU, eps=1e-5)", {"activation_fn": "torch.nn.ReLU", "eps": 1e-5}),
        ("{'norm_obs': True, 'norm_reward': False}", {"norm_obs": True, "norm_reward": False}),
    ],
)
def test_values_are_read_as_yaml_or_as_rl_zoo_writes_them(text, value):
    assert repr(parse_value(text)) == repr(value)  # of the same type


@pytest.mark.parametrize("text", ["dict(a=__import__('os').system('x'))", "dict(a=open)", "[1"])
def test_values_that_would_run_something_are_refused(text):
    with pytest.raises(SettingsError, match="cannot be read"):
        parse_value(text)


ZOO = """
default: {n_timesteps: !!float 1e6, policy: MlpPolicy, gamma: 0.9}
CartPole-v1:
  n_timesteps: !!float 5e4
  policy: 'MlpPolicy'
  n_envs: 8
  normalize: "{'norm_obs': True, 'norm_reward': False}"
  env_wrapper:
    - gymnasium.wrappers.TimeAwareObservation
    - gymnasium.wrappers.RescaleObservation: {min_obs: -1, max_obs: 1}
  learning_rate: lin_2.5e-4
  policy_kwargs: "dict(net_arch=[32], activation_fn=nn.Tanh)"
Acrobot-v1: {callback: some.Callback}
Taxi-v3: {learning_rate: lin_abc}
"""


def test_rl_zoos_files_are_read_as_they_are(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text(ZOO)
    variant = resolve("ppo", "CartPole-v1", zoo=[path], hp=[("policy_kwargs.net_arch", [16])])
    assert variant.environment.n_envs == 8
    assert variant.environment.normalize == {"norm_obs": True, "norm_reward": False}
    assert len(variant.environment.wrappers) == 2
    schedule = variant.arguments["learning_rate"]
    assert (schedule(1.0), schedule(0.5)) == (2.5e-4, 1.25e-4)
    kwargs = variant.arguments["policy_kwargs"]
    assert kwargs == {"net_arch": [16], "activation_fn": th.nn.Tanh}
    assert resolve("ppo", "MountainCar-v0", zoo=[path]).arguments["gamma"] == 0.9
    assert resolve("dqn", "CartPole-v1", zoo=[path]).arguments == {}
    with pytest.raises(SettingsError, match=r"'callback' in .*, which is not supported"):
        resolve("ppo", "Acrobot-v1", zoo=[path])
    with pytest.raises(SettingsError, match=r"learning_rate: received 'lin_abc' in .*, it must be"):
        resolve("ppo", "Taxi-v3", zoo=[path])


def test_flags_go_before_rl_zoos_file_and_a_variants_entries_before_both(tmp_path):
    path = tmp_path / "ppo.yml"
    path.write_text(ZOO)
    flags = {"n_envs": 1, "normalize": False, "env_kwargs": {"sutton_barto_reward": True}}
    settings = ComparisonSettings(**flags, wrapper="gymnasium.wrappers.FlattenObservation")
    variants = {"own": {"algorithm": "ppo", "zoo": path, "n_envs": 3}}
    plain, own = (
        resolve(name, "CartPole-v1", variants, settings.environment, [path]).environment
        for name in ("ppo", "own")
    )
    assert (plain.n_envs, plain.normalize, plain.env_kwargs) == tuple(flags.values())
    assert plain.wrappers == ("gymnasium.wrappers.FlattenObservation",)
    assert (own.n_envs, own.normalize) == (3, False)


def test_all_sections_of_rl_zoos_own_files_can_be_read():
    zoo = pytest.importorskip("rl_zoo3")
    for name in ("dqn", "ppo", "a2c", "qrdqn"):
        path = Path(zoo.__file__).parent / "hyperparams" / f"{name}.yml"
        for env_id in ("CartPole-v1", "LunarLander-v3", "Acrobot-v1", "MountainCar-v0"):
            resolve(name, env_id, zoo=[path])


def test_a_variant_may_differ_between_environments():
    variants = {
        "mine": {
            "algorithm": "dqn",
            "gamma": 0.9,
            "environments": {"Acrobot-v1": {"gamma": 0.99, "frame_stack": 2}},
        }
    }
    assert resolve("mine", "CartPole-v1", variants).arguments == {"gamma": 0.9}
    other = resolve("mine", "Acrobot-v1", variants, hp=[("mine.batch_size", 16), ("clip_range", 5)])
    assert other.arguments == {"gamma": 0.99, "batch_size": 16}
    assert other.environment.frame_stack == 2


def test_anchors_can_be_repeated_and_changed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("x-a: &a {p: 1, q: {r: 2}}\nb:\n  <<: *a\n  p: 3\nc:\n  <<: *a\n")
    content = read_yaml(path)
    assert content["b"] == {"p": 3, "q": {"r": 2}}
    assert content["c"] == {"p": 1, "q": {"r": 2}}
