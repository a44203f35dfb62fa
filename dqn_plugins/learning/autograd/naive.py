"""The naive update rule in torch."""

import numpy as np
import torch as th
from torch.nn import functional as F

from dqn_plugins.learning.autograd.values import (
    action_values,
    as_tensor,
    refuse_overflow,
    td_errors_of,
)
from dqn_plugins.learning.rules import NaiveRule
from dqn_plugins.learning.transition import Transition, rows_of
from dqn_plugins.policies import QPolicy
from dqn_plugins.policies.action_masks import possible_values

__all__ = ["learn_naive"]


def learn_naive(
    policy: QPolicy,
    rule: NaiveRule,
    transition: Transition,
    rows: np.ndarray,
    exploration_rate: float,
) -> np.ndarray:
    """Take one gradient step on the mean over transitions. See :class:`NaiveRule`."""
    taken = np.arange(len(rows)), transition.actions[rows]

    # The value of the next state, zero where there is none
    next_values = action_values(policy, rows_of(transition.next_obs, rows)).cpu().numpy()
    masks = rows_of(transition.next_action_masks, rows)
    next_values = possible_values(next_values, masks).max(axis=1)
    if not rule.bootstrap_at_terminal:
        next_values[transition.terminated[rows]] = 0.0

    # The TD error, and a target that moves only the taken action, by α times the TD error
    policy.set_training_mode(True)
    values = policy.q_net.learned_values(as_tensor(policy, rows_of(transition.obs, rows)))
    target = values.detach().cpu().numpy().copy()
    masks = rows_of(transition.action_masks, rows)
    rewards, best = transition.rewards[rows], possible_values(target, masks).max(axis=1)
    td_errors = td_errors_of(rule, rule.advantage_gap, rewards, next_values, best, target[taken])
    first, env_indices = int(np.isfinite(td_errors).argmin()), transition.first_env_index + rows
    refuse_overflow([], int(env_indices[first]), float(td_errors[first]))
    target[taken] += rule.q_step_size * td_errors

    if not values.requires_grad:  # all is frozen
        return td_errors

    # One gradient step on the mean squared error over all actions
    loss = F.mse_loss(values, th.as_tensor(target, device=values.device))
    policy.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [param.grad for param in policy.q_net.parameters() if param.grad is not None]
    worst = int(np.abs(td_errors).argmax())
    refuse_overflow(gradients, int(env_indices[worst]), float(td_errors[worst]))
    if rule.max_grad_norm is not None:
        th.nn.utils.clip_grad_norm_(policy.parameters(), rule.max_grad_norm)
    policy.optimizer.step()
    return td_errors
