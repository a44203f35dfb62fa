"""What compiled code does with a network besides learning: choose actions, and look."""

from dqn_plugins.learning.compiled.compilation import Floats, Ints, compiled, entry_point
from dqn_plugins.learning.compiled.layers import Network, forward, sample_in
from dqn_plugins.learning.compiled.statistics import update_statistics

__all__ = ["greedy_actions", "observe", "observe_one"]


@entry_point
def greedy_actions(network: Network, obs: Floats, actions: Ints) -> None:
    """
    Find the actions of the highest values.

    :param network: The network.
    :param obs: Observations, shape (n, n_inputs).
    :param actions: Written: the actions, the first of them where several are, shape (n,).
    """
    sample = sample_in(network.scratch)
    for row in range(obs.shape[0]):
        actions[row] = forward(network, sample, obs[row]).argmax()


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
