"""Stream Q(λ)'s update rule in torch."""

import numpy as np
import torch as th

from dqn_plugins.learning.autograd.values import (
    action_values,
    as_tensor,
    refuse_overflow,
    td_errors_of,
)
from dqn_plugins.learning.limits import LARGE_TD_ERROR
from dqn_plugins.learning.rules import GAP_OF_COSTS, StreamRule
from dqn_plugins.learning.transition import Transition, rows_of
from dqn_plugins.policies import StreamQPolicy
from dqn_plugins.policies.action_masks import possible_values

__all__ = ["learn_stream"]


def learn_stream(
    policy: StreamQPolicy,
    rule: StreamRule,
    transition: Transition,
    rows: np.ndarray,
    exploration_rate: float,
) -> np.ndarray:
    """Move the weights along the traces by the mean over transitions. See :class:`StreamRule`."""
    q_net, optimizer = policy.q_net, policy.optimizer
    parameters = optimizer.trainable()
    actions, dones = transition.actions[rows], transition.dones[rows]
    env_indices = transition.first_env_index + rows

    # The action values, normalised by what was known when the observations came, and ∇Q(s, a)
    policy.set_training_mode(True)
    values = q_net.learned_values(as_tensor(policy, rows_of(transition.obs, rows)))
    q, masks = values.detach().cpu().numpy(), rows_of(transition.action_masks, rows)
    explored = possible_values(q, masks).argmax(axis=1) != actions
    taken_values = values[np.arange(len(rows)), actions]
    gradients = [
        th.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
        for value in taken_values
        if value.requires_grad
    ] or [()] * len(rows)  # all is frozen

    advantage_gap = rule.advantage_gap
    if advantage_gap is None:
        advantage_gap = GAP_OF_COSTS * q_net.cost_share

    # The TD errors, after a look at the next observations and at the scale of the rewards
    before = [buffer.clone() for buffer in policy.buffers()]
    next_obs = rows_of(transition.next_obs, rows)
    if q_net.observation_normalizer is not None:
        q_net.observation_normalizer.update(as_tensor(policy, next_obs))
    rewards = transition.rewards[rows]
    if q_net.reward_normalizer is not None:
        raw_rewards = th.as_tensor(rewards, device=policy.device)
        rewards = q_net.reward_normalizer(raw_rewards, rule.gamma, env_indices).cpu().numpy()
    next_masks = rows_of(transition.next_action_masks, rows)
    next_q = action_values(policy, next_obs).cpu().numpy()
    next_values = _state_values(next_q, next_masks, rule, exploration_rate)
    next_values[transition.terminated[rows]] = 0.0
    state_values = _state_values(q, masks, rule, exploration_rate)
    td_errors = td_errors_of(
        rule, advantage_gap, rewards, next_values, state_values, q[np.arange(len(rows)), actions]
    )
    try:
        for env, gradient, td_error in zip(env_indices.tolist(), gradients, td_errors, strict=True):
            factors = list(gradient)
            if abs(td_error) > LARGE_TD_ERROR:
                factors += [optimizer.state[param]["trace"][env] for param in parameters]
            refuse_overflow(factors, env, float(td_error), max(abs(float(td_error)), 1.0))
    except FloatingPointError:
        for buffer, value in zip(policy.buffers(), before, strict=True):
            buffer.copy_(value)
        raise

    # The traces: fade, and take in the gradient
    if rule.trace_cut == "watkins":
        for env in env_indices[explored].tolist():
            optimizer.clear(env)
    optimizer.accumulate(gradients, rule.gamma * rule.trace_decay, env_indices)

    # The weights: along the traces
    clipped = np.array([_clipped(float(error), policy, rule) for error in td_errors], np.float32)
    optimizer.step(th.as_tensor(clipped, device=policy.device), env_indices)
    policy.update_average(len(rows))

    # What ended is forgotten
    for env, is_explored, done in zip(env_indices.tolist(), explored, dones, strict=True):
        if done or (is_explored and rule.trace_cut == "after"):
            optimizer.clear(env)
        if done and q_net.reward_normalizer is not None:
            q_net.reward_normalizer.returns[env] = 0.0
    return td_errors * np.float32(q_net.reward_scale)


def _clipped(td_error: float, policy: StreamQPolicy, rule: StreamRule) -> float:
    """Take a TD error into their mean square, and clip it."""
    policy.td_errors.update(td_error)
    clip = np.inf if rule.td_error_clip is None else rule.td_error_clip
    if rule.td_error_clip_rms is not None:
        clip = min(clip, rule.td_error_clip_rms * policy.td_errors.root)
    return min(max(td_error, -clip), clip)


def _state_values(
    values: np.ndarray, masks: np.ndarray | None, rule: StreamRule, exploration_rate: float
) -> np.ndarray:
    """Compute the values of states from those of their possible actions, shape (n, n_actions)."""
    best: np.ndarray = possible_values(values, masks).max(axis=1)
    if rule.target == "max":
        return best
    if masks is None:
        mean = values.mean(axis=1, dtype=np.float64)
    else:
        n_possible = np.maximum(masks.sum(axis=1), 1)
        mean = np.where(masks, values, 0.0).sum(axis=1, dtype=np.float64) / n_possible
    expected: np.ndarray = (1.0 - exploration_rate) * best.astype(np.float64)
    expected += exploration_rate * mean
    return expected
