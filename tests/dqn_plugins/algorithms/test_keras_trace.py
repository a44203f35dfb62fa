"""The notebook's own update, run in Keras, against ours: weight for weight."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from dqn_plugins import NOTEBOOK_HYPERPARAMETERS, NaiveDQN
from dqn_plugins.policies import KerasAdam
from tests.environments import SpacesEnv, Transition
from tests.helpers import weights

pytestmark = pytest.mark.numerics

SNAPSHOTS = (1, 2, 5, 10, 50, 100, 500, 1000, 2000)
GOOD = 1e-3
LUNAR_LANDER = SpacesEnv(spaces.Box(-np.inf, np.inf, (8,), np.float32), 4)


@pytest.fixture(scope="module")
def trace() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[2] / "data" / "keras_trace.npz") as file:
        return dict(file)


def keras_weights(trace: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    # Keras keeps kernels as (in, out), torch as (out, in).
    return np.concatenate([trace[f"{prefix}_{i}"].T.ravel() for i in range(6)])


def model_at_the_start(trace: dict[str, np.ndarray], **kwargs: Any) -> NaiveDQN:
    model = NaiveDQN("MlpPolicy", LUNAR_LANDER, **{**NOTEBOOK_HYPERPARAMETERS, **kwargs})
    model.policy.load_from_vector(keras_weights(trace, "init"))
    return model


def transitions(trace: dict[str, np.ndarray], n: int) -> list[Transition]:
    names = ("obs", "action", "reward", "next_obs", "terminated")
    return [
        Transition(obs, int(action), float(reward), next_obs, bool(terminated))
        for obs, action, reward, next_obs, terminated in zip(
            *(trace[name][:n] for name in names), strict=True
        )
    ]


def relative_errors(model: NaiveDQN, trace: dict[str, np.ndarray], last: int) -> dict[int, float]:
    """‖w − w_keras‖ / ‖w_keras − w_init‖ at every snapshot up to the last."""
    initial = keras_weights(trace, "init")
    errors = {}
    for done, transition in enumerate(transitions(trace, last), start=1):
        model.learn_one(*transition)
        if done in SNAPSHOTS:
            goal = keras_weights(trace, f"after_{done}")
            errors[done] = float(
                np.linalg.norm(weights(model) - goal) / np.linalg.norm(goal - initial)
            )
    return errors


def test_the_weights_follow_keras_at_every_snapshot(trace, backend):
    model = model_at_the_start(trace, backend=backend)
    errors = relative_errors(model, trace, last=2000)
    assert tuple(errors) == SNAPSHOTS
    assert max(errors.values()) < GOOD, errors


def test_the_td_errors_are_those_of_the_fitted_targets(trace, backend):
    model = model_at_the_start(trace, backend=backend)
    taken = np.arange(200), trace["action"][:200]
    expected = (trace["target"][:200] - trace["q"][:200])[taken] / model.q_step_size
    received = [model.learn_one(*transition) for transition in transitions(trace, 200)]
    # Dividing by α multiplies the float32 rounding of the two stored arrays by 10.
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-3)


def adam_with_eps_outside_the_correction() -> dict[str, Any]:
    """The notebook's policy with torch's form of Adam and everything else, ε too, unchanged."""
    return {**NOTEBOOK_HYPERPARAMETERS["policy_kwargs"], "optimizer_class": th.optim.Adam}


@pytest.mark.parametrize(
    ("near_miss", "last"),
    [
        ({"bootstrap_at_terminal": False}, 500),
        ({"q_step_size": 0.11}, 5),
        ({"gamma": 0.951}, 500),
        ({"learning_rate": 1.01e-3}, 5),
        ({"policy_kwargs": adam_with_eps_outside_the_correction()}, 5),
        ({"max_grad_norm": 0.1}, 10),
    ],
    ids=["mask", "alpha", "gamma", "learning_rate", "torch_adam", "clipping"],
)
def test_a_near_miss_leaves_the_trace(trace, near_miss, last):
    model = model_at_the_start(trace, **near_miss)
    errors = relative_errors(model, trace, last)
    assert max(errors.values()) > GOOD, errors


def test_the_notebooks_settings_start_like_keras():
    model = NaiveDQN("MlpPolicy", LUNAR_LANDER, seed=0, **NOTEBOOK_HYPERPARAMETERS)
    layers = [layer for layer in model.q_net.q_net if isinstance(layer, th.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [
        (8, 16),
        (16, 8),
        (8, 4),
    ]
    for layer in layers:
        limit = np.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.8 * limit < layer.weight.abs().max() <= limit
        assert not layer.bias.any()
    assert isinstance(model.policy.optimizer, KerasAdam)
    assert model.exploration_rate == 0.3
