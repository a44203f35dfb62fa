"""What is learned from: one transition per environment."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from dqn_plugins.errors import NonFiniteTransitionError

__all__ = ["Observation", "Transition", "raise_if_not_finite", "rows_of"]

Observation: TypeAlias = np.ndarray | dict[str, np.ndarray]
"""One observation per environment, shape (n_envs, ...), or a dictionary of such arrays."""


class Transition(NamedTuple):
    """
    One transition of each environment, a row each.

    :param obs: Observations before the step, shape (n_envs, ...).
    :param actions: Actions taken, shape (n_envs,), int64.
    :param rewards: Rewards, shape (n_envs,), float32.
    :param next_obs: Observations that the step led to, shape (n_envs, ...); at the end of an
        episode its last one.
    :param terminated: Whether these are terminal states, shape (n_envs,), bool. A time limit ends
        an episode without making its last observation terminal.
    :param dones: Whether the episodes ended, terminated or truncated, shape (n_envs,), bool.
    :param new_obs: Observations to act on next, shape (n_envs, ...): ``next_obs``, but for the
        episodes that have begun since.
    :param valid: Which rows are transitions, shape (n_envs,), bool. Where an environment takes a
        step of its own to reset, that row is none, and nothing is learned from it.
    :param begun: Which rows of ``new_obs`` are first observations of an episode, shape (n_envs,),
        bool; None for none.
    :param first_env_index: Index of the environment of the first row, where the environments take
        turns. The others follow in order.
    :param action_masks: Which actions were possible in ``obs``, shape (n_envs, n_actions), bool;
        None for all of them, and then there are no masks of the others either.
    :param next_action_masks: Which are possible in ``next_obs``, likewise: where none is, nothing
        follows, and the value is 0.
    :param new_action_masks: Which are possible in ``new_obs``, likewise.
    """

    obs: Observation
    actions: np.ndarray
    rewards: np.ndarray
    next_obs: Observation
    terminated: np.ndarray
    dones: np.ndarray
    new_obs: Observation
    valid: np.ndarray
    begun: np.ndarray | None = None
    first_env_index: int = 0
    action_masks: np.ndarray | None = None
    next_action_masks: np.ndarray | None = None
    new_action_masks: np.ndarray | None = None

    @property
    def n_transitions(self) -> int:
        """How many transitions these are."""
        n: int = self.valid.tolist().count(True)
        return n


def rows_of(obs: Any, rows: Any) -> Any:
    """Take some observations, arrays or tensors or a dictionary of them, by index or slice."""
    if obs is None:
        return None
    if isinstance(obs, dict):
        return {key: value[rows] for key, value in obs.items()}
    return obs[rows]


def raise_if_not_finite(
    obs: Observation, rewards: np.ndarray, next_obs: Observation, first_env_index: int = 0
) -> None:
    """
    Refuse transitions that hold NaN or infinity, or what would be infinity in float32.

    :param obs: Observations, shape (n_envs, ...).
    :param rewards: Rewards, shape (n_envs,).
    :param next_obs: Observations after the step, shape (n_envs, ...).
    :param first_env_index: Index of the environment of the first row, for the message.
    :raises NonFiniteTransitionError: If any number is not finite.
    """
    parts = [*_named_arrays("observation", obs), ("reward", rewards)]
    for name, values in [*parts, *_named_arrays("next observation", next_obs)]:
        with np.errstate(over="ignore"):
            finite = np.isfinite(values.astype(np.float32, copy=False))
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise NonFiniteTransitionError(name, first_env_index + row, values[row])


def _named_arrays(name: str, obs: Observation) -> list[tuple[str, np.ndarray]]:
    if isinstance(obs, dict):
        return [(f"{name} {key!r}", values) for key, values in obs.items()]
    return [(name, obs)]
