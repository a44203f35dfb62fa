"""What compiled code does with a network besides learning: values, actions, and a look."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Bools, Floats, Ints, compiled, entry_point
from dqn_plugins.learning.compiled.layers import Network, forward, sample_in
from dqn_plugins.learning.compiled.statistics import update_statistics

__all__ = [
    "best_action",
    "best_value",
    "greedy_actions",
    "observe",
    "observe_one",
]


@entry_point
def greedy_actions(network: Network, obs: Floats, actions: Ints, masks: Bools | None) -> None:
    """
    Find the actions of the highest values, of one observation after the other, as they are learned
    from.

    :param network: The network.
    :param obs: Observations, shape (n, n_inputs).
    :param actions: Written: the actions, the first of them where several are, shape (n,).
    :param masks: Which actions are possible, shape (n, n_actions); None for all.
    """
    sample = sample_in(network.scratch)
    for row in range(obs.shape[0]):
        actions[row] = best_action(forward(network, sample, obs[row], None), masks, row)


@compiled
def best_action(values: Floats, masks: Bools | None, row: int) -> int:
    """Find the possible action of the highest value, the first of them where several are."""
    best = 0
    if masks is not None:
        while best < values.size - 1 and not masks[row, best]:
            best += 1
    for action in range(best + 1, values.size):
        if masks is not None and not masks[row, action]:
            continue
        if values[action] > values[best] or np.isnan(values[action]) > np.isnan(values[best]):
            best = action
    return best


@compiled
def best_value(values: Floats, masks: Bools | None, row: int) -> np.float32:
    """Find the highest value of a possible action; 0 if none is possible."""
    best = best_action(values, masks, row)
    if masks is not None and not masks[row, best]:
        return np.float32(0.0)
    return values[best]  # type: ignore[no-any-return]


@entry_point
def observe(network: Network, obs: Floats) -> None:
    """
    Take observations into the running statistics, where there are any.

    :param network: The network.
    :param obs: Observations, shape (n, n_inputs).
    """
    for row in range(obs.shape[0]):
        observe_one(network, obs[row])


@compiled
def observe_one(network: Network, obs: Floats) -> None:
    """Take one observation into the running statistics, where there are any."""
    if network.obs_mean.size > 0:
        update_statistics(obs, network.obs_mean, network.obs_squared_deviations, network.obs_count)
