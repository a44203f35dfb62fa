"""What a model thinks an observation is worth, whatever kind of model it is."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Values", "values_of"]


class Values(NamedTuple):
    """
    What a model expects.

    :param kind: ``"Q"`` for one value per action, ``"V"`` for that of the state.
    :param numbers: Float array of shape (n_actions,), or (1,) for the state.
    """

    kind: Literal["Q", "V"]
    numbers: npt.NDArray[np.float64]


def values_of(model: Any, observation: Any, learning: bool = False) -> Values | None:
    """
    Ask a model for its values. Nothing random is drawn, and nothing is learned.

    :param model: A Stable-Baselines3 model with a Q-network (``DQN`` and its kin), quantiles
        (``QRDQN``) or a critic (``PPO``, ``A2C``), or a function from one observation to its
        Q-values.
    :param observation: One observation, as the model sees it: normalised and stacked already.
    :param learning: Whether to ask the weights that are learned with, where ``predict`` acts by
        their average.
    :return: The values; None if the model has none, as random actions.

    Example::

        import gymnasium as gym
        from dqn_plugins.values import values_of
        from stable_baselines3 import DQN

        env = gym.make("CartPole-v1")
        kind, numbers = values_of(DQN("MlpPolicy", env), env.reset(seed=0)[0])
        assert (kind, numbers.shape) == ("Q", (2,))
    """
    policy = getattr(model, "policy", None)
    if policy is None:
        if not callable(model):
            return None
        return Values("Q", np.asarray(model(observation), np.float64).reshape(-1))
    average = None if learning else getattr(policy, "average_q_net", None)
    q_net = average or getattr(policy, "q_net", None)
    quantiles = getattr(policy, "quantile_net", None)
    if q_net is None and quantiles is None and not hasattr(policy, "predict_values"):
        return None
    import torch

    with torch.no_grad():
        tensor, _ = policy.obs_to_tensor(observation)
        if q_net is not None:
            values = q_net(tensor)
        elif quantiles is not None:
            values = quantiles(tensor).mean(dim=1)
        else:
            values = policy.predict_values(tensor)
    of_actions = q_net is not None or quantiles is not None
    numbers = values.cpu().numpy().astype(np.float64).reshape(-1)
    return Values("Q" if of_actions else "V", numbers)
