"""What a model thinks an observation is worth, whatever kind of model it is."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["ValueKind", "Values", "value_kind", "values_of"]

ValueKind: TypeAlias = Literal["Q", "V"]
"""One value per action, or that of the state."""


class Values(NamedTuple):
    """
    What a model expects.

    :param kind: Which values.
    :param numbers: Float array of shape (n_actions,), or (1,) for the state.
    """

    kind: ValueKind
    numbers: npt.NDArray[np.float64]


def value_kind(model: Any) -> ValueKind | None:
    """
    Tell which values :func:`values_of` finds.

    :param model: As there.
    :return: Their kind; None if the model has no values.
    """
    policy = getattr(model, "policy", None)
    if policy is None:
        return "Q" if callable(model) else None
    if any(getattr(policy, name, None) is not None for name in ("q_net", "quantile_net")):
        return "Q"
    return "V" if hasattr(policy, "predict_values") else None


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
    kind, policy = value_kind(model), getattr(model, "policy", None)
    if kind is None:
        return None
    if policy is None:
        return Values(kind, np.asarray(model(observation), np.float64).reshape(-1))
    import torch

    average = None if learning else getattr(policy, "average_q_net", None)
    q_net = average or getattr(policy, "q_net", None)

    with torch.no_grad():
        tensor, _ = policy.obs_to_tensor(observation)
        if q_net is not None:
            values = q_net(tensor)
        elif kind == "Q":
            values = policy.quantile_net(tensor).mean(dim=1)
        else:
            values = policy.predict_values(tensor)
    return Values(kind, values.cpu().numpy().astype(np.float64).reshape(-1))
