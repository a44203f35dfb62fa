"""What compiled code does with a network besides learning: values, actions, and a look."""

import numpy as np

from dqn_plugins.learning.compiled.compilation import Bools, Floats, Ints, compiled, entry_point
from dqn_plugins.learning.compiled.layers import Network, forward, sample_in
from dqn_plugins.learning.compiled.statistics import update_statistics

__all__ = [
    "action_values",
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


@entry_point
def action_values(network: Network, obs: Floats, n_at_once: int, values: Floats) -> None:
    """
    Compute the values of all actions, of many observations at once.

    :param network: The network.
    :param obs: Observations, shape (n, n_inputs), of any number type.
    :param n_at_once: How many of them at once.
    :param values: Written: the values, shape (n, n_actions).
    """
    n_inputs, n_actions = obs.shape[1], values.shape[1]
    flat_obs, flat_values = obs.reshape(-1), values.reshape(-1)
    n_at_once = min(n_at_once, obs.shape[0])
    sample = sample_in(np.empty((3, n_at_once * network.scratch.shape[1]), np.float32))
    inputs = np.empty(n_at_once * n_inputs, np.float32)
    for start in range(0, obs.shape[0], max(n_at_once, 1)):
        n = min(n_at_once, obs.shape[0] - start)
        for i in range(n * n_inputs):
            inputs[i] = flat_obs[start * n_inputs + i]
        outputs = forward(network, sample, inputs[: n * n_inputs], n)
        for i in range(outputs.size):
            flat_values[start * n_actions + i] = outputs[i]


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
