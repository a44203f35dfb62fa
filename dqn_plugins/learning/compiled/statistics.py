"""Running statistics and the scale of rewards in compiled code, as the policies compute them."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.compilation import Doubles, compiled
from dqn_plugins.policies import RunningStatistics

__all__ = [
    "SCALES",
    "Rewards",
    "cost_share",
    "look_at_reward",
    "scale_of_rewards",
    "standard_deviation",
    "update_statistics",
]

STATISTICS_EPSILON = RunningStatistics.EPSILON

# Kinds of scales
NO_SCALE, RETURN_DEVIATION, REWARD_RMS, BLEND = range(4)
SCALES = {"return_deviation": RETURN_DEVIATION, "reward_rms": REWARD_RMS, "blend": BLEND}


@compiled
def standard_deviation(squared_deviations: float, count: float) -> float:
    """Compute a standard deviation as ``RunningStatistics`` does."""
    variance = squared_deviations / (count - 1.0) if count > 1.0 else 1.0
    return float(np.sqrt(variance + STATISTICS_EPSILON))


@compiled
def update_statistics(
    number: float, i: int, mean: Doubles, squared_deviations: Doubles, count: float
) -> None:
    """Take number i of an element, the count-th one, into statistics by Welford's method."""
    deviation = number - mean[i]
    mean[i] += deviation / count
    squared_deviations[i] += deviation * (number - mean[i])


class Rewards(NamedTuple):
    """
    What rewards are scaled by: one of ``NO_SCALE``, ``RETURN_DEVIATION``, ``REWARD_RMS`` and
    ``BLEND``; the discounted return so far of each environment; and of these returns and of the
    rewards the mean, the sum of squared deviations from it and the count, shape (1,) each, or empty
    where there is no scale.
    """

    scale: int
    returns: Doubles
    return_mean: Doubles
    return_squared_deviations: Doubles
    return_count: Doubles
    reward_mean: Doubles
    reward_squared_deviations: Doubles
    reward_count: Doubles


@compiled
def look_at_reward(rewards: Rewards, env: int, reward: float, gamma: float) -> None:
    """Take a reward of an environment into the statistics."""
    if rewards.scale == NO_SCALE:
        return
    count = rewards.return_count[0] = rewards.return_count[0] + 1.0
    rewards.returns[env] = gamma * rewards.returns[env] + reward
    update_statistics(
        rewards.returns[env], 0, rewards.return_mean, rewards.return_squared_deviations, count
    )
    count = rewards.reward_count[0] = rewards.reward_count[0] + 1.0
    update_statistics(reward, 0, rewards.reward_mean, rewards.reward_squared_deviations, count)


@compiled
def scale_of_rewards(rewards: Rewards) -> float:
    """Compute what rewards are divided by."""
    if rewards.scale == NO_SCALE:
        return 1.0
    deviation = standard_deviation(rewards.return_squared_deviations[0], rewards.return_count[0])
    if rewards.scale == RETURN_DEVIATION or rewards.reward_count[0] == 0:
        return deviation
    share = 1.0 if rewards.scale == REWARD_RMS else cost_share(rewards)
    return float(deviation ** (1.0 - share) * np.sqrt(mean_square(rewards)) ** share)


@compiled
def cost_share(rewards: Rewards) -> float:
    """Compute how much of the rewards' mean square is that of a constant cost."""
    if rewards.scale == NO_SCALE:
        return 0.0
    return float(min(rewards.reward_mean[0], 0.0) ** 2 / mean_square(rewards))


@compiled
def mean_square(rewards: Rewards) -> float:
    """Compute the mean square of the rewards, kept above zero."""
    variance = rewards.reward_squared_deviations[0] / max(rewards.reward_count[0], 1.0)
    return float(rewards.reward_mean[0] ** 2 + variance + STATISTICS_EPSILON)
