"""Q(λ) held against numbers worked out by hand, a slow oracle, and the forward view."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.policies import ObGD, TraceAdam
from tests.helpers import traces, weights

WITHOUT_NORMALISATION: dict[str, Any] = {
    "layer_norm": False,
    "normalize_observations": False,
    "normalize_rewards": False,
}


def zeros(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)


class SpacesOnly(gym.Env[Any, np.int64]):
    """Tells its spaces; its transitions are the test's."""

    def __init__(self, observation_space: spaces.Space[Any], n_actions: int) -> None:
        self.observation_space, self.action_space = observation_space, spaces.Discrete(n_actions)


def linear_model(space: spaces.Space[Any], n_actions: int, backend: str, **rule: Any) -> StreamQ:
    """All weights are zero. A step is α·δ·z: with a κ this small, ObGD never reaches its bound."""
    return StreamQ(
        "MlpPolicy",
        SpacesOnly(space, n_actions),
        learning_rate=0.5,
        policy_kwargs={
            "net_arch": [],
            "weight_initializer": zeros,
            "optimizer_class": ObGD,
            "optimizer_kwargs": {"overshoot_factor": 1e-9},
            **WITHOUT_NORMALISATION,
        },
        backend=backend,
        **rule,
    )


# Numbers worked out by hand
#
# States A, B, C, D, one-hot; two actions; Q(s, a) = w[s, a] + b[a], all zero at first. The gradient
# of Q(s, a) is 1 for w[s, a] and for b[a]. γ = λ = 1/2, so that traces fade by 1/4; α = 1/2.
# Where both actions are worth the same, the first one is greedy.


class Step(NamedTuple):
    state: str
    action: int
    reward: float
    next_state: str
    end: str = ""


STEPS = [
    Step("A", 0, 4, "B"),
    Step("B", 1, 2, "C"),  # exploratory: by now b[0] = 2
    Step("C", 0, 0, "D"),
    Step("D", 0, 8, "A", "terminated"),
    Step("A", 0, 1, "B", "truncated"),
    Step("C", 0, 3, "D"),
    Step("D", 1, -2, "A", "terminated"),  # exploratory, and the last of its episode
]

# For each step: δ, what is left of the trace after it, and the weights that it changes.
BY_HAND: dict[str, list[tuple[float, dict[str, float], dict[str, float]]]] = {
    "after": [
        # δ = 4 + 0/2 − 0; the step is 4/2 along A0 and b0
        (4.0, {"A0": 1, "b0": 1}, {"A0": 2, "b0": 2}),
        # δ = 2 + max(2, 0)/2 − 0; z: A0 and b0 faded to 1/4, B1 and b1 come in at 1; all get
        # credit, 3/2 times z, and then the trace ends
        (3.0, {}, {"A0": 2.375, "B1": 1.5, "b0": 2.375, "b1": 1.5}),
        # δ = 0 + 2.375/2 − 2.375
        (-1.1875, {"C0": 1, "b0": 1}, {"C0": -0.59375, "b0": 1.78125}),
        # δ = 8 − 1.78125: terminal. z: C0 1/4, D0 1, b0 5/4
        (6.21875, {}, {"C0": 0.18359375, "D0": 3.109375, "b0": 5.66796875}),
        # δ = 1 + Q(B, 0)/2 − (2.375 + 5.66796875): truncated, so B is bootstrapped from
        (-4.208984375, {}, {"A0": 0.2705078125, "b0": 3.5634765625}),
        # δ = 3 + (3.109375 + 3.5634765625)/2 − (0.18359375 + 3.5634765625); nothing of A is left
        (2.58935546875, {"C0": 1, "b0": 1}, {"C0": 1.478271484375, "b0": 4.858154296875}),
        # δ = −2 − (0 + 1.5); z: C0 1/4, D1 1, b0 1/4, b1 1
        (-3.5, {}, {"C0": 1.040771484375, "D1": -1.75, "b0": 4.420654296875, "b1": -0.25}),
    ],
    "watkins": [
        (4.0, {"A0": 1, "b0": 1}, {"A0": 2, "b0": 2}),
        # The trace ends before the exploratory action: A0 and b0 get nothing of δ = 3
        (3.0, {"B1": 1, "b1": 1}, {"B1": 1.5, "b1": 1.5}),
        # δ = 0 + 2/2 − 2; B1 and b1 take part with 1/4
        (
            -1.0,
            {"C0": 1, "B1": 0.25, "b0": 1, "b1": 0.25},
            {"C0": -0.5, "B1": 1.375, "b0": 1.5, "b1": 1.375},
        ),
        # δ = 8 − 1.5
        (6.5, {}, {"C0": 0.3125, "D0": 3.25, "B1": 1.578125, "b0": 5.5625, "b1": 1.578125}),
        # δ = 1 + 5.5625/2 − (2 + 5.5625)
        (-3.78125, {}, {"A0": 0.109375, "b0": 3.671875}),
        # δ = 3 + (3.25 + 3.671875)/2 − (0.3125 + 3.671875)
        (2.4765625, {"C0": 1, "b0": 1}, {"C0": 1.55078125, "b0": 4.91015625}),
        # δ = −2 − 1.578125, for D1 and b1 alone
        (-3.578125, {}, {"D1": -1.7890625, "b1": -0.2109375}),
    ],
    "never": [
        (4.0, {"A0": 1, "b0": 1}, {"A0": 2, "b0": 2}),
        (
            3.0,
            {"A0": 0.25, "B1": 1, "b0": 0.25, "b1": 1},
            {"A0": 2.375, "B1": 1.5, "b0": 2.375, "b1": 1.5},
        ),
        # z: A0 1/16, C0 1, B1 1/4, b0 1/16 + 1, b1 1/4
        (
            -1.1875,
            {"A0": 0.0625, "C0": 1, "B1": 0.25, "b0": 1.0625, "b1": 0.25},
            {"A0": 2.337890625, "C0": -0.59375, "B1": 1.3515625, "b0": 1.744140625}
            | {"b1": 1.3515625},
        ),
        # δ = 8 − 1.744140625; z: A0 1/64, C0 1/4, D0 1, B1 1/16, b0 1.0625/4 + 1, b1 1/16
        (
            6.255859375,
            {},
            {"A0": 2.3867645263671875, "C0": 0.188232421875, "D0": 3.1279296875}
            | {"B1": 1.54705810546875, "b0": 5.7029266357421875, "b1": 1.54705810546875},
        ),
        (-4.238227844238281, {}, {"A0": 0.2676506042480469, "b0": 3.583812713623047}),
        (
            2.5838260650634766,
            {"C0": 1, "b0": 1},
            {"C0": 1.4801454544067383, "b0": 4.875725746154785},
        ),
        (
            -3.54705810546875,
            {},
            {"C0": 1.0367631912231445, "D1": -1.773529052734375}
            | {"b0": 4.432343482971191, "b1": -0.226470947265625},
        ),
    ],
}

NAMES = [f"{state}{action}" for action in range(2) for state in "ABCD"] + ["b0", "b1"]


def as_vector(numbers: dict[str, float]) -> list[float]:
    assert numbers.keys() <= set(NAMES)
    return [numbers.get(name, 0.0) for name in NAMES]


@pytest.mark.parametrize("trace_cut", ["after", "watkins", "never"])
@pytest.mark.parametrize(
    ("backend", "observed"), [("torch", "number"), ("torch", "vector"), ("compiled", "vector")]
)
def test_tabular_q_lambda_is_that_worked_out_by_hand(backend, observed, trace_cut):
    space = spaces.Discrete(4) if observed == "number" else spaces.Box(0.0, 1.0, (4,), np.float32)
    model = linear_model(space, 2, backend, gamma=0.5, trace_decay=0.5, trace_cut=trace_cut)
    obs = dict(zip("ABCD", range(4) if observed == "number" else np.eye(4), strict=True))
    all_weights: dict[str, float] = {}
    for step, (td_error, trace, changed) in zip(STEPS, BY_HAND[trace_cut], strict=True):
        # Everything until the 7th step is a dyadic fraction that float32 holds exactly or nearly.
        ends = step.end == "terminated", step.end == "truncated"
        received = model.learn_one(
            obs[step.state], step.action, step.reward, obs[step.next_state], *ends
        )
        assert received == pytest.approx(td_error, rel=1e-6)
        assert traces(model)[0].tolist() == as_vector(trace)
        all_weights |= changed
        assert weights(model) == pytest.approx(as_vector(all_weights), rel=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "target", "action", "terminated", "expected"),
    [
        # δ = 3 + 4/4 − 1 − (4 − 1)/2
        (NaiveDQN, "max", 1, False, 1.5),
        (StreamQ, "max", 1, False, 1.5),
        # the best action has no gap
        (StreamQ, "max", 0, False, 0.0),
        # a terminal state is worth nothing; the one before it is worth what it was
        (StreamQ, "max", 1, True, 0.5),
        # V = (4 + 2.5)/2 before and after: δ = 3 + 3.25/4 − 1 − (3.25 − 1)/2
        (StreamQ, "expected", 1, False, 1.6875),
        # and of the best action δ = 3 + 3.25/4 − 4 − (3.25 − 4)/2
        (StreamQ, "expected", 0, False, 0.1875),
    ],
)
def test_the_advantage_gap_is_that_worked_out_by_hand(
    backend, algorithm, target, action, terminated, expected
):
    policy_kwargs: dict[str, Any] = {"net_arch": []}
    if algorithm is StreamQ:
        policy_kwargs |= WITHOUT_NORMALISATION
    model = algorithm(
        "MlpPolicy",
        SpacesOnly(spaces.Box(0.0, 1.0, (4,), np.float32), n_actions=2),
        gamma=0.25,
        advantage_gap=0.5,
        policy_kwargs=policy_kwargs,
        backend=backend,
        **({"target": target} if algorithm is StreamQ else {}),
    )
    with th.no_grad():
        model.q_net.q_net[-1].weight.zero_()
        model.q_net.q_net[-1].bias.copy_(th.tensor([4.0, 1.0]))
    obs = np.eye(4, dtype=np.float32)
    model.act(obs[0], exploration_rate=0.5)
    received = model.learn_one(obs[0], action, 3.0, obs[1], terminated)
    assert received == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_credit_flows_back_by_gamma_lambda_per_step(backend, end, n_steps):
    # A reward at the end of a corridor of greedy steps, all values zero: w[s] ← (γλ)^k·α·r.
    space = spaces.Box(0.0, 1.0, (8,), np.float32)
    model = linear_model(space, 1, backend, gamma=0.9, trace_decay=0.6)
    states = np.eye(8, dtype=np.float32)
    for k in range(n_steps):
        last = k == n_steps - 1
        ends = last and end == "terminated", last and end == "truncated"
        model.learn_one(states[k], 0, float(last), states[k + 1], *ends)
    expected = [0.5 * 0.54 ** (n_steps - 1 - k) for k in range(n_steps)] + [0.0] * (8 - n_steps)
    assert weights(model)[:8] == pytest.approx(expected, rel=1e-6)
    assert not traces(model).any()


# The forward view: with weights that stand still, the updates of an episode sum up to
# Σ (G − Q(s, a))·∇Q(s, a), G being the λ-return, which looks ahead instead of back.


class Episode(NamedTuple):
    obs: list[np.ndarray]
    """One more than actions."""
    actions: list[int]
    rewards: list[float]
    terminated: bool


def frozen_model(trace_cut: str, backend: str) -> StreamQ:
    # With β1 = 0 Adam's first moment is −δ·z of the last step, which tells what the update was
    # along even where the trace is cleared after it; with a learning rate of 0 nothing moves.
    return StreamQ(
        "MlpPolicy",
        SpacesOnly(spaces.Box(-np.inf, np.inf, (3,), np.float32), n_actions=3),
        learning_rate=0.0,
        gamma=0.9,
        trace_decay=0.8,
        trace_cut=trace_cut,
        policy_kwargs={
            "net_arch": [6],
            "activation_fn": nn.Tanh,
            "weight_initializer": None,
            "optimizer_class": TraceAdam,
            "optimizer_kwargs": {"betas": (0.0, 0.9)},
            **WITHOUT_NORMALISATION,
        },
        seed=2,
        backend=backend,
    )


def play(model: StreamQ, length: int, terminated: bool) -> Episode:
    rng = np.random.default_rng(length)
    obs = [rng.normal(size=3).astype(np.float32) for _ in range(length + 1)]
    actions = [int(a) for a in model.predict(np.array(obs[:-1]), deterministic=True)[0]]
    actions = [a if rng.random() < 0.6 else (a + 1) % 3 for a in actions]
    return Episode(obs, actions, rng.normal(size=length).tolist(), terminated)


def backward_view(model: StreamQ, episode: Episode) -> np.ndarray:
    total, length = np.zeros(len(weights(model))), len(episode.actions)
    for t in range(length):
        last = t == length - 1
        ends = last and episode.terminated, last and not episode.terminated
        obs, next_obs = episode.obs[t : t + 2]
        model.learn_one(obs, episode.actions[t], episode.rewards[t], next_obs, *ends)
        state = model.policy.optimizer.state
        moments = [state[param]["exp_avg"] for param in model.q_net.parameters()]
        total -= np.concatenate([moment.numpy().ravel() for moment in moments])
    return total


def forward_view(model: StreamQ, episode: Episode, lambda_returns: list[float]) -> np.ndarray:
    total = np.zeros(len(weights(model)))
    for obs, action, goal in zip(episode.obs, episode.actions, lambda_returns, strict=False):
        value = model.q_net(th.as_tensor(obs[None]))[0, action]
        gradient = th.autograd.grad(value, list(model.q_net.parameters()))
        total += (goal - value.item()) * np.concatenate([g.numpy().ravel() for g in gradient])
    return total


def values_of(model: StreamQ, episode: Episode) -> tuple[np.ndarray, np.ndarray]:
    """Q(s, ·) of every step, and max Q of every state including the last."""
    with th.no_grad():
        q = model.q_net(th.as_tensor(np.array(episode.obs))).numpy().astype(np.float64)
    best = q.max(axis=1)
    if episode.terminated:
        best[-1] = 0.0
    return q, best


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("trace_cut", ["after", "watkins", "never"])
def test_the_updates_sum_up_to_the_recursive_return_with_exploration(
    backend, trace_cut, terminated
):
    # G(t) = r + γ·max Q(s′) + γλ·c·(G(t+1) − Q(s′, a′)), c telling whether credit passes.
    model = frozen_model(trace_cut, backend)
    before = weights(model)
    for length in (1, 2, 9, 20):
        episode = play(model, length, terminated)
        q, best = values_of(model, episode)
        greedy = [a == q[t].argmax() for t, a in enumerate(episode.actions)]
        lambda_returns = [0.0] * length
        for t in reversed(range(length)):
            goal = episode.rewards[t] + model.gamma * best[t + 1]
            passes = {
                "after": greedy[t],
                "watkins": t + 1 < length and greedy[t + 1],
                "never": True,
            }
            if t + 1 < length and passes[trace_cut]:
                surprise = lambda_returns[t + 1] - q[t + 1, episode.actions[t + 1]]
                goal += model.gamma * model.trace_decay * surprise
            lambda_returns[t] = goal
        expected = forward_view(model, episode, lambda_returns)
        assert np.linalg.norm(expected) > 0.1
        # float32 sums of up to 20 terms
        assert backward_view(model, episode) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert np.array_equal(weights(model), before)
