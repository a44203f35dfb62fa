"""Q(λ) and the advantage gap held against numbers worked out by hand."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.policies import ObGD
from tests.environments import SpacesEnv
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


def linear_model(space: spaces.Space[Any], n_actions: int, backend: str, **rule: Any) -> StreamQ:
    """All weights are zero. A step is α·δ·z: with a κ this small, ObGD never reaches its bound."""
    return StreamQ(
        "MlpPolicy",
        SpacesEnv(space, n_actions),
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
        SpacesEnv(spaces.Box(0.0, 1.0, (4,), np.float32), 2),
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
