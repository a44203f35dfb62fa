"""What several test files ask of a model."""

import copy
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th

from dqn_plugins.learning import Rollout
from tests.environments import Transition

__all__ = [
    "complete_state",
    "differences",
    "everything",
    "follow",
    "learn_all",
    "optimizer_numbers",
    "own_loop",
    "statistics",
    "through_a_file",
    "traces",
    "unchanged",
    "weights",
]

Model = Any
"""One of the algorithms' models."""


def weights(model: Model) -> np.ndarray:
    """All weights of the Q-network, one after another, copied."""
    return np.concatenate([p.detach().cpu().numpy().ravel() for p in model.q_net.parameters()])


def everything(model: Model) -> list[bytes]:
    """Weights, their average, statistics, the optimiser's state and the traces, bit for bit."""
    tensors = [*model.policy.parameters(), *model.policy.buffers()]
    numbers = [weights(model), *optimizer_numbers(model), *(t.detach().cpu() for t in tensors)]
    return [np.asarray(array).tobytes() for array in numbers]


def optimizer_numbers(model: Model) -> list[np.ndarray]:
    """Everything in the state of a model's or a policy's optimiser, copied, in a fixed order."""
    state = getattr(model, "policy", model).optimizer.state_dict()["state"]
    return [
        value.cpu().numpy().copy() if isinstance(value, th.Tensor) else np.array(value)
        for _, entries in sorted(state.items())
        for _, value in sorted(entries.items())
        if value is not None  # an old torch's SGD without momentum
    ]


def learn_all(model: Model, transitions: Iterable[Transition]) -> list[float]:
    """Feed transitions through ``learn_one``; the TD errors."""
    return [model.learn_one(*transition) for transition in transitions]


def own_loop(model: Model, env: Any, n_steps: int, **how: float) -> None:
    """Learn by ``act`` and ``learn_one``, with masks where the environment tells them."""
    obs, _ = env.reset(seed=3)
    tells = env.has_wrapper_attr("action_masks")
    for _ in range(n_steps):
        mask = env.get_wrapper_attr("action_masks")() if tells else None
        action = model.act(obs, action_masks=mask, **how)
        next_obs, reward, terminated, truncated, _ = env.step(np.int64(action))
        next_mask = env.get_wrapper_attr("action_masks")() if tells else None
        ends = terminated, truncated
        assert type(model.learn_one(obs, action, reward, next_obs, *ends, mask, next_mask)) is float
        obs = env.reset()[0] if any(ends) else next_obs


def traces(model: Model) -> np.ndarray:
    """A model's or a policy's eligibility traces, shape (n_envs, n_weights), copied."""
    state = getattr(model, "policy", model).optimizer.state
    parts = [state[param]["trace"].flatten(1) for param in model.q_net.parameters()]
    return th.cat(parts, dim=1).cpu().numpy().copy()


def statistics(model: Model) -> dict[str, np.ndarray]:
    """Everything in the policy that is not a weight, by name, copied."""
    return {name: buffer.cpu().numpy().copy() for name, buffer in model.policy.named_buffers()}


def follow(model: Model) -> tuple[list[list[bytes]], Callable[..., bool]]:
    """A list with everything now, and a callback that adds everything after each step to it."""
    states = [everything(model)]

    def remember(*_: Any) -> bool:
        states.append(everything(model))
        return True

    return states, remember


def through_a_file(model: Model, **kwargs: Any) -> Model:
    """The model that is loaded from the file that this one saves."""
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    return type(model).load(file, **kwargs)


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
    "_masks",
    "_lr_in_force",
    "lr_schedule",
    "exploration_schedule",
    "policy",
    "policy_class",
    "q_net",
    "_resets_seen",
}


def complete_state(model: Model) -> dict[str, Any]:
    """
    Everything that a model holds, so that an attribute that somebody adds is compared as well:
    weights, buffers, the optimiser with its traces, counters, ε, generators, last observations.
    """
    state = {name: value for name, value in vars(model).items() if name not in LEFT_OUT}
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
        return differences(one.bit_generator.state, other.bit_generator.state, where)
    if isinstance(one, th.Tensor):
        return [] if th.equal(one, other) else [where]
    if isinstance(one, Rollout) and isinstance(other, Rollout):
        return differences(steps_of(one), steps_of(other), where)
    if type(one) is type(other) and type(one).__module__.startswith("dqn_plugins"):
        states = (each.__reduce_ex__(2)[2] for each in (one, other))  # as pickle sees them
        return differences(*states, where)
    return [] if np.array_equal(one, other) else [f"{where}: {one!r} and {other!r}"]


def steps_of(rollout: Rollout) -> list[Any]:
    """What has been learned from a rollout's environments so far, without memory yet to be used."""
    n, shape = rollout.length, (rollout.n_steps, rollout.n_envs)
    if rollout.is_empty:
        return [shape]
    names = ("actions", "rewards", "terminated", "dones", "valid")
    arrays = [rollout.array(name)[:n] for name in names]
    return [shape, n, rollout.last_obs, *arrays, *(part[:n] for part in rollout.obs.values())]


@contextmanager
def unchanged(model: Model) -> Iterator[None]:
    """Whatever happens within, the model is then what it was."""
    before = complete_state(model)
    yield
    assert differences(complete_state(model), before) == []
