"""Observations of any space as rows of numbers, in the order of a network's inputs."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim

from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import QNetwork
from dqn_plugins.policies.dictionary_extractor import DictionaryExtractor
from dqn_plugins.policies.normalization import ONLY

__all__ = ["Inputs"]

FLOAT32 = np.dtype(np.float32)


class Inputs:
    """
    What a network is fed: numbers as they are, and for a category zeros with a one.

    :param q_net: The network.
    """

    def __init__(self, q_net: QNetwork) -> None:
        space, extractor = q_net.observation_space, q_net.features_extractor
        parts = {ONLY: space}
        if isinstance(extractor, DictionaryExtractor):
            assert isinstance(space, spaces.Dict)
            parts = {key: space[key] for key in extractor.keys}
        self._is_array = isinstance(space, spaces.Box)
        is_bytes = self._is_array and space.dtype == np.uint8
        self.dtype = np.dtype(np.uint8) if is_bytes else FLOAT32
        """What rollouts are kept in: bytes as they are, a quarter of the memory."""
        self.n = 0
        """How many numbers an observation is."""
        self._places: dict[Any, tuple[slice, np.ndarray | None]] = {}
        for key, part in parts.items():
            first, self.n = self.n, self.n + get_flattened_obs_dim(part)
            # Where the zero of each category has its place
            zeros = None
            if isinstance(part, spaces.Discrete | spaces.MultiDiscrete):
                sizes = getattr(part, "nvec", [self.n])[:-1]
                zeros = first + np.cumsum([0, *sizes])
            self._places[key] = slice(first, self.n), zeros
        normalizer = getattr(q_net, "observation_normalizer", None)
        normalized = [] if normalizer is None else normalizer.keys
        places = [np.arange(self.n)[self._places[key][0]] for key in normalized]
        self.normalized = np.concatenate([np.empty(0, np.int64), *places])
        """Which of these numbers are normalised."""
        # A time stamp, less its mean, has digits that float32 would have rounded off before.
        is_wide = any(not np.can_cast(np.dtype(parts[key].dtype), np.float32) for key in normalized)
        self.row_dtype = np.dtype(np.float64) if is_wide else FLOAT32
        """What the numbers of an observation are handed to compiled code in."""

    def rows(self, obs: Observation) -> np.ndarray:
        """Flatten observations to (n_envs, n), :attr:`row_dtype`, in memory of the usual layout."""
        if not self._is_array:
            return self._from_parts(obs, self.row_dtype)
        assert isinstance(obs, np.ndarray)
        dtype = self.row_dtype
        # Compiled code would be compiled anew for another layout or for read-only memory.
        if obs.dtype is dtype and obs.ndim == 2 and obs.flags.carray:
            return obs
        if obs.dtype != dtype:
            return obs.astype(dtype, order="C").reshape(len(obs), -1)
        return np.require(obs, dtype, ["C", "W"]).reshape(len(obs), -1)

    def rows_of_rollout(self, obs: Any) -> np.ndarray:
        """Flatten a rollout's observations, arrays or tensors, likewise, to :attr:`dtype`."""
        if not self._is_array:
            return self._from_parts(obs, self.dtype)
        return np.require(np.asarray(obs).reshape(-1, self.n), self.dtype, ["C", "W"])

    def _from_parts(self, obs: Any, dtype: np.dtype[Any]) -> np.ndarray:
        parts = obs if isinstance(obs, dict) else {ONLY: obs}
        n_rows = len(next(iter(parts.values())))
        rows = np.zeros((n_rows, self.n), dtype)
        for key, (places, zeros) in self._places.items():
            values = np.asarray(parts[key]).reshape(n_rows, -1)
            if zeros is None:
                rows[:, places] = values
            else:
                rows[np.arange(n_rows)[:, None], values + zeros] = 1.0
        return rows
