"""A rollout: the last steps of all environments, kept until they have been learned from."""

from typing import Any

import numpy as np
import psutil
import torch as th

from dqn_plugins.learning.transition import Observation, Transition

__all__ = ["Rollout"]

ARRAYS = {
    "actions": np.int64,
    "rewards": np.float32,
    "terminated": np.bool_,
    "dones": np.bool_,
    "valid": np.bool_,
}
"""What is kept of each transition beside its observation: fields of :class:`Transition`."""


class Rollout:
    """
    The last steps of several environments. Memory is taken once, at the first transition.

    Observations go to the device of the network as they come; what is one number per transition
    follows when the rollout is learned from. A pickled rollout holds only the steps that it has.

    :param n_steps: Steps of each environment that make a rollout.
    :param n_envs: Number of environments.
    :param device: Where observations are kept.
    """

    action_masks: np.ndarray | None = None
    """Which actions are possible in the observations, shape (n_steps + 1, n_envs, n_actions), bool;
    None for all."""
    obs: dict[str, th.Tensor]
    """Observations, shape (n_steps + 1, n_envs, ...) each: the last row is what the last step of
    the rollout led to. Those of environments without dictionaries have the key ``""``."""

    def __init__(self, n_steps: int, n_envs: int, device: th.device) -> None:
        self.n_envs, self.device = n_envs, device
        self.resize(n_steps)

    def resize(self, n_steps: int) -> None:
        """
        Begin a rollout of another length.

        :param n_steps: Steps of each environment that make it.
        """
        self.n_steps = n_steps
        self.obs = {}
        self._arrays: dict[str, np.ndarray] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all steps."""
        self.length = self._n_stored = 0
        self.action_masks = None
        self.last_obs: list[tuple[int, int, dict[str, np.ndarray]]] = []
        """Of each episode that was cut short: its step, its environment, its last observation."""
        self.last_action_masks: list[np.ndarray] = []
        """Which actions are possible in these, shape (n_actions,) each, if there are masks."""

    def move_to(self, device: th.device) -> None:
        """
        Keep observations on another device from now on.

        :param device: The device.
        """
        self.device = device
        self.obs = {key: part.to(device) for key, part in self.obs.items()}
        self._find_views()

    @property
    def is_empty(self) -> bool:
        """Whether there is no step in it."""
        return self._n_stored == 0

    @property
    def is_full(self) -> bool:
        """Whether all environments have made their steps."""
        return self.length == self.n_steps

    def add(self, transition: Transition) -> None:
        """
        Take in a step of all environments, or of those whose turn it is.

        :param transition: The transitions. Their arrays are copied.
        :raises ValueError: If there is too little memory for a rollout.
        """
        if not self.obs:
            self._take_memory(transition.obs)
        masks, next_masks = transition.action_masks, transition.next_action_masks
        if self.is_empty:
            shape = self.n_steps + 1, self.n_envs
            self.action_masks = None if masks is None else np.ones((*shape, masks.shape[1]), bool)
        t, first = self.length, transition.first_env_index
        rows = slice(first, first + len(transition.actions))
        self._put(t, rows, transition.obs)
        for name, array in self._arrays.items():
            array[t, rows] = getattr(transition, name)
        if True in transition.dones.tolist():
            for row in np.flatnonzero(transition.dones & ~transition.terminated):
                last = {key: values[row] for key, values in by_key(transition.next_obs).items()}
                self.last_obs.append((t, first + int(row), last))
                if self.action_masks is not None and next_masks is not None:
                    self.last_action_masks.append(next_masks[row].copy())
        if self.action_masks is not None:
            self.action_masks[t, rows] = masks
            self.action_masks[t + 1, rows] = transition.new_action_masks
        if t == self.n_steps - 1:
            self._put(self.n_steps, rows, transition.new_obs)
        self._n_stored += 1
        if rows.stop == self.n_envs:
            self.length += 1

    def array(self, name: str) -> np.ndarray:
        """
        Return one number of each transition.

        :param name: "actions", "rewards", "terminated", "dones" or "valid".
        :return: The numbers, shape (n_steps, n_envs). A view.
        """
        return self._arrays[name]

    def tensor(self, name: str) -> th.Tensor:
        """
        Return the same on the device of the network.

        :param name: See :meth:`array`.
        :return: The numbers, shape (n_steps, n_envs).
        """
        return th.from_numpy(self.array(name)).to(self.device)

    def _take_memory(self, obs: Observation) -> None:
        shape = self.n_steps + 1, self.n_envs
        parts = by_key(obs).items()
        needed = shape[0] * shape[1] * sum(values[0].nbytes for _, values in parts)
        if self.device.type == "cpu" and needed > psutil.virtual_memory().available:
            raise ValueError(
                f"n_steps: received {self.n_steps} with {self.n_envs} environments, a rollout of "
                f"which takes {needed / 1e9:.1f} GB; "
                f"{psutil.virtual_memory().available / 1e9:.1f} GB of memory are free. Take fewer "
                "steps or fewer environments."
            )
        self.obs = {
            key: th.from_numpy(values[:0]).new_empty(
                (*shape, *values.shape[1:]), device=self.device
            )
            for key, values in parts
        }
        self._arrays = {
            name: np.zeros((self.n_steps, self.n_envs), dtype) for name, dtype in ARRAYS.items()
        }
        self._find_views()

    def _find_views(self) -> None:
        on_cpu = self.device.type == "cpu"
        self._views = {key: part.numpy() for key, part in self.obs.items()} if on_cpu else None

    def _put(self, t: int, rows: slice, obs: Observation) -> None:
        for key, values in by_key(obs).items():
            if self._views is not None:  # a tenth of the time that torch takes
                self._views[key][t, rows] = values
            else:
                self.obs[key][t, rows].copy_(th.from_numpy(values), non_blocking=True)

    def __getstate__(self) -> dict[str, Any]:
        # Some environments may be a step ahead of the others, and what that one led to counts.
        n = 0 if self.is_empty else self.length + 2
        obs = {key: part[:n].cpu().clone() for key, part in self.obs.items() if n > 0}
        arrays = {name: array[:n].copy() for name, array in self._arrays.items() if n > 0}
        state = {name: value for name, value in vars(self).items() if name != "_views"}
        return {**state, "obs": obs, "_arrays": arrays}

    def __setstate__(self, state: dict[str, Any]) -> None:
        obs, arrays = state["obs"], state["_arrays"]
        vars(self).update(state, obs={}, _arrays={})
        if obs:
            self._take_memory({key: part[0].numpy() for key, part in obs.items()})
            for key, part in obs.items():
                self.obs[key][: len(part)].copy_(part)
            for name, array in arrays.items():
                self._arrays[name][: len(array)] = array


def by_key(obs: Observation) -> dict[str, np.ndarray]:
    """Return observations as a dictionary: all under ``""`` where they are none."""
    return obs if isinstance(obs, dict) else {"": obs}


def as_observation(parts: dict[str, Any]) -> Any:
    """Undo :func:`by_key`."""
    return parts[""] if parts.keys() == {""} else parts
