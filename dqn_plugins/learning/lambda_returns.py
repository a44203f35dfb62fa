"""λ-returns: what a rollout says each of its actions was worth."""

import torch as th

__all__ = ["lambda_returns"]


@th.no_grad()
def lambda_returns(
    rewards: th.Tensor,
    next_values: th.Tensor,
    terminated: th.Tensor,
    dones: th.Tensor,
    gamma: float,
    q_lambda: float,
) -> th.Tensor:
    r"""
    Compute the λ-returns of a rollout of several environments.

    .. math::
        G_t = r_t + \gamma\,\bigl[(1 - \lambda)\,V(s_{t+1}) + \lambda\,G_{t+1}\bigr]

    where V is the value of the greedy action, :math:`\max_a Q(s, a)`. Three steps have no
    :math:`G_{t+1}`: of a terminal state the whole bracket is 0; at a truncation, and at the end of
    the rollout, it is :math:`V(s_{t+1})`. So ``next_values`` has to hold the values of the states
    that the steps led to, at a truncation that of the episode's last observation, never that of the
    first observation of the next one.

    Source: Gallici et al. (2024), "Simplifying Deep Temporal Difference Learning", arXiv
    2407.04811, section 4.1; Peng and Williams (1994), "Incremental Multi-Step Q-Learning": returns
    are not cut at exploratory actions.

    :param rewards: Rewards r, shape (n_steps, n_envs), float.
    :param next_values: Values V(s′) of the states that each step led to, shape (n_steps, n_envs),
        float. What stands there for a terminal state is without effect, if it is finite.
    :param terminated: Whether these states are terminal, shape (n_steps, n_envs), bool.
    :param dones: Whether the episode ended with the step, terminated or truncated, shape
        (n_steps, n_envs), bool.
    :param gamma: Discount factor γ, in [0, 1].
    :param q_lambda: λ, in [0, 1]: 0 for one-step targets, 1 for all rewards of the rollout.
    :return: The returns, shape (n_steps, n_envs), of the type and on the device of ``rewards``.
    """
    # G_t = known_t + weight_t · G_{t+1}: one operation for each step is left.
    weights = (~dones).to(rewards.dtype) * (gamma * q_lambda)
    weights[-1] = 0.0
    known = rewards + (gamma * (~terminated).to(rewards.dtype) - weights) * next_values
    steps, later_weights = known.unbind(), weights.unbind()
    for t in range(len(steps) - 2, -1, -1):
        steps[t].addcmul_(later_weights[t], steps[t + 1])
    return known
