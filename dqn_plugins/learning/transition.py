"""What a transition is made of, read from what a ``VecEnv`` returns."""

from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces

from dqn_plugins.errors import MalformedTransitionError, NonFiniteTransitionError

__all__ = ["Observation", "raise_if_malformed", "raise_if_not_finite", "true_next_observation"]

NUMBERS = "biuf"
"""Kinds of NumPy's types that hold real numbers: Booleans, integers, floats."""

Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""One observation per environment, shape (n_envs, ...), or a dictionary of such arrays."""


def true_next_observation(
    new_obs: Observation, dones: np.ndarray, infos: list[dict[str, Any]]
) -> tuple[Observation, np.ndarray]:
    """
    Undo the automatic reset: find the observation that each transition really led to.

    A ``VecEnv`` resets an environment whose episode ended and returns the first observation of the
    next episode; the last one of the ended episode is in ``infos``.

    :param new_obs: Observations that ``VecEnv.step`` returned. Left as they are.
    :param dones: Whether each episode ended, shape (n_envs,), bool.
    :param infos: Information dictionaries that ``VecEnv.step`` returned.
    :return: The next observations, and whether each one is terminal, shape (n_envs,), bool. A
        time limit ends an episode without making its last observation terminal.
    :raises ValueError: If an episode was truncated and its last observation is missing, since
        nothing is then known to bootstrap from.
    :raises MalformedTransitionError: If a last observation has another shape.
    """
    if True not in dones.tolist():
        return new_obs, dones
    terminated = dones.copy()
    next_obs = (
        {key: value.copy() for key, value in new_obs.items()}
        if isinstance(new_obs, dict)
        else new_obs.copy()
    )
    for env_index in np.flatnonzero(dones):
        info = infos[env_index]
        terminated[env_index] = not info.get("TimeLimit.truncated", False)
        last_obs = info.get("terminal_observation")
        if last_obs is None:
            if terminated[env_index]:
                continue
            raise ValueError(
                f"infos[{env_index}]: the episode was truncated, but 'terminal_observation' is "
                f"missing; the keys are {sorted(info)}. A VecEnv that resets by itself must put "
                "the last observation there, as Stable-Baselines3's DummyVecEnv does."
            )
        if isinstance(next_obs, dict):
            for key, values in next_obs.items():
                _put_last(values, int(env_index), last_obs[key])
        else:
            _put_last(next_obs, int(env_index), last_obs)
    return next_obs, terminated


def _put_last(values: np.ndarray, env_index: int, last_obs: Any) -> None:
    if np.shape(last_obs) != values.shape[1:]:  # NumPy would repeat a single number
        raise MalformedTransitionError(
            "last observation",
            int(env_index),
            f"shape {np.shape(last_obs)}",
            f"of shape {values.shape[1:]}",
        )
    values[env_index] = last_obs


def raise_if_malformed(
    obs: Observation,
    rewards: np.ndarray | None,
    dones: np.ndarray | None,
    space: spaces.Space[Any],
) -> None:
    """
    Refuse what is not of the form that the observation space promises.

    :param obs: Observations, one per environment.
    :param rewards: Rewards, one per environment; None at a reset.
    :param dones: Whether the episodes ended, one per environment; None at a reset.
    :param space: The observation space.
    :raises MalformedTransitionError: If a shape is another one, or something is no real number.
    """
    if isinstance(space, spaces.Dict):
        assert isinstance(obs, dict)
        for key, part in space.spaces.items():
            _raise_if_misshapen(f"observation {key!r}", obs[key], part.shape or ())
    else:
        assert isinstance(obs, np.ndarray)
        _raise_if_misshapen("observation", obs, space.shape or ())
    if rewards is not None and dones is not None:
        _raise_if_misshapen("reward", rewards, ())
        _raise_if_misshapen("done flag", dones, ())


def _raise_if_misshapen(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape[1:] != shape or values.dtype.kind not in NUMBERS:
        raise MalformedTransitionError(
            name,
            0,
            f"shape {values.shape[1:]} of type {values.dtype}",
            f"shape {shape}, of real numbers",
        )


def raise_if_not_finite(obs: Observation, rewards: np.ndarray, next_obs: Observation) -> None:
    """
    Refuse transitions that hold NaN or infinity.

    :param obs: Observations, shape (n_envs, ...).
    :param rewards: Rewards, shape (n_envs,).
    :param next_obs: Observations after the step, shape (n_envs, ...).
    :raises NonFiniteTransitionError: If any number is not finite.
    """
    parts = [*_named_arrays("observation", obs), ("reward", rewards)]
    for name, values in [*parts, *_named_arrays("next observation", next_obs)]:
        finite = np.isfinite(values)
        if not finite.all():
            env_index = int(np.argwhere(~finite)[0][0])
            raise NonFiniteTransitionError(name, env_index, values[env_index])


def _named_arrays(name: str, obs: Observation) -> list[tuple[str, np.ndarray]]:
    if isinstance(obs, dict):
        return [(f"{name} {key!r}", values) for key, values in obs.items()]
    return [(name, obs)]
