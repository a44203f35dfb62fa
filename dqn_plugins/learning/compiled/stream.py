"""Stream Q(λ)'s update rule in compiled code."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.acting import best_action, best_value, observe_one
from dqn_plugins.learning.compiled.compilation import (
    Bools,
    Doubles,
    Floats,
    Ints,
    compiled,
    entry_point,
)
from dqn_plugins.learning.compiled.layers import (
    Network,
    accumulate_gradient,
    backward,
    forward,
    gradient_bound,
    output_derivatives,
    sample_in,
)
from dqn_plugins.learning.compiled.memory import Memory
from dqn_plugins.learning.compiled.numbers import LEARNED, NOT_FINITE, all_finite
from dqn_plugins.learning.compiled.optimizers import (
    Average,
    Optimizer,
    Step,
    take_in_gradient,
    take_in_squares,
    take_step,
)
from dqn_plugins.learning.compiled.rewards import (
    Rewards,
    cost_share,
    look_at_reward,
    scale_of_rewards,
)
from dqn_plugins.learning.compiled.rule import EACH, EXPLORATION_RATE, CompiledRule
from dqn_plugins.learning.limits import LARGE_TD_ERROR, LARGEST_GRADIENT
from dqn_plugins.learning.rules import GAP_OF_COSTS, StreamRule
from dqn_plugins.policies import RecentMeanSquare

__all__ = ["STREAM"]

# Places in `StreamState.numbers`, after those that every rule has
GAMMA, TRACE_DECAY, TRACE_CUT, TD_ERROR_CLIP, TD_ERROR_CLIP_RMS, TARGET = range(2, 8)
ADVANTAGE_GAP = 8

# When an exploratory action cuts the trace
CUT_NEVER, CUT_AFTER, CUT_WATKINS = range(3)
TRACE_CUTS = {"never": CUT_NEVER, "after": CUT_AFTER, "watkins": CUT_WATKINS}

# The value of the next state: of its best action, or of those that are taken
MAX, EXPECTED = range(2)
TARGETS = {"max": MAX, "expected": EXPECTED}


MEAN_SQUARE_DECAY = RecentMeanSquare.DECAY


class StreamState(NamedTuple):
    """
    All that Stream Q(λ) works on.

    :param network: The network.
    :param optimizer: The optimiser.
    :param average: The weights' average; None for none.
    :param numbers: The rule's numbers: ε, 1 for learning from each transition by itself, γ, λ, one
        of ``CUT_NEVER``, ``CUT_AFTER`` and ``CUT_WATKINS``, the largest TD error that is learned
        from, the same in multiples of their root mean square, ``MAX`` or ``EXPECTED``, and α
        or NaN for the one that follows the cost share.
        Python may change them at any time. Shape (9,).
    :param traces: Eligibility traces, one row per environment, laid out as the weights.
    :param rewards: What rewards are scaled by.
    :param td_error_total: Sum of squared TD errors, of which earlier ones weigh less, shape (1,).
    :param td_error_weight: Sum of their weights, shape (1,).
    :param samples: Shape (n_envs, 3, n_units); written.
    :param explored: Whether each action was another than the greedy one, shape (n_envs,); written.
    :param td_errors: Written, shape (n_envs,).
    :param clipped_td_errors: Written, in the units of scaled rewards, shape (n_envs,).
    :param before: Memory for the statistics as they were, shape (2 · n_inputs + 9 + n_envs,).
    """

    network: Network
    optimizer: Optimizer
    average: Average | None
    numbers: Doubles
    traces: Floats
    rewards: Rewards
    td_error_total: Doubles
    td_error_weight: Doubles
    samples: Floats
    explored: Bools
    td_errors: Floats
    clipped_td_errors: Floats
    before: Doubles


@entry_point
def learn_stream(
    state: StreamState,
    obs: Floats,
    actions: Ints,
    rewards: Floats,
    next_obs: Floats,
    terminated: Bools,
    dones: Bools,
    valid: Bools,
    first_env_index: int,
    masks: Bools | None,
    next_masks: Bools | None,
) -> int:
    """
    Apply Stream Q(λ)'s update rule to one transition per environment.

    :param state: What to work on.
    :param obs: As the other arrays, a field of :class:`Transition`, observations flattened to shape
        (n_envs, n_inputs).
    :param first_env_index: Index of the environment of the first row.
    :param masks: Which actions were possible, shape (n_envs, n_actions); None for all.
    :param next_masks: Which are possible next, likewise.
    :return: ``LEARNED``; or, with nothing changed, ``NOT_FINITE`` or the row whose update
        overflows.
    """
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE
    network, numbers = state.network, state.numbers
    td_errors, traces = state.td_errors, state.traces[first_env_index:]
    gamma, trace_cut = numbers[GAMMA], numbers[TRACE_CUT]
    n_envs = len(actions)
    size = 1 if numbers[EACH] else n_envs
    for start in range(0, n_envs, max(size, 1)):
        stop, n_valid = start + size, 0
        for env in range(start, stop):
            n_valid += valid[env]

        advantage_gap = numbers[ADVANTAGE_GAP]
        if np.isnan(advantage_gap):
            advantage_gap = GAP_OF_COSTS * cost_share(state.rewards)

        # The action values, normalised by what was known when the observations came, and ∇Q(s, a)
        for env in range(start, stop):
            if valid[env]:
                sample = sample_in(state.samples[env - start])
                q_values = forward(network, sample, obs[env], None)
                taken = float(q_values[actions[env]])
                gap = value_of(q_values, masks, env, numbers) - taken
                td_errors[env] = -taken - advantage_gap * gap
                state.explored[env] = actions[env] != best_action(q_values, masks, env)
                derivatives = output_derivatives(network, sample, None)
                for action in range(len(derivatives)):
                    derivatives[action] = np.float32(action == actions[env])
                backward(network, sample, None)

        # The TD errors, after a look at the next observations and at the scale of the rewards
        keep_statistics(state)
        for env in range(start, stop):
            if valid[env]:
                observe_one(network, next_obs[env])
                look_at_reward(state.rewards, first_env_index + env, rewards[env], gamma)
        scale = scale_of_rewards(state.rewards)
        for env in range(start, stop):
            state.clipped_td_errors[env] = np.float32(0.0)
            if not valid[env]:
                td_errors[env] = np.float32(0.0)
                continue
            next_value = 0.0
            if not terminated[env]:
                q_values = forward(network, sample_in(network.scratch), next_obs[env], None)
                next_value = value_of(q_values, next_masks, env, numbers)
            td_errors[env] += np.float64(rewards[env]) / scale + gamma * next_value
            state.clipped_td_errors[env] = clipped(state, np.float64(td_errors[env]))
            bound = gradient_bound(network, sample_in(state.samples[env - start]))
            if abs(td_errors[env]) > LARGE_TD_ERROR:
                bound += largest_of(traces[env])
            bound *= max(abs(td_errors[env]), 1.0)
            finite = np.isfinite(td_errors[env])
            td_errors[env] *= scale
            if not (finite and bound < LARGEST_GRADIENT):
                restore_statistics(state)
                return env

        # The traces: fade, and take in the gradient
        decay, kept = gamma * numbers[TRACE_DECAY], 0.0
        for env in range(start, stop):
            if valid[env]:
                sample = sample_in(state.samples[env - start])
                if state.explored[env] and trace_cut == CUT_WATKINS:
                    clear(traces[env])
                accumulate_gradient(network, sample, decay, traces[env], None)
                take_in_gradient(state.optimizer, network, sample, kept, n_valid)
                kept = 1.0

        # The weights: along the traces
        if n_valid > 0:
            take_in_squares(state.optimizer, decay)
            errors = state.clipped_td_errors[start:stop]
            step = Step(network.weights, traces[start:stop], errors, n_valid)
            take_step(state.optimizer, step, state.average)

        # What ended is forgotten
        for env in range(start, stop):
            if valid[env] and (dones[env] or (state.explored[env] and trace_cut == CUT_AFTER)):
                clear(traces[env])
            if dones[env]:
                state.rewards.returns[first_env_index + env] = 0.0
    return LEARNED


@compiled
def largest_of(values: Floats) -> float:
    """Find the largest absolute value."""
    largest = np.float32(0.0)
    for value in values:
        largest = max(largest, abs(value))
    return float(largest)


@compiled
def clear(values: Floats) -> None:
    """Make all zero."""
    for i in range(values.size):
        values[i] = np.float32(0.0)


@compiled
def clipped(state: StreamState, td_error: float) -> float:
    """Take a TD error into their mean square, and clip it."""
    total, weight, numbers = state.td_error_total, state.td_error_weight, state.numbers
    total[0] = MEAN_SQUARE_DECAY * total[0] + td_error * td_error
    weight[0] = MEAN_SQUARE_DECAY * weight[0] + 1.0
    clip = numbers[TD_ERROR_CLIP]
    if np.isfinite(numbers[TD_ERROR_CLIP_RMS]):
        clip = min(clip, numbers[TD_ERROR_CLIP_RMS] * np.sqrt(total[0] / weight[0]))
    return float(min(max(td_error, -clip), clip))


@compiled
def value_of(q_values: Floats, masks: Bools | None, row: int, numbers: Doubles) -> float:
    """Compute the value of a state from those of its possible actions."""
    value = float(best_value(q_values, masks, row))
    if numbers[TARGET] == EXPECTED:
        total, n_possible = np.float32(0.0), len(q_values)
        if masks is None:
            for q_value in q_values:
                total += q_value
        else:
            n_possible = 0
            for action in range(len(q_values)):
                if masks[row, action]:
                    total += q_values[action]
                    n_possible += 1
        epsilon = numbers[EXPLORATION_RATE]
        value = (1.0 - epsilon) * value + epsilon * (float(total) / max(n_possible, 1))
    return value


@compiled
def all_statistics(state: StreamState) -> tuple[Doubles, ...]:
    """Collect what a look at a transition changes."""
    network, rewards = state.network, state.rewards
    return (
        network.obs_mean,
        network.obs_squared_deviations,
        network.obs_count,
        rewards.return_mean,
        rewards.return_squared_deviations,
        rewards.return_count,
        rewards.reward_mean,
        rewards.reward_squared_deviations,
        rewards.reward_count,
        rewards.returns,
        state.td_error_total,
        state.td_error_weight,
    )


@compiled
def keep_statistics(state: StreamState) -> None:
    """Write down the statistics, for :func:`restore_statistics`."""
    start = 0
    for numbers in all_statistics(state):
        for i in range(numbers.size):
            state.before[start + i] = numbers[i]
        start += numbers.size


@compiled
def restore_statistics(state: StreamState) -> None:
    """Make the statistics what they were at :func:`keep_statistics`."""
    start = 0
    for numbers in all_statistics(state):
        for i in range(numbers.size):
            numbers[i] = state.before[start + i]
        start += numbers.size


def _bind(memory: Memory, numbers: np.ndarray, td_errors: np.ndarray) -> StreamState:
    n_envs = len(td_errors)
    n_statistics = 2 * memory.n_inputs + 1 + 6 + n_envs + 2
    return StreamState(
        memory.network,
        memory.optimizer,
        memory.average,
        numbers,
        memory.traces,
        memory.rewards,
        *memory.td_errors,
        np.zeros((n_envs, 3, memory.n_units), np.float32),
        np.zeros(n_envs, np.bool_),
        td_errors,
        np.zeros(n_envs, np.float32),
        np.zeros(n_statistics),
    )


def _numbers(rule: StreamRule) -> list[float]:
    return [
        0.0,
        rule.update == "each",
        rule.gamma,
        rule.trace_decay,
        TRACE_CUTS[rule.trace_cut],
        np.inf if rule.td_error_clip is None else rule.td_error_clip,
        np.inf if rule.td_error_clip_rms is None else rule.td_error_clip_rms,
        TARGETS[rule.target],
        np.nan if rule.advantage_gap is None else rule.advantage_gap,
    ]


STREAM = CompiledRule(_bind, _numbers, learn_stream)
