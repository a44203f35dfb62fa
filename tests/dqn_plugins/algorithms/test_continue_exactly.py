"""Save, load, continue: bit for bit as if the model had never stopped."""

import copy
from collections import deque
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.algorithms.exploration import EpsilonGreedy
from dqn_plugins.policies import (
    AdaptiveObGD,
    AdaptiveQOptimizer,
    IntentionalOptimizer,
    KerasAdam,
    MaxScaledOptimizer,
    ObGD,
    TraceAdam,
)
from tests.environments import DriftEnv

# What depends on the clock, and what is another object of the same meaning: what the schedules
# give is in ε and in the optimiser.
LEFT_OUT = {
    "learning_rate",
    "start_time",
    "_num_timesteps_at_start",
    "_logger",
    "env",
    "_vec_normalize_env",
    "_learner",
    "lr_schedule",
    "exploration_schedule",
    "policy_class",
    "q_net",
    "rollout_buffer_class",
}


def complete_state(model: BaseAlgorithm) -> dict[str, Any]:
    """
    Everything that a model holds, so that an attribute that somebody adds is compared as well:
    weights, buffers, the optimiser with its traces, counters, ε, generators, last observations.
    """
    state: dict[str, Any] = {
        name: value for name, value in vars(model).items() if name not in LEFT_OUT | {"policy"}
    }
    state["policy"] = model.policy.state_dict()
    state["optimizer"] = model.policy.optimizer.state_dict()
    state = copy.deepcopy(state)
    for info in state["ep_info_buffer"] or []:
        del info["t"]  # seconds, which Monitor measures
    return state


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two states are not the same, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{where}: {one.keys() ^ other.keys()}"]
        return [d for key in one for d in differences(one[key], other[key], f"{where}.{key}")]
    if isinstance(one, (list, tuple, deque)):
        if len(one) != len(other):
            return [f"{where}: {len(one)} and {len(other)} elements"]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    if isinstance(one, np.random.Generator):
        one, other = one.bit_generator.state, other.bit_generator.state
        return differences(one, other, where)
    if isinstance(one, EpsilonGreedy):
        return differences(vars(one), vars(other), where)
    if isinstance(one, th.Tensor):
        return [] if th.equal(one, other) else [where]
    return [] if np.array_equal(one, other) else [f"{where}: {one!r} and {other!r}"]


MODELS: list[tuple[type[NaiveDQN | StreamQ], type[th.optim.Optimizer], float]] = [
    (NaiveDQN, th.optim.Adam, 1e-3),
    (NaiveDQN, KerasAdam, 1e-3),
    (StreamQ, TraceAdam, 1e-3),
    (StreamQ, ObGD, 1.0),
    (StreamQ, AdaptiveObGD, 1.0),
    (StreamQ, AdaptiveQOptimizer, 1e-3),
    (StreamQ, IntentionalOptimizer, 0.25),
    (StreamQ, MaxScaledOptimizer, 1e-3),
]


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize(("algorithm", "optimizer", "learning_rate"), MODELS)
def test_save_load_continue_is_never_having_stopped(
    backend, algorithm, optimizer, learning_rate, n_envs, tmp_path
):
    kwargs: dict[str, Any] = {} if algorithm is NaiveDQN else {"trace_cut": "never"}

    def new_model() -> NaiveDQN | StreamQ:
        return algorithm(
            "MlpPolicy",
            DriftEnv() if n_envs == 1 else DummyVecEnv([DriftEnv] * n_envs),
            learning_rate=LinearSchedule(learning_rate, learning_rate / 10, 1.0),
            exploration_initial_eps=1.0,
            exploration_final_eps=0.1,
            exploration_fraction=0.7,
            policy_kwargs={"net_arch": [8], "optimizer_class": optimizer},
            seed=0,
            backend=backend,
            **kwargs,
        )

    def predict(one: NaiveDQN | StreamQ, n: int) -> None:
        one.predict(np.zeros((n, 3), np.float32))

    # Stopped with ε, learning rate and counters on their way, and in the middle of an episode
    model = new_model()
    model.learn(140, callback=lambda *_: model.num_timesteps < 70)
    env = copy.deepcopy(model.get_env())
    predict(model, 5)
    model.save(tmp_path / "model")
    before = complete_state(model)
    loaded = algorithm.load(tmp_path / "model", env=env, force_reset=False)
    assert differences(before, complete_state(loaded)) == []

    never_stopped = new_model().learn(140)
    predict(never_stopped, 5)
    for one in (model, loaded):
        one.learn(70, reset_num_timesteps=False)
    states = []
    for one in (model, loaded, never_stopped):
        predict(one, 20)
        states.append(complete_state(one))
    assert states[0]["num_timesteps"] == 140
    assert differences(states[1], states[0]) == []
    assert differences(states[2], states[0]) == []
    # and the comparison sees that something happened in between
    changed = " ".join(differences(before, states[0]))
    for name in ("policy", "optimizer", "exploration_rate", "_n_updates", "_episode_num"):
        assert f".{name}" in changed
    assert "_explorer.rng" in changed
    assert "_explorer.predict_rng" in changed
    assert "_last_obs" in changed
