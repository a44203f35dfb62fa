"""An environment that numbers everything it hands out, and remembers what it played."""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from tests.properties.cases import End

__all__ = ["SPACES", "MaskingEnv", "Tagged", "TaggedEnv", "encode", "mask_of"]

SPACES: list[spaces.Space[Any]] = [
    spaces.Box(0.0, np.inf, (2,), np.float32),
    spaces.Box(0.0, np.inf, (1, 2), np.float64),
    spaces.Box(0, 10_000, (2,), np.int32),
    spaces.Discrete(1_000),
    spaces.MultiDiscrete([10, 100]),
    spaces.MultiBinary(10),
    spaces.Dict({"number": spaces.Box(0.0, np.inf, (1,), np.float32), "n": spaces.Discrete(1_000)}),
]


def encode(space: spaces.Space[Any], number: int) -> Any:
    """The element of a space that stands for a number below 1,000."""
    assert 0 <= number < 1_000
    if isinstance(space, spaces.Dict):
        return {key: encode(part, number) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Discrete):
        return np.int64(number)
    if isinstance(space, spaces.MultiDiscrete):
        return np.array([number // 100, number % 100], space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return np.array([number >> bit & 1 for bit in range(10)], space.dtype)
    return np.full(space.shape, number, space.dtype)


def mask_of(number: int, n_actions: int = 3) -> np.ndarray:
    """Which actions are possible in the observation of this number."""
    mask = np.random.default_rng(number).random(n_actions) < 0.4
    mask[number % n_actions] = True
    return mask


class Tagged(NamedTuple):
    """A transition by its numbers; no two observations of an environment share one."""

    obs: int
    action: int
    reward: float
    next_obs: int
    terminated: bool
    done: bool


class TaggedEnv(gym.Env[Any, np.int64]):
    """
    Numbers its observations from 0 on; the reward is the number of the observation it comes with.

    :param observation_space: Observation space, one of ``SPACES``.
    :param ends: How each step ends the episode, over and over; "" for not.
    :param raises_at: Numbers of the steps, from 0, that raise instead of taking place.
    :param tells_masks: Whether ``info`` tells which actions are possible.
    """

    is_masked = False

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        ends: list[End],
        raises_at: frozenset[int] = frozenset(),
        tells_masks: bool = False,
    ) -> None:
        self.tells_masks = tells_masks
        self.is_masked = self.is_masked or tells_masks
        self.observation_space, self.action_space = observation_space, spaces.Discrete(3)
        self.ends, self.raises_at = ends, raises_at
        self.number = self.n_calls = -1
        self.transitions: list[Tagged] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.number += 1
        return encode(self.observation_space, self.number), self.info

    @property
    def info(self) -> dict[str, Any]:
        return {"action_mask": mask_of(self.number).astype(np.int8)} if self.tells_masks else {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_calls += 1
        if self.n_calls in self.raises_at:
            raise RuntimeError(f"step {self.n_calls}")
        end = self.ends[len(self.transitions) % len(self.ends)]
        terminated, truncated = end in ("terminated", "both"), end in ("truncated", "both")
        assert not self.is_masked or mask_of(self.number)[action]
        before, self.number = self.number, self.number + 1
        reward = float(self.number)
        self.transitions.append(
            Tagged(before, int(action), reward, self.number, terminated, end != "")
        )
        obs = encode(self.observation_space, self.number)
        return obs, reward, terminated, truncated, self.info


class MaskingEnv(TaggedEnv):
    """A :class:`TaggedEnv` with sb3-contrib's method."""

    is_masked = True

    def action_masks(self) -> np.ndarray:
        return mask_of(self.number)
