"""The compiled learners compute what the ones in torch compute, in memory that torch sees too."""

import functools
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from dqn_plugins import PQN, DivergenceError, NaiveDQN, NonFiniteTransitionError, StreamQ
from dqn_plugins.environments import true_next_observation
from dqn_plugins.learning import NaiveRule, Transition
from dqn_plugins.learning.compiled import memory
from dqn_plugins.learning.compiled.support import (
    is_faster_in_torch,
    reason_against_compiling,
    reason_against_optimizer,
)
from dqn_plugins.policies import KerasAdam
from tests.algorithms import each_algorithm, each_optimizer
from tests.environments import RecordingEnv
from tests.helpers import optimizer_numbers, weights

Model = NaiveDQN | StreamQ


def cart_pole() -> gym.Env[Any, Any]:
    # So short a time limit ends about half of a random policy's episodes.
    return gym.make("CartPole-v1", max_episode_steps=20)


@functools.cache
def played(n_envs: int) -> tuple[Transition, ...]:
    """1,000 steps of real environments under random actions."""
    env = DummyVecEnv([cart_pole] * n_envs)
    env.seed(0)
    rng, obs, batches = np.random.default_rng(0), env.reset(), []
    for _ in range(1_000):
        actions = rng.integers(2, size=n_envs)
        new_obs, rewards, dones, infos = env.step(actions)
        next_obs, terminated = true_next_observation(new_obs, dones, infos)
        everywhere = np.ones(n_envs, np.bool_)
        begun = dones if dones.any() else None
        step = obs, actions, rewards, next_obs, terminated, dones, new_obs, everywhere, begun
        batches.append(Transition(*step))
        obs = new_obs
    assert 10 < sum(batch.terminated.sum() for batch in batches) / n_envs < 100
    assert 10 < sum((batch.dones & ~batch.terminated).sum() for batch in batches) / n_envs < 100
    return tuple(batches)


def learn_batches(model: Model, batches: tuple[Transition, ...]) -> tuple[Any, Any]:
    """All TD errors, and all greedy actions of the observations to act on next."""
    learner = model._learner
    learner.start_episodes(batches[0].obs)
    results = [
        (learner.learn(batch).copy(), learner.greedy_actions(batch.new_obs)) for batch in batches
    ]
    td_errors, greedy_actions = zip(*results, strict=True)
    return np.array(td_errors), np.array(greedy_actions)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def assert_close(one: np.ndarray, other: np.ndarray, tolerance: float) -> None:
    """Close as a whole: relative to the length of the vector, which may be zero for both."""
    assert one.shape == other.shape
    assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)


# Equal to autograd, after hundreds of updates; after each of a few in tests/properties


def twins(algorithm: Any, n_envs: int, **kwargs: Any) -> list[Model]:
    """Twins that learn from as many CartPoles, in torch and in compiled code."""
    return [
        algorithm(
            "MlpPolicy",
            DummyVecEnv([cart_pole] * n_envs),
            seed=0,
            backend=backend,
            **{"update": "mean" if n_envs == 3 else "each", **kwargs},
        )
        for backend in ("torch", "compiled")
    ]


def assert_learn_the_same(models: list[Model], batches: tuple[Transition, ...]) -> None:
    initial = weights(models[0])
    assert np.array_equal(initial, weights(models[1]))
    (torch_errors, torch_actions), (errors, actions) = (
        learn_batches(model, batches) for model in models
    )
    assert relative_difference(initial, weights(models[0])) > 0.01
    assert relative_difference(weights(models[1]), weights(models[0])) < 1e-5
    assert relative_difference(errors, torch_errors) < 1e-5
    assert np.array_equal(actions, torch_actions)
    for one, other in zip(*map(optimizer_numbers, models), strict=True):
        # The moments remember single gradients, the weights the sum of a thousand.
        assert_close(one, other, 1e-4)


@pytest.mark.numerics
@pytest.mark.parametrize(
    ("activation_fn", "layer_norm", "optimizer", "bootstraps", "n_envs", "net_arch", "max_norm"),
    [
        (nn.ReLU, True, KerasAdam, True, 1, [], 0.05),
        (nn.ReLU, True, th.optim.SGD, False, 3, [32, 32, 32], 0.05),
        (nn.ReLU, True, th.optim.Adam, False, 16, [16, 8], None),
        (nn.LeakyReLU, False, th.optim.Adam, True, 1, [32, 32, 32], None),
        (nn.LeakyReLU, True, th.optim.RMSprop, True, 3, [5], 0.05),
        (nn.Tanh, False, KerasAdam, False, 3, [5], None),
        (nn.Tanh, True, th.optim.SGD, True, 1, [16, 8], 0.05),
        (nn.SiLU, False, th.optim.RAdam, False, 1, [16, 8], None),
    ],
)
def test_naive_dqn_compiled_equals_autograd_after_1000_updates(
    activation_fn, layer_norm, optimizer, bootstraps, n_envs, net_arch, max_norm
):
    models = twins(
        NaiveDQN,
        n_envs,
        learning_rate={th.optim.SGD: 1e-2, th.optim.RMSprop: 3e-4}.get(optimizer, 1e-3),
        q_step_size=0.5,
        bootstrap_at_terminal=bootstraps,
        max_grad_norm=max_norm,
        policy_kwargs={
            "net_arch": net_arch,
            "activation_fn": activation_fn,
            "layer_norm": layer_norm,
            "optimizer_class": optimizer,
            # Large enough for it to matter where it is added
            "optimizer_kwargs": {} if optimizer is th.optim.SGD else {"eps": 1e-3},
        },
    )
    n_batches = 60 if n_envs == 16 else 1_000  # with 16 updates each
    assert_learn_the_same(models, played(n_envs)[:n_batches])


# What changes meanwhile


@each_algorithm
def test_numbers_that_a_callback_changes_are_in_force_at_the_next_step(row):
    def change(seen: dict[str, Any], _: Any) -> bool:
        model = seen["self"]
        if model.num_timesteps == 12:
            model.gamma = 0.5
            model.policy.optimizer.param_groups[0]["eps"] = 0.1
        return True

    models = [row.make(backend=each).learn(32, callback=change) for each in ("torch", "compiled")]
    unchanged = row.make(backend="compiled").learn(32)
    assert_close(weights(models[1]), weights(models[0]), 1e-4)
    assert not np.allclose(weights(models[1]), weights(unchanged), rtol=1e-3)


@each_optimizer
def test_an_optimiser_setting_that_the_user_changes_is_in_force_at_once(row, optimizer):
    settings = {"lr": 0.1, "betas": (0.5, 0.6), "beta2": 0.6, "eps": 0.2, "overshoot_factor": 9.0}
    kwargs = {
        "learning_rate": row.optimizers[optimizer],  # no schedule, which would set it anew
        "policy_kwargs": {"optimizer_class": optimizer},
    }
    learned: dict[str, list[np.ndarray]] = {}
    for backend in ("torch", "compiled"):
        for name in ("", *settings):
            model = row.make(backend=backend, **kwargs).learn(20)
            group = model.policy.optimizer.param_groups[0]
            if name not in {"", *group}:
                continue
            group |= {name: settings[name]} if name else {}
            model.learn(8, reset_num_timesteps=False)
            learned.setdefault(name, []).append(weights(model))
    for name, (in_torch, compiled) in learned.items():
        assert_close(compiled, in_torch, 1e-5)
        assert (name == "") == np.array_equal(in_torch, learned[""][0])


def test_a_rate_that_falls_at_every_step_is_no_reason_to_look_at_every_weight(monkeypatch):
    looks = []

    def look(policy: Any) -> str | None:
        looks.append(policy)
        return reason(policy)

    reason = memory.reason_against_optimizer
    monkeypatch.setattr(memory, "reason_against_optimizer", look)
    model = StreamQ("MlpPolicy", RecordingEnv(), seed=0)
    model.learn(50, callback=lambda *_: True)
    assert model.policy.optimizer.param_groups[0]["lr"] < 2e-4  # it has fallen from 1e-3
    assert len(looks) < 10


def _in_two_groups(policy: Any) -> None:
    first, *others = policy.q_net.parameters()
    policy.optimizer = th.optim.SGD([{"params": [first]}, {"params": others}], lr=0.1)


def _with_rate_in_a_tensor(policy: Any) -> None:
    policy.optimizer.param_groups[0]["lr"] = th.tensor(1e-3)


def _frozen(policy: Any) -> None:
    next(policy.q_net.parameters()).requires_grad = False


def _hooked(policy: Any) -> None:
    policy.q_net.q_net[0].register_forward_hook(lambda *_: None)


def _decaying(policy: Any) -> None:
    policy.optimizer.param_groups[0]["weight_decay"] = 0.1


@pytest.mark.parametrize("change", [_decaying, _in_two_groups])
def test_an_option_that_is_turned_on_and_not_compiled_is_in_force(change):
    learned = []
    for backend in ("torch", "compiled"):
        model = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0, backend=backend).learn(10)
        change(model.policy)
        learned.append(weights(model.learn(20)))
    assert_close(*learned, 1e-5)


class Momentum(th.optim.SGD):
    """An optimiser that nothing is known of."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, lr, momentum=0.9)


@pytest.mark.parametrize("update", ["each", "mean"])
@pytest.mark.parametrize(
    ("optimizer", "arguments"),
    [
        (th.optim.Adagrad, {}),
        (Momentum, {}),
        (th.optim.Adam, {"weight_decay": 0.1}),
        (th.optim.Adam, {"amsgrad": True}),
        (th.optim.SGD, {"momentum": 0.9}),
    ],
)
def test_torch_takes_the_steps_that_are_not_compiled(optimizer, arguments, update):
    models = twins(
        NaiveDQN,
        3,
        policy_kwargs={"optimizer_class": optimizer, "optimizer_kwargs": arguments},
        update=update,
        max_grad_norm=0.5,
    )
    assert_learn_the_same(models, played(3)[:200])


def test_what_diverges_is_refused_where_torch_takes_the_steps():
    model = NaiveDQN(
        "MlpPolicy",
        DummyVecEnv([RecordingEnv] * 2),
        policy_kwargs={"optimizer_class": th.optim.Adagrad},
        backend="compiled",
    ).learn(10)
    before = weights(model), *optimizer_numbers(model)
    obs, no, yes = np.ones((2, 3), np.float32), np.zeros(2, np.bool_), np.ones(2, np.bool_)
    for rewards, error in (
        ([1.0, np.nan], NonFiniteTransitionError),
        ([1e38, 0.0], DivergenceError),
    ):
        transition = Transition(
            obs, np.zeros(2, int), np.array(rewards, np.float32), obs, no, no, obs, yes
        )
        with pytest.raises(error):
            model._learner.learn(transition)
        after = weights(model), *optimizer_numbers(model)
        assert all(map(np.array_equal, before, after))


# Where it applies


class LinearOfItsOwn(nn.Linear):
    """Might compute something else than ``nn.Linear`` does."""


class ConvolutionOfItsOwn(nn.Conv2d):
    """Likewise."""


NAIVE = NaiveRule(0.9, 0.1, False, None, "each")


@pytest.mark.parametrize(
    ("change", "reason"),
    [(_in_two_groups, "in one group"), (_with_rate_in_a_tensor, "learning rate is a tensor")],
)
def test_what_compiled_code_cannot_step_with_is_told(change, reason):
    policy = NaiveDQN("MlpPolicy", RecordingEnv(), seed=0).policy
    assert reason_against_optimizer(policy) is None
    change(policy)
    assert reason in (reason_against_optimizer(policy) or "")
    assert reason_against_compiling(policy, NAIVE) is None


LAYER_NORM = nn.LayerNorm(4, bias=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_frozen, "some weights are frozen"),
        (_hooked, "a module has hooks"),
        ([nn.Linear(3, 2), nn.ReLU()], "does not end with a linear layer"),
        ([nn.Linear(3, 4), LAYER_NORM, nn.ReLU(), nn.Linear(4, 2)], "a scale without a shift"),
        ([nn.Dropout(0.5), nn.Linear(3, 2)], "a layer Dropout, it must be Linear"),
        ([nn.Linear(3, 2, bias=False)], "has no bias"),
        ([LinearOfItsOwn(3, 2)], "a layer LinearOfItsOwn, it must be Linear"),
        ([nn.Conv2d(3, 2, 2, dilation=2)], "dilated"),
        ([nn.Conv2d(3, 3, 2, groups=3)], "in groups"),
        ([nn.Conv2d(3, 2, 2, padding=1, padding_mode="circular")], "padded by other than 0"),
        ([nn.Conv2d(3, 2, 2, bias=False)], "a convolution has no bias"),
        ([ConvolutionOfItsOwn(3, 2, 2)], "a layer ConvolutionOfItsOwn"),
        ([nn.Conv2d(3, 2, 2), nn.LayerNorm(4, elementwise_affine=False)], "of a part of an image"),
    ],
)
def test_what_compiled_code_cannot_compute_is_told(change, reason):
    of_images = not callable(change) and isinstance(change[0], nn.Conv2d)
    env = FakeImageEnv(2, 5, 5, 3) if of_images else RecordingEnv()
    policy = NaiveDQN("CnnPolicy" if of_images else "MlpPolicy", env, seed=0).policy
    assert reason_against_compiling(policy, NAIVE) is None
    if of_images:
        policy.q_net.features_extractor.layers = nn.Sequential(*change, nn.Flatten())
    elif callable(change):
        change(policy)
    else:
        policy.q_net.q_net = nn.Sequential(*change)
    assert reason in (reason_against_compiling(policy, NAIVE) or "")


@pytest.mark.parametrize(
    ("algorithm", "filters", "is_faster"),
    [(NaiveDQN, 80, False), (NaiveDQN, 2_000, True), (PQN, 80, False), (PQN, 100, True)],
)
def test_auto_leaves_to_torch_what_torch_computes_faster(algorithm, filters, is_faster):
    convolutions = [(1, 3), (filters, 9)]
    model = algorithm(
        "CnnPolicy",
        FakeImageEnv(2, 22, 22, 1),
        policy_kwargs={"features_extractor_kwargs": {"convolutions": convolutions}, "net_arch": []},
    )
    # 400 places for 9 weights, and 144 places for 81 weights of every filter
    products, most = 3_600 + 11_664 * filters, 1e6 if algorithm is PQN else 2e7
    assert is_faster_in_torch(model.policy, model._make_rule()) is is_faster is (products > most)
    assert model._is_compiled() is not is_faster
