"""What a user does to the network, the optimiser and the numbers of a model is in force at once."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from dqn_plugins import NaiveDQN
from dqn_plugins.learning import NaiveRule
from tests.algorithms import each_algorithm
from tests.environments import RecordingEnv
from tests.helpers import everything, optimizer_numbers, through_a_file, unchanged, weights

OBSERVATIONS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
GREEDY = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}


def learn_again(*models: Any, steps: int = 20) -> None:
    """Have each model learn from the same episodes, with the same random numbers."""
    for model in models:
        model.set_env(RecordingEnv())
        model.set_random_seed(7)
        model.learn(steps)


def put_state_dict(model: Any, source: Any) -> None:
    model.policy.load_state_dict(source.policy.state_dict())


def put_in_place(model: Any, source: Any) -> None:
    with th.no_grad():
        for mine, theirs in zip(model.policy.parameters(), source.policy.parameters(), strict=True):
            mine.copy_(theirs)


def put_data(model: Any, source: Any) -> None:
    for mine, theirs in zip(model.policy.parameters(), source.policy.parameters(), strict=True):
        mine.data = theirs.data.clone()


def put_vector(model: Any, source: Any) -> None:
    model.policy.load_from_vector(source.policy.parameters_to_vector())


@each_algorithm
@pytest.mark.parametrize("put", [put_state_dict, put_in_place, put_data, put_vector])
def test_weights_put_in_from_outside_are_used_and_learned_from(backend, row, put):
    # Users copy, perturb and average networks; prediction and learning must see the same memory.
    model, source = (row.make(backend=backend, **GREEDY).learn(20) for _ in range(2))
    with th.no_grad():
        for parameter in source.policy.parameters():
            parameter.mul_(-0.5)
    before = weights(model)
    put(model, source)
    for _ in range(2):
        assert everything(model) == everything(source)
        greedy = [one.predict(OBSERVATIONS, deterministic=True)[0] for one in (model, source)]
        assert np.array_equal(*greedy)
        learn_again(model, source)
    assert everything(model) == everything(source)
    assert not np.allclose(weights(model), before)


def new_parameters(model: Any) -> None:
    vector = nn.utils.parameters_to_vector(model.q_net.parameters()).detach().clone()
    nn.utils.vector_to_parameters(vector, model.q_net.parameters())


def new_data(model: Any) -> None:
    for tensor in (*model.policy.parameters(), *model.policy.buffers()):
        tensor.data = tensor.data.clone()


def new_state(model: Any) -> None:
    for state in model.policy.optimizer.state.values():
        state.update({name: value.clone() for name, value in state.items()})


def loaded_state(model: Any) -> None:
    model.policy.optimizer.load_state_dict(copy.deepcopy(model.policy.optimizer.state_dict()))


def new_optimizer(model: Any) -> None:
    before = model.policy.optimizer
    model.policy.optimizer = type(before)(model.q_net.parameters(), lr=0.01)
    model.policy.optimizer.load_state_dict(copy.deepcopy(before.state_dict()))


def moved(model: Any) -> None:
    model.policy.to("cpu")


@each_algorithm
@pytest.mark.parametrize(
    "replace", [new_parameters, new_data, loaded_state, new_optimizer, moved, new_state]
)
def test_what_a_callback_puts_in_place_is_learned_from(backend, row, replace):
    def put_in_place(locals_: dict[str, Any], _: Any) -> bool:
        if locals_["self"].num_timesteps in (8, 13, 20) and replace is not new_state:
            replace(locals_["self"])
        return True

    models = [row.make(backend=backend).learn(28, callback=each) for each in (None, put_in_place)]
    replace(models[1])
    for model in models:
        model.learn(8, reset_num_timesteps=False)
    assert everything(models[0]) == everything(models[1])


@each_algorithm
def test_everybody_sees_the_weights_that_were_learned(backend, row):
    model = row.make(backend=backend)
    parameters, before = list(model.q_net.parameters()), weights(model)
    modules = [m for m in model.q_net.modules() if list(m.parameters(recurse=False))]
    model.learn(20)
    # The very parameters that were there before, and every other way to look at them
    flat = weights(model)
    assert not np.array_equal(flat, before)
    given = model.policy.optimizer.param_groups[0]["params"]
    assert [*map(id, parameters)] == [*map(id, model.q_net.parameters())] == [*map(id, given)]
    names = [f"q_net.{name}" for name, _ in model.q_net.named_parameters()]
    for state in (model.policy.state_dict(), model.get_parameters()["policy"]):
        assert np.array_equal(np.concatenate([state[n].numpy().ravel() for n in names]), flat)
    by_module = [p.detach().numpy().ravel() for m in modules for p in m.parameters()]
    assert np.array_equal(np.concatenate(by_module), flat)
    assert np.array_equal(model.policy.parameters_to_vector()[: len(flat)], flat)


@each_algorithm
def test_compiling_changes_nothing(row):
    model = row.make(backend="compiled")
    for each in (model, through_a_file(model.learn(8))):  # the other one has momentum
        with unchanged(each):
            each._learner.compile()


@each_algorithm
@pytest.mark.parametrize("verbose", [0, 1])
def test_what_is_not_compiled_says_why_if_asked_to(row, verbose, capsys):
    row.make(policy_kwargs={"activation_fn": nn.GELU}, verbose=verbose)
    said = "Learning in torch, which is slower than compiled code: the network has a layer GELU"
    assert capsys.readouterr().out.count(said) == verbose


@each_algorithm
def test_a_saved_model_goes_on_under_the_other_backend(row):
    models = [row.make(backend=backend).learn(20) for backend in ("torch", "compiled")]
    for model, other in zip(models, ("compiled", "torch"), strict=True):
        switched = through_a_file(model, backend=other)
        assert switched.backend == other
        assert everything(switched) == everything(model)
        learn_again(model, switched)
        np.testing.assert_allclose(weights(switched), weights(model), rtol=1e-4, atol=1e-6)
        numbers = optimizer_numbers(switched), optimizer_numbers(model)
        for one, theirs in zip(*numbers, strict=True):
            assert one.shape == theirs.shape
            assert np.linalg.norm(one - theirs) <= 1e-4 * np.linalg.norm(theirs) + 1e-7
    # Which of them "auto" takes where both can be had
    assert row.make(backend="auto")._is_compiled()


@each_algorithm
def test_weights_that_a_callback_sets_choose_the_next_action(backend, row):
    env = RecordingEnv()
    model = row.make(env, backend=backend, policy_kwargs={"net_arch": []}, **GREEDY)
    last, wishes = model.q_net.q_net[-1], [2, 0, 1, 1, 2, 0]

    def set_weights(*_: Any) -> bool:
        with th.no_grad():
            last.weight.zero_()
            last.bias.copy_(1_000.0 * th.eye(3)[wishes[len(env.transitions) - 1]])
        return len(env.transitions) < len(wishes)

    model.learn(len(wishes), callback=set_weights)
    model.learn(1, callback=lambda *_: False, reset_num_timesteps=False)
    assert [step.action for step in env.transitions[1:]] == wishes


@each_algorithm
def test_a_deep_copied_policy_is_a_snapshot(row):
    model = row.make()
    snapshot = copy.deepcopy(model.policy)
    before = weights(model)
    model.learn(8)
    assert np.array_equal(weights(snapshot), before)
    assert not np.array_equal(weights(model), before)


class Doubled(BaseFeaturesExtractor):
    """A features extractor of the user's own, with weights to learn."""

    def __init__(self, observation_space: Any, factor: int = 1, frozen: bool = False) -> None:
        super().__init__(observation_space, features_dim=factor * observation_space.shape[0])
        self.linear = nn.Linear(observation_space.shape[0], self.features_dim)
        self.linear.requires_grad_(not frozen)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.linear(observations)


@each_algorithm
@pytest.mark.parametrize("frozen", [False, True])
def test_a_features_extractor_of_ones_own_is_trained_unless_it_is_frozen(row, frozen):
    policy_kwargs = {
        "features_extractor_class": Doubled,
        "features_extractor_kwargs": {"factor": 2, "frozen": frozen},
    }
    model = row.make(policy_kwargs=policy_kwargs)
    extractor, before = model.q_net.features_extractor, weights(model)
    assert isinstance(extractor, Doubled)
    assert extractor.features_dim == 6
    first = extractor.linear.weight.detach().clone()
    model.learn(8)
    assert th.equal(extractor.linear.weight, first) is frozen
    assert not np.array_equal(weights(model), before)
    assert everything(through_a_file(model)) == everything(model)


@each_algorithm
def test_the_callers_policy_kwargs_stay_as_they_were(row):
    policy_kwargs = row.changed["policy_kwargs"]
    given = {**policy_kwargs, "features_extractor_kwargs": {}}
    before = copy.deepcopy(given)
    for _ in range(2):
        row.algorithm("MlpPolicy", RecordingEnv(), policy_kwargs=given, **row.quick).learn(4)
    assert given == before


# Frozen layers


def first_layer(model: Any) -> nn.Linear:
    return next(layer for layer in model.q_net.q_net if isinstance(layer, nn.Linear))


def freeze_first_layer(model: Any) -> None:
    first_layer(model).requires_grad_(False)


def leave_out(model: Any) -> None:
    """Make an optimiser that knows nothing of the first layer."""
    frozen = [id(parameter) for parameter in first_layer(model).parameters()]
    others = [p for p in model.q_net.parameters() if id(p) not in frozen]
    model.policy.optimizer = type(model.policy.optimizer)(others, lr=1e-3)


@each_algorithm
@pytest.mark.parametrize("freeze", [freeze_first_layer, leave_out])
@pytest.mark.parametrize("when", ["before", "between", "in a callback"])
def test_a_frozen_layer_is_never_changed(row, backend, freeze, when):
    model = row.make(backend="auto" if backend == "compiled" else backend)
    if when == "between":
        model.learn(8)  # the optimiser has momentum then
    if when == "in a callback":
        model.learn(8, callback=lambda *_: freeze(model) or True)
    else:
        freeze(model)
    frozen, rest = (
        layer.weight.detach().clone() for layer in (first_layer(model), model.q_net.q_net[-1])
    )
    learn_again(model)
    assert th.equal(first_layer(model).weight, frozen)
    assert not th.equal(model.q_net.q_net[-1].weight, rest)


@each_algorithm
@pytest.mark.parametrize("when", ["before", "in a callback"])
def test_hooks_are_called_while_learning(row, when):
    model, calls = row.make(), []

    def hook(*_: Any) -> bool:
        if not calls:
            first_layer(model).register_forward_hook(lambda *_: calls.append(model.num_timesteps))
            calls.append(0)
        return True

    if when == "before":
        hook()
    model.learn(16, callback=hook)
    assert max(calls) > 8


@each_algorithm
def test_weights_that_are_loaded_into_the_network_alone_choose_the_actions(row, backend):
    model, other = (row.make(backend=backend, seed=seed).learn(8) for seed in (0, 1))
    obs = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    model.q_net.load_state_dict(other.q_net.state_dict())
    best = other.q_net(th.from_numpy(obs)).argmax(dim=1).numpy()
    assert np.array_equal(model.predict(obs, deterministic=True)[0], best)
    # All that a policy is, its average included, is loaded as it was.
    model.policy.load_state_dict(other.policy.state_dict())
    assert everything(model)[0] == everything(other)[0]
    greedy, theirs = (each.policy.greedy_q_net.state_dict() for each in (model, other))
    assert all(th.equal(greedy[name], theirs[name]) for name in theirs)


@each_algorithm
def test_a_network_that_is_frozen_whole_stays_as_it_is(row, backend):
    model = row.make(backend="auto" if backend == "compiled" else backend)
    model.learn(8)  # the optimiser has momentum then
    model.q_net.requires_grad_(False)
    before = weights(model)
    learn_again(model)
    assert np.array_equal(weights(model), before)


# Rules


@dataclass(frozen=True)
class OwnRule(NaiveRule):
    """A rule that nobody has written for compiled code."""


class OwnDQN(NaiveDQN):
    """An algorithm with that rule."""

    rule_class = OwnRule


def test_a_rule_that_is_not_compiled_is_learned_by_autograd(monkeypatch):
    from dqn_plugins.learning.autograd import learner

    monkeypatch.setitem(learner.RULES, OwnRule, learner.RULES[NaiveRule])
    model, twin = (
        OwnDQN("MlpPolicy", RecordingEnv(), seed=0),
        NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend="torch"),
    )
    assert np.array_equal(weights(model.learn(20)), weights(twin.learn(20)))
    with pytest.raises(ValueError, match="backend: received 'compiled', but"):
        OwnDQN("MlpPolicy", RecordingEnv(), backend="compiled")
