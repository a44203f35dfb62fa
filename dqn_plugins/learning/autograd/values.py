"""What every rule in torch asks of a policy."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.limits import LARGEST_GRADIENT
from dqn_plugins.learning.rules import NaiveRule, StreamRule
from dqn_plugins.learning.transition import Observation
from dqn_plugins.policies import QPolicy

__all__ = ["as_tensor", "q_values", "refuse_overflow", "rows_of", "td_errors_of"]


def rows_of(obs: Any, rows: Any) -> Any:
    """
    Take some observations.

    :param obs: Observations, arrays or tensors, shape (n_obs, ...), or a dictionary of them; or
        None.
    :param rows: Which ones: indices, shape (n,), or a slice.
    :return: These observations, shape (n, ...).
    """
    if obs is None:
        return None
    if isinstance(obs, dict):
        return {key: value[rows] for key, value in obs.items()}
    return obs[rows]


def as_tensor(policy: QPolicy, obs: Any) -> PyTorchObs:
    """
    Hand observations to torch.

    :param policy: The policy that will look at them.
    :param obs: Observations, arrays or tensors, shape (n, ...), or a dictionary of them.
    :return: The same numbers on the policy's device.
    """
    if isinstance(obs, dict):
        return {key: th.as_tensor(value, device=policy.device) for key, value in obs.items()}
    return th.as_tensor(obs, device=policy.device)


def q_values(policy: QPolicy, obs: Observation) -> np.ndarray:
    """
    Compute action values, in the units that are learned in, without derivatives.

    :param policy: The policy.
    :param obs: Observations, shape (n, ...).
    :return: The values, shape (n, n_actions), float32.
    """
    policy.set_training_mode(False)
    with th.no_grad():
        return policy.q_net.learned_values(as_tensor(policy, obs)).cpu().numpy()


def td_errors_of(
    rule: NaiveRule | StreamRule,
    advantage_gap: float,
    rewards: np.ndarray,
    next_values: np.ndarray,
    values: np.ndarray,
    taken_values: np.ndarray,
) -> np.ndarray:
    """
    Compute δ = r + γ·V(s′) − Q(s, a) − α·(V(s) − Q(s, a)).

    :param rule: The rule, of which this needs γ.
    :param advantage_gap: α.
    :param rewards: Rewards r, shape (n,).
    :param next_values: Values V(s′) of the next states, shape (n,).
    :param values: Values V(s) of the states, shape (n,).
    :param taken_values: Values Q(s, a) of the actions taken, shape (n,).
    :return: TD errors, shape (n,), float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        learned = taken_values + advantage_gap * (values - taken_values)
        td_errors: np.ndarray = rewards + rule.gamma * next_values - learned
        return td_errors.astype(np.float32)


def refuse_overflow(
    gradients: list[th.Tensor], env_index: int, td_error: float, scale: float = 1.0
) -> None:
    """
    Refuse a TD error that overflows, or a gradient whose square would.

    :param gradients: The gradient, one tensor per parameter.
    :param env_index: Index of the environment to name.
    :param td_error: Its TD error.
    :param scale: What the gradient will be multiplied by, at least 0.
    :raises DivergenceError: If an entry is too large or NaN.
    """
    parts = [gradient.abs().max() for gradient in gradients]
    largest = th.stack(parts).max().item() if parts else 0.0  # all may be frozen
    if not (np.isfinite(td_error) and largest * scale < LARGEST_GRADIENT):
        raise DivergenceError(env_index, td_error)
