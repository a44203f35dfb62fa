"""What every rule in torch asks of a policy."""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from dqn_plugins.errors import DivergenceError
from dqn_plugins.learning.limits import LARGEST_GRADIENT
from dqn_plugins.learning.rules import NaiveRule, StreamRule
from dqn_plugins.learning.transition import rows_of
from dqn_plugins.policies import QPolicy

__all__ = ["action_values", "as_tensor", "refuse_overflow", "td_errors_of"]

ROWS_AT_ONCE = 1024
"""Of so many observations the values are computed at once: of images, the network's layers need
more memory than a rollout itself."""


def as_tensor(policy: QPolicy, obs: Any) -> PyTorchObs:
    """Hand observations, arrays or tensors or a dictionary of them, to the policy's device."""
    if isinstance(obs, dict):
        return {key: th.as_tensor(value, device=policy.device) for key, value in obs.items()}
    return th.as_tensor(obs, device=policy.device)


@th.no_grad()
def action_values(policy: QPolicy, obs: Any) -> th.Tensor:
    """Compute action values, in the units that are learned in, without derivatives."""
    policy.set_training_mode(False)
    tensors = as_tensor(policy, obs)
    n = len(next(iter(tensors.values())) if isinstance(tensors, dict) else tensors)
    parts = (slice(start, start + ROWS_AT_ONCE) for start in range(0, n, ROWS_AT_ONCE))
    values = [policy.q_net.learned_values(rows_of(tensors, part)) for part in parts]
    return th.cat(values).float()  # `autocast` makes others


def td_errors_of(
    rule: NaiveRule | StreamRule,
    advantage_gap: float,
    rewards: np.ndarray,
    next_values: np.ndarray,
    values: np.ndarray,
    taken_values: np.ndarray,
) -> np.ndarray:
    """Compute δ = r + γ·V(s′) − Q(s, a) − α·(V(s) − Q(s, a)), one per row."""
    with np.errstate(over="ignore", invalid="ignore"):
        learned = taken_values + advantage_gap * (values - taken_values)
        td_errors: np.ndarray = rewards + rule.gamma * next_values - learned
        return td_errors.astype(np.float32)


def refuse_overflow(
    gradients: list[th.Tensor], env_index: int, td_error: float, scale: float = 1.0
) -> None:
    """
    Refuse a TD error that overflows, or a gradient whose square would once it is multiplied.

    :param gradients: The gradient, one tensor per parameter.
    :param scale: What it will be multiplied by, at least 0.
    """
    parts = [gradient.abs().max() for gradient in gradients]
    largest = th.stack(parts).max().item() if parts else 0.0  # all may be frozen
    if not (np.isfinite(td_error) and largest * scale < LARGEST_GRADIENT):
        raise DivergenceError(env_index, td_error)
