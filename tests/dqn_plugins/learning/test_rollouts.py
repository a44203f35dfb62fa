"""What is learned from a rollout, against plain torch, and compiled code against that."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn
from torch.nn import functional as F

from dqn_plugins import PQN, DivergenceError
from dqn_plugins.learning import Rollout, Transition, lambda_returns
from tests.environments import RecordingEnv, SampledEnv, ScriptedEnv
from tests.helpers import everything, optimizer_numbers, through_a_file, weights

NETWORKS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "layer normalisation without weights": {"layer_norm_affine": False},
    "no layer normalisation": {"layer_norm": False},
    "leaky": {"net_arch": [7], "activation_fn": nn.LeakyReLU},
    "linear": {"net_arch": []},
    "SiLU": {"net_arch": [7, 5], "activation_fn": nn.SiLU},
    "Tanh": {"net_arch": [4], "activation_fn": nn.Tanh, "layer_norm": False},
    "Adam": {"net_arch": [5, 6], "optimizer_class": th.optim.Adam},
    "RAdam with weight decay": {"net_arch": [5], "optimizer_kwargs": {"weight_decay": 0.1}},
}


def new_model(backend: str, env: Any, **kwargs: Any) -> PQN:
    defaults: dict[str, Any] = {"n_steps": 8, "batch_size": 5, "n_epochs": 3, "seed": 0}
    return PQN("MlpPolicy", env, **{**defaults, "learning_rate": 0.01, **kwargs}, backend=backend)


class PlainTorch:
    """
    PQN as a script would have it: one network, torch's optimiser, a loop over rollouts. It learns
    from what the environments of a model played.
    """

    def __init__(self, model: PQN, policy_kwargs: dict[str, Any]) -> None:
        self.model = model
        network = new_model("torch", model.get_env(), policy_kwargs=policy_kwargs).q_net
        network.load_state_dict(model.q_net.state_dict())
        self.network = network.q_net
        kind = policy_kwargs.get("optimizer_class", th.optim.RAdam)
        arguments = policy_kwargs.get("optimizer_kwargs", {})
        self.optimizer = kind(self.network.parameters(), lr=0.01, **arguments)

    def learn(self, rollout: Rollout, rng: np.random.Generator) -> None:
        model = self.model
        valid = rollout.array("valid")
        next_values = th.zeros(valid.shape)
        with th.no_grad():
            for t, env in np.ndindex(valid.shape):
                obs = rollout.obs[""][t + 1, env]
                for at, which, last in rollout.last_obs:
                    if (at, which) == (t, env):
                        obs = th.from_numpy(last[""])
                next_values[t, env] = self.network(obs.flatten().float()).max()
        flags = (rollout.tensor(name) for name in ("terminated", "dones"))
        rewards = rollout.tensor("rewards")
        targets = lambda_returns(rewards, next_values, *flags, model.gamma, model.q_lambda)
        rows = np.flatnonzero(valid)
        n_batches = max(1, round(len(rows) / model.batch_size))
        for _ in range(model.n_epochs):
            for batch in np.array_split(rng.permutation(rows), n_batches):
                steps, envs = np.divmod(batch, valid.shape[1])
                obs = rollout.obs[""][steps, envs].flatten(1).float()
                actions = rollout.tensor("actions")[steps, envs]
                values = self.network(obs)[range(len(batch)), actions]
                self.optimizer.zero_grad()
                F.mse_loss(values, targets[steps, envs]).backward()
                assert model.max_grad_norm is not None
                nn.utils.clip_grad_norm_(self.network.parameters(), model.max_grad_norm)
                self.optimizer.step()

    def weights(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy().ravel() for p in self.network.parameters()])


@pytest.mark.parametrize("autoreset", ["same step", "next step"])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_rollout_is_learned_from_as_plain_torch_does(backend, network, autoreset, monkeypatch):
    env: Any = DummyVecEnv([RecordingEnv] * 3)
    if autoreset == "next step":
        env = gym.vector.SyncVectorEnv([RecordingEnv] * 3)
    # A norm that some gradients exceed and some do not
    model = new_model(backend, env, policy_kwargs=NETWORKS[network], max_grad_norm=1.0)
    plain = PlainTorch(model, NETWORKS[network])
    learn, compared = model._learner._learn_from_rollout, []

    def both() -> np.ndarray:
        rollout, rng = model._rollout, pickle.loads(pickle.dumps(model._learner.rng))
        plain.learn(rollout, rng)
        errors = learn()
        assert len(errors) == rollout.array("valid").sum()
        assert rollout.last_obs, "no episode was cut short"
        compared.append(np.abs(weights(model) - plain.weights()).max())
        theirs = optimizer_numbers(plain)
        for one, other in zip(optimizer_numbers(model), theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
        return errors

    monkeypatch.setattr(model._learner, "_learn_from_rollout", both)
    model.learn(3 * 8 * 8)
    assert len(compared) >= 8
    assert max(compared) < 2e-5
    assert np.abs(plain.weights()).max() > 0.3


def test_the_backends_learn_the_same():
    """Also from rollouts and minibatches that are longer than what is computed at once."""
    kwargs = {"n_steps": 350, "batch_size": 525, "policy_kwargs": {"net_arch": [5, 4]}}
    one, other = (
        new_model(name, DummyVecEnv([RecordingEnv] * 3), **kwargs).learn(2_100)
        for name in ("torch", "compiled")
    )
    np.testing.assert_allclose(weights(one), weights(other), atol=2e-5)
    assert one._n_updates == other._n_updates == 2 * 3 * 2
    obs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        one._learner.greedy_actions(obs), other._learner.greedy_actions(obs)
    )


@pytest.mark.parametrize("optimizer", [th.optim.RAdam, th.optim.Adam])
@pytest.mark.parametrize("reward", [1e30, 3e38])
def test_what_overflows_leaves_all_as_it_was(backend, optimizer, reward):
    episodes = [([0.0] * 37 + [reward], "terminated")]
    model = new_model(
        backend,
        DummyVecEnv(
            [lambda: ScriptedEnv([([0.0] * 50, "truncated")]), lambda: ScriptedEnv(episodes)]
        ),
        policy_kwargs={"optimizer_class": optimizer, "optimizer_kwargs": {}},
    )
    model.learn(4 * 16)
    before = everything(model)
    with pytest.raises(DivergenceError, match="environment 1 at step 80") as caught:
        model.learn(1_000, reset_num_timesteps=False)
    assert caught.value.env_index == 1
    assert everything(model) == before
    model.set_env(DummyVecEnv([lambda: ScriptedEnv([([0.0] * 50, "truncated")])] * 2))
    model.learn(200)
    assert np.isfinite(weights(model)).all()


class Overflowing(SampledEnv):
    """Images, and once a reward that overflows."""

    total = 0

    def step(self, action: Any) -> Any:
        self.total += 1
        obs, reward, *rest = super().step(action)
        return obs, 3e38 if self.total == 20 else reward, *rest


def test_convolutions_learn_after_an_overflow_as_if_there_had_been_none(backend):
    def image() -> spaces.Box:  # which draws its numbers
        return spaces.Box(0.0, 100.0, (4, 4, 1))

    model = PQN(
        *("CnnPolicy", Overflowing(image()), 1e-3, 8, 4, 1),
        policy_kwargs={"net_arch": [4], "layer_norm": False},
        seed=0,
        backend=backend,
    )
    with pytest.raises(DivergenceError, match="at step 24"):
        model.learn(64)
    twin = through_a_file(model, env=SampledEnv(image()))
    model.set_env(SampledEnv(image()))
    for each in (model, twin):
        each.set_random_seed(7)
        each.learn(32)
    assert everything(model) == everything(twin)


@pytest.mark.parametrize("optimizer_kwargs", [{}, {"weight_decay": 0.1}])
def test_a_gradient_that_overflows_in_the_second_pass_undoes_the_first(
    backend, optimizer_kwargs, monkeypatch
):
    model = new_model(
        backend,
        DummyVecEnv([RecordingEnv] * 2),
        policy_kwargs={"optimizer_kwargs": optimizer_kwargs},
    )
    model.learn(64)
    before, passes = everything(model), []
    fit = model._learner.fit

    def overflows_later(*arguments: Any) -> bool:
        passes.append(fit(*arguments))
        return len(passes) < 2

    monkeypatch.setattr(model._learner, "fit", overflows_later)
    with pytest.raises(DivergenceError):
        model.learn(64, reset_num_timesteps=False)
    assert passes == [True, True]
    assert everything(model) == before


def test_a_rollout_of_dictionaries_and_a_part_of_it():
    """Two groups take turns, and a pickled rollout goes on where it was."""
    rollout = Rollout(2, 3, th.device("cpu"))

    def add(into: Rollout, number: float, first: int, n: int) -> None:
        obs = {"a": np.full((n, 2), number, np.float32), "b": np.full(n, number, np.uint8)}
        new_obs = {key: value + 1 for key, value in obs.items()}
        flags = np.zeros(n, np.bool_)
        actions, rewards = np.full(n, 1), np.full(n, number, np.float32)
        into.add(
            Transition(obs, actions, rewards, new_obs, flags, flags, new_obs, ~flags, None, first)
        )

    assert rollout.is_empty
    add(rollout, 1, 0, 2)
    add(rollout, 2, 2, 1)
    add(rollout, 3, 0, 2)
    assert not rollout.is_full
    copy = pickle.loads(pickle.dumps(rollout))
    for each in (rollout, copy):
        add(each, 4, 2, 1)
        assert each.is_full
        assert each.obs["a"][:, :, 1].tolist() == [[1, 1, 2], [3, 3, 4], [4, 4, 5]]
        assert each.obs["b"].dtype == th.uint8  # images stay bytes
        assert each.obs["b"].tolist() == [[1, 1, 2], [3, 3, 4], [4, 4, 5]]
        assert each.array("rewards").tolist() == [[1, 1, 2], [3, 3, 4]]
    rollout.clear()
    assert rollout.is_empty
    assert len(pickle.dumps(rollout)) < 500


@pytest.mark.parametrize("backend", ["torch", "compiled"])
def test_returns_of_a_rollout_are_over_what_is_possible(backend):
    """Worked out by hand: Q(s, a) = s · (1, 3, 2)[a], γ = λ = 0.5, one environment."""
    model = new_model(
        backend,
        RecordingEnv(n_features=1),
        n_steps=4,
        gamma=0.5,
        q_lambda=0.5,
        policy_kwargs={"net_arch": [], "layer_norm": False},
    )
    with th.no_grad():
        for param in model.q_net.parameters():
            param.copy_(th.tensor([1.0, 3.0, 2.0]).view(param.shape) * (param.ndim == 2))
    learner, rewards = model._learner, np.array([[1.0], [0.0], [2.0], [0.0]], np.float32)
    masks = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], bool)
    last_mask, yes, no = np.array([[1, 0, 0]], bool), np.array([True]), np.array([False])
    for t in range(4):
        # After the second step a time limit: its last observation is 10, and an episode begins.
        cut = t == 1
        obs, new_obs = (np.array([[n + 1.0]], np.float32) for n in (t, t + 1))
        next_obs = np.array([[10.0]], np.float32) if cut else new_obs
        next_masks = last_mask if cut else masks[t + 1 : t + 2]
        flags = no, yes if cut else no
        transition = Transition(
            *(obs, np.array([int(t == 3)]), rewards[t], next_obs, *flags, new_obs, yes),
            begun=yes if cut else None,
            action_masks=masks[t : t + 1],
            next_action_masks=next_masks,
            new_action_masks=masks[t + 1 : t + 2],
        )
        td_errors = learner.learn(transition)
    # Values of what the steps led to: 2 · 2, 10 · 1, 4 · 3, 5 · 2.
    last = 0 + 0.5 * 10
    third = 2 + 0.5 * (0.5 * 12 + 0.5 * last)
    second = 0 + 0.5 * 10
    first = 1 + 0.5 * (0.5 * 4 + 0.5 * second)
    values = np.array([1 * 1, 2 * 1, 3 * 1, 4 * 3])
    np.testing.assert_allclose(td_errors, [first, second, third, last] - values, rtol=1e-6)


def test_a_rollout_larger_than_memory_is_refused(monkeypatch):
    class Memory:
        available = 8 * 2 * 3 * 4 - 1

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    model = new_model("torch", DummyVecEnv([RecordingEnv] * 2))
    with pytest.raises(ValueError, match="n_steps: received 8 with 2 environments"):
        model.learn(10)


def test_a_rollout_is_the_same_without_views_of_its_memory(monkeypatch):
    """As on a device whose memory NumPy cannot see."""
    learned = []
    for sees in (True, False):
        if not sees:
            monkeypatch.setattr(Rollout, "_find_views", lambda self: setattr(self, "_views", None))
        model = new_model("torch", DummyVecEnv([RecordingEnv] * 2)).learn(100)
        learned.append(weights(model))
    np.testing.assert_array_equal(*learned)
