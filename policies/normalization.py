"""Running statistics, and normalisation of observations and rewards by them, as torch modules."""

from copy import deepcopy
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from dqn_plugins.policies.dictionary_extractor import module_name

__all__ = [
    "ONLY",
    "ObservationNormalizer",
    "RecentMeanSquare",
    "RewardNormalizer",
    "RewardScale",
    "RunningStatistics",
]

ONLY = "observation"
"""Stands for the whole observation, where it is no dictionary."""


class RunningStatistics(nn.Module):
    """
    Mean and variance of a stream of numbers, exact at every moment and in constant memory.

    The numbers are buffers, so that they are saved with the policy they belong to.

    Source: Welford (1962), "Note on a method for calculating corrected sums of squares and
    products".

    :param shape: Shape of one element of the stream.
    """

    EPSILON = 1e-8
    """Added to the variance before its root is taken, so that a constant divides by no zero."""

    count: th.Tensor
    mean: th.Tensor
    squared_deviations: th.Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.register_buffer("count", th.zeros(1, dtype=th.float64))
        self.register_buffer("mean", th.zeros(shape, dtype=th.float64))
        self.register_buffer("squared_deviations", th.zeros(shape, dtype=th.float64))

    @property
    def variance(self) -> th.Tensor:
        """Sample variance of what came so far, float64; 1 before the second element."""
        if self.count.item() < 2:
            return th.ones_like(self.mean)
        return self.squared_deviations / (self.count.item() - 1)

    @property
    def standard_deviation(self) -> th.Tensor:
        """Root of the variance, kept above zero, float64."""
        return th.sqrt(self.variance + self.EPSILON)

    @th.no_grad()
    def update(self, elements: th.Tensor) -> None:
        """
        Take in elements of the stream, one after another.

        :param elements: Shape (n, ...), the dots standing for the shape of one element.
        """
        for element in elements.to(self.mean):
            self.count += 1
            deviation = element - self.mean
            self.mean += deviation / self.count.item()
            self.squared_deviations += deviation * (element - self.mean)


class RecentMeanSquare(nn.Module):
    """
    Mean square of the last numbers of a stream, about 10,000 of them, in constant memory.

    Each number weighs 0.9999 times what the next one does.
    """

    DECAY = 0.9999

    total: th.Tensor
    weight: th.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", th.zeros(1, dtype=th.float64))
        self.register_buffer("weight", th.zeros(1, dtype=th.float64))

    @property
    def root(self) -> float:
        """Root of the mean square; 0 before the first number."""
        return float((self.total / self.weight).sqrt()) if self.weight.item() > 0 else 0.0

    @th.no_grad()
    def update(self, number: float) -> None:
        """
        Take in a number.

        :param number: The number.
        """
        self.total.mul_(self.DECAY).add_(number * number)
        self.weight.mul_(self.DECAY).add_(1.0)


class ObservationNormalizer(nn.Module):
    """
    Shift and scale observations to mean 0 and variance 1 by running statistics, within ±10.

    A number that has hardly varied is divided by next to nothing when it first does, and would
    drown all others. The bound is that of ``VecNormalize``.

    Applies to vectors of real numbers, also inside a dictionary. Images and discrete observations
    are left as they are.

    :param observation_space: Observation space.
    """

    BOUND = 10.0

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        super().__init__()
        parts = (
            dict(observation_space.spaces)
            if isinstance(observation_space, spaces.Dict)
            else {ONLY: observation_space}
        )
        self._names: dict[str, str] = {}
        for key, space in parts.items():
            if isinstance(space, spaces.Box) and not is_image_space(space):
                taken = self._names.values()
                self._names[key] = key if key == ONLY else module_name(key, taken)
        self.statistics = nn.ModuleDict(
            {name: RunningStatistics(parts[key].shape or ()) for key, name in self._names.items()}
        )

    @property
    def keys(self) -> list[str]:
        """The parts of a dictionary that are normalised; :data:`ONLY` where all is one part."""
        return list(self._names)

    def forward(self, obs: PyTorchObs) -> PyTorchObs:
        """
        Normalise observations; the statistics stay as they are.

        :param obs: Observations after Stable-Baselines3's preprocessing, shape (n, ...).
        :return: Normalised observations, float32 where they were normalised.
        """
        if isinstance(obs, dict):
            return {key: self._normalize(key, value) for key, value in obs.items()}
        return self._normalize(ONLY, obs)

    def update(self, obs: PyTorchObs) -> None:
        """
        Take observations into the statistics.

        :param obs: Observations as the environment returned them, shape (n, ...).
        """
        parts = obs if isinstance(obs, dict) else {ONLY: obs}
        for key, name in self._names.items():
            cast(RunningStatistics, self.statistics[name]).update(parts[key])

    def frozen(self) -> nn.Module:
        """
        Copy what the statistics say now into constants.

        :return: A module that normalises as this one does now, for as long as it lives; its
            computation does not depend on how many observations came.
        """
        frozen = deepcopy(self)
        for name, each in frozen.statistics.items():
            deviation = each.standard_deviation
            frozen.statistics[name] = _Constants(mean=each.mean, standard_deviation=deviation)
        return frozen

    def _normalize(self, key: str, obs: th.Tensor) -> th.Tensor:
        if key not in self._names:
            return obs
        statistics = cast(RunningStatistics, self.statistics[self._names[key]])
        mean = statistics.mean
        # torch subtracts no Booleans
        normalized = (obs.to(mean.dtype) - mean) / statistics.standard_deviation
        return normalized.clamp(-self.BOUND, self.BOUND).float()


class _Constants(nn.Module):
    """What a module that takes in numbers says at a moment."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        vars(self).update(values)


RewardScale: TypeAlias = Literal["return_deviation", "reward_rms", "blend"]
"""What rewards are divided by. See :class:`RewardNormalizer`."""


class RewardNormalizer(nn.Module):
    """
    Divide rewards by a running scale. They are not shifted, which would change what is best to do.

    - "return_deviation": the standard deviation s of the discounted return so far. For each
      environment it follows u ← γ·u + r, beginning at 0 with each episode. Where every reward is
      the same, as the −1 for every step to a goal, s only measures how long episodes are, and one
      step more or less becomes a small part of a large value.
    - "reward_rms": the root of the mean squared reward q.
    - "blend": s^(1 − c) · q^c with c = min(mean reward, 0)² / q²: q where every reward is the same
      cost, s where rewards are gains, and nearly s where they come with both signs.

    Source of "return_deviation": Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, algorithm 5,
    with the deviations taken from the running mean, as the authors' results were obtained. "blend"
    is our own.

    :param scale_by: Which of them.
    :raises ValueError: If it is none of them.
    """

    returns: th.Tensor

    def __init__(self, scale_by: RewardScale = "return_deviation") -> None:
        super().__init__()
        if scale_by not in get_args(RewardScale):
            raise ValueError(
                f"normalize_rewards: received {scale_by!r}, it must be one of "
                f"{get_args(RewardScale)}, or False to leave rewards as they are. 'blend' is right "
                "for most."
            )
        self.scale_by = scale_by
        self.return_statistics = RunningStatistics()
        self.reward_statistics = RunningStatistics()
        self.register_buffer("returns", th.zeros(1, dtype=th.float64))

    def keep_returns_for(self, n_envs: int) -> None:
        """
        Follow one return per environment from now on.

        :param n_envs: Number of environments. Returns of another number of environments are
            replaced by zeros.
        """
        if len(self.returns) != n_envs:
            self.returns = self.returns.new_zeros(n_envs)

    @property
    def scale(self) -> float:
        """What rewards are divided by."""
        deviation = float(self.return_statistics.standard_deviation)
        if self.scale_by == "return_deviation" or self.reward_statistics.count.item() == 0:
            return deviation
        share = 1.0 if self.scale_by == "reward_rms" else self.cost_share
        return float(deviation ** (1.0 - share) * self._mean_square ** (share / 2.0))

    @property
    def cost_share(self) -> float:
        """c: 1 where every reward is the same cost, 0 where they are gains or none came yet."""
        return min(self.reward_statistics.mean.item(), 0.0) ** 2 / self._mean_square

    @property
    def _mean_square(self) -> float:
        rewards = self.reward_statistics
        variance = rewards.squared_deviations.item() / max(rewards.count.item(), 1.0)
        return rewards.mean.item() ** 2 + variance + RunningStatistics.EPSILON

    def forward(
        self, rewards: th.Tensor, gamma: float, env_indices: np.ndarray | None = None
    ) -> th.Tensor:
        """
        Take rewards into the statistics and normalise them.

        :param rewards: One reward per environment, shape (n,).
        :param gamma: Discount factor γ.
        :param env_indices: Which environments they are of, shape (n,); None for all.
        :return: Normalised rewards, shape (n,), float64.
        """
        if env_indices is None:
            env_indices = np.arange(len(self.returns))
        returns = self.returns[env_indices] * gamma + rewards
        self.returns[env_indices] = returns
        self.return_statistics.update(returns)
        self.reward_statistics.update(rewards)
        return rewards.to(self.returns) / self.scale

    def frozen(self) -> nn.Module:
        """
        Copy what the statistics say now into constants.

        :return: A module that has this one's :attr:`scale` and :attr:`cost_share` of now.
        """
        return _Constants(scale=self.scale, cost_share=self.cost_share)

    def _load_from_state_dict(
        self, state_dict: dict[str, th.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A model may be loaded with another number of environments than it was saved with.
        saved = state_dict.get(prefix + "returns")
        if saved is not None:
            self.keep_returns_for(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
