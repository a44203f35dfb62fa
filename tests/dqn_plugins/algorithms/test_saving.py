"""What a saved model, a saved policy and parameters hold, for every algorithm."""

import inspect
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from dqn_plugins import NaiveDQN
from tests.algorithms import each_algorithm
from tests.environments import RecordingEnv, SampledEnv, ScriptedEnv
from tests.helpers import everything, learn_all, optimizer_numbers, through_a_file, weights

OBSERVATIONS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)


# Arguments


@each_algorithm
def test_every_constructor_argument_survives_saving_and_loading(row):
    signature = inspect.signature(row.algorithm.__init__).parameters
    # Device and environments are chosen anew when loading, as everywhere in Stable-Baselines3.
    elsewhere = {"self", "policy", "env", "n_envs", "vectorization", "device", "_init_setup_model"}
    assert row.changed.keys() == signature.keys() - elsewhere
    for name, value in row.changed.items():
        assert value != signature[name].default, name
    model = row.algorithm("MlpPolicy", RecordingEnv(), **row.changed)
    loaded = through_a_file(model)
    for name, value in row.changed.items():
        attribute = "_stats_window_size" if name == "stats_window_size" else name
        assert getattr(loaded, attribute) == value, name
    assert loaded.policy_class is row.algorithm.policy_aliases["MlpPolicy"]
    assert everything(loaded) == everything(model)


IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
DICTIONARY = spaces.Dict(vector=spaces.Box(-1.0, 1.0, (4,)), image=IMAGE, number=spaces.Discrete(3))
POLICIES: dict[str, tuple[str, spaces.Space[Any], dict[str, Any]]] = {
    "vectors": ("MlpPolicy", spaces.Box(-1.0, 1.0, (3,)), {}),
    "images": ("CnnPolicy", IMAGE, {}),
    "images as features": (
        "CnnPolicy",
        IMAGE,
        {"features_extractor_kwargs": {"features_dim": 32}, "net_arch": None},
    ),
    "images that are divided already": (
        "CnnPolicy",
        spaces.Box(0.0, 1.0, (3, 36, 36)),
        {
            "features_extractor_class": NatureCNN,
            "features_extractor_kwargs": {"features_dim": 16, "normalized_image": True},
            "normalize_images": False,
        },
    ),
    "dictionaries": ("MultiInputPolicy", DICTIONARY, {}),
}


@each_algorithm
@pytest.mark.parametrize("case", POLICIES)
def test_a_policy_is_saved_and_loaded_alone(row, case, tmp_path):
    name, space, policy_kwargs = POLICIES[case]
    changed = row.changed["policy_kwargs"] if case == "vectors" else policy_kwargs
    model = row.make(SampledEnv(space), name, policy_kwargs=changed)
    before = weights(model)
    assert not np.array_equal(weights(model.learn(8)), before)
    policy = model.policy
    assert type(policy) is row.algorithm.policy_aliases[name]
    policy.save(tmp_path / "policy.pth")
    loaded = type(policy).load(tmp_path / "policy.pth")
    arguments, expected = (p._get_constructor_parameters() for p in (loaded, policy))
    del arguments["lr_schedule"], expected["lr_schedule"]
    assert arguments == expected
    assert str(loaded) == str(policy)
    assert loaded.optimizer.param_groups[0].keys() == policy.optimizer.param_groups[0].keys()
    for key, values in policy.state_dict().items():
        assert th.equal(loaded.state_dict()[key], values), key
    for _ in range(10):
        obs = space.sample()
        assert loaded.predict(obs)[0] == model.predict(obs, deterministic=True)[0]
    evaluate_policy(loaded, SampledEnv(space), 1, warn=False)
    # The whole model as well
    assert everything(through_a_file(model)) == everything(model)


@each_algorithm
def test_every_argument_of_the_policy_is_among_the_changed_ones(row):
    policy = row.algorithm.policy_aliases["MlpPolicy"]
    signature = inspect.signature(policy.__init__).parameters
    # Those of the features extractor are other ones for images.
    elsewhere = {"self", "observation_space", "action_space", "lr_schedule", "normalize_images"}
    changed = row.changed["policy_kwargs"]
    extractor = {"features_extractor_class", "features_extractor_kwargs"}
    assert changed.keys() == signature.keys() - elsewhere - extractor
    for name, value in changed.items():
        assert value != signature[name].default, name


@each_algorithm
def test_features_dim_is_the_layer_that_sb3s_users_mean(row):
    kwargs = POLICIES["images as features"][2]
    q_net = row.make(SampledEnv(IMAGE), "CnnPolicy", policy_kwargs=kwargs).q_net
    layers = [(m.in_features, m.out_features) for m in q_net.modules() if type(m) is nn.Linear]
    # 16 filters of 3×3 leave 34×34 places; NatureCNN, too, ends with a layer and its activation.
    assert layers == [(16 * 34 * 34, 32), (32, 3)]
    assert type(q_net.features_extractor.layers[-1]) is q_net.activation_fn


# Files


@each_algorithm
def test_a_model_loads_without_an_environment_and_predicts(tmp_path, row):
    model = row.make().learn(8)
    model.save(str(tmp_path / "model"))
    loaded = row.algorithm.load(tmp_path / "model.zip")
    assert loaded.get_env() is None
    assert loaded.q_net is loaded.policy.q_net
    expected = model.predict(OBSERVATIONS, deterministic=True)[0]
    assert np.array_equal(loaded.predict(OBSERVATIONS, deterministic=True)[0], expected)
    # An alias that is not excluded would be pickled beside the state dictionary.
    with zipfile.ZipFile(tmp_path / "model.zip") as file:
        data = json.loads(file.read("data"))
        assert {"policy.pth", "policy.optimizer.pth"} <= set(file.namelist())
    assert not {"policy", "q_net", "_learner", "env"} & data.keys()


@each_algorithm
def test_arguments_can_be_changed_when_loading_and_are_checked(row):
    model = row.make()
    loaded = through_a_file(model, env=RecordingEnv(), learning_rate=0.0, gamma=0.1)
    assert loaded.gamma == 0.1
    loaded.learn(8)
    assert np.array_equal(weights(loaded), weights(model))
    with pytest.raises(ValueError, match=r"gamma: received 2, .*\[0, 1\]"):
        through_a_file(model, gamma=2)


@each_algorithm
def test_memory_does_not_grow_with_steps(tmp_path, row):
    # Nothing is kept but the weights, the optimiser's state and statistics of bounded size.
    sizes = []
    model = row.make(ScriptedEnv([([0.0] * 10, "terminated")]))
    for steps in (1_000, 3_000):
        model.learn(steps, log_interval=None)
        model.save(tmp_path / "model")
        sizes.append((tmp_path / "model.zip").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200


# Parameters


@each_algorithm
@pytest.mark.parametrize("through", ["memory", "a file"])
def test_parameters_go_from_one_model_to_another(tmp_path, backend, row, through):
    source, goal = (row.make(seed=seed, backend=backend).learn(20) for seed in (0, 1))
    source.save(tmp_path / "model")
    parameters = source.get_parameters()
    assert parameters.keys() == {"policy", "policy.optimizer"}
    goal.set_parameters(parameters if through == "memory" else str(tmp_path / "model"))
    before = everything(source)
    assert everything(goal) == before
    # Both are the same model, and two models: neither moves the other.
    for one in (goal, source):
        one.set_env(RecordingEnv())
        one.set_random_seed(7)
    goal.learn(20)
    assert everything(source) == before
    source.learn(20)
    assert everything(goal) == everything(source) != before


def test_exact_match_wants_every_parameter():
    model = NaiveDQN("MlpPolicy", RecordingEnv())
    policy_only = {"policy": model.get_parameters()["policy"]}
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        model.set_parameters(policy_only)
    model.set_parameters(policy_only, exact_match=False)


def test_a_compiled_policy_learns_predicts_saves_and_loads():
    model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0)
    model.policy = th.compile(model.policy, backend="eager")
    if any(name.startswith("_orig_mod.") for name in model.get_parameters()["policy"]):
        pytest.skip("this Stable-Baselines3 saves a compiled policy's weights by other names")
    before = weights(model)
    model.learn(10)
    assert not np.array_equal(weights(model), before)
    loaded = through_a_file(model, env=RecordingEnv())
    expected = model.predict(OBSERVATIONS, deterministic=True)[0]
    assert np.array_equal(loaded.predict(OBSERVATIONS, deterministic=True)[0], expected)
    assert np.array_equal(weights(loaded), weights(model))
    loaded.learn(10)


def test_an_optimiser_with_momentum_goes_on():
    env = RecordingEnv()
    kwargs = {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}}
    model = NaiveDQN("MlpPolicy", env, seed=0, policy_kwargs=kwargs).learn(30)
    loaded = through_a_file(model)
    assert type(loaded.policy.optimizer) is th.optim.SGD
    for one in (loaded, model):
        learn_all(one, env.transitions)
    assert everything(loaded) == everything(model)
    assert len(optimizer_numbers(model)) == 6
