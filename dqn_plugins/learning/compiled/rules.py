"""What Python calls of compiled code: acting, observing, and the update rules, over one state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

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
from dqn_plugins.learning.compiled.optimizers import (
    Average,
    Optimizer,
    Step,
    clip_norm,
    take_in_gradient,
    take_in_squares,
    take_step,
)
from dqn_plugins.learning.compiled.statistics import (
    Rewards,
    cost_share,
    look_at_reward,
    scale_of_rewards,
    update_statistics,
)
from dqn_plugins.learning.limits import LARGE_TD_ERROR, LARGEST_GRADIENT
from dqn_plugins.learning.rules import GAP_OF_COSTS, NaiveRule, RolloutRule, Rule, StreamRule
from dqn_plugins.policies import RecentMeanSquare

__all__ = [
    "EXPLORATION_RATE",
    "LEARNED",
    "NOT_FINITE",
    "RULES",
    "State",
    "greedy_actions",
    "numbers_of",
    "observe",
    "state_of",
]

# What an update returns; else the index of the environment whose update overflows
LEARNED, NOT_FINITE = -1, -2

# Places in `State.numbers`
EXPLORATION_RATE, EACH, GAMMA, ADVANTAGE_GAP, MAX_GRAD_NORM, Q_STEP_SIZE = range(6)
BOOTSTRAP_AT_TERMINAL, TRACE_DECAY, TRACE_CUT, TD_ERROR_CLIP, TD_ERROR_CLIP_RMS = range(6, 11)
TARGET = 11

# When an exploratory action cuts the trace
CUT_NEVER, CUT_AFTER, CUT_WATKINS = range(3)
TRACE_CUTS = {"never": CUT_NEVER, "after": CUT_AFTER, "watkins": CUT_WATKINS}

# The value of the next state: of its best action, or of those that are taken
MAX, EXPECTED = range(2)
TARGETS = {"max": MAX, "expected": EXPECTED}

MEAN_SQUARE_DECAY = RecentMeanSquare.DECAY

ROWS_AT_ONCE = 32
"""So many observations of a minibatch go through the network at once: what they need fits into the
caches."""


class State(NamedTuple):
    """
    All that a rule works on. What it does not need is there, but not compiled.

    :param network: The network.
    :param optimizer: The optimiser; None if torch takes the steps.
    :param average: The weights' average; None for none.
    :param numbers: The rule's numbers, see :func:`numbers_of`. Python may change them at any time.
    :param rewards: What rewards are scaled by.
    :param traces: Eligibility traces, one row per environment, laid out as the weights.
    :param td_error_total: Sum of squared TD errors, of which earlier ones weigh less, shape (1,).
    :param td_error_weight: Sum of their weights, shape (1,).
    :param gradient: One row, laid out as the weights; written.
    :param descent: −1: the gradient is descended. Shape (1,).
    :param samples: Shape (n_envs, 3, n_units); written.
    :param explored: Whether each action was another than the greedy one, shape (n_envs,); written.
    :param td_errors: Written, shape (n_envs,).
    :param clipped_td_errors: Written, in the units of scaled rewards, shape (n_envs,).
    :param before: Memory for the statistics as they were, shape (3 · n_inputs + 8 + n_envs,).
    """

    network: Network
    optimizer: Optimizer | None
    average: Average | None
    numbers: Doubles
    rewards: Rewards
    traces: Floats
    td_error_total: Doubles
    td_error_weight: Doubles
    gradient: Floats
    descent: Floats
    samples: Floats
    explored: Bools
    td_errors: Floats
    clipped_td_errors: Floats
    before: Doubles


def state_of(memory: Memory, rule: Rule, n_envs: int) -> State:
    """Collect what a rule works on."""
    n_samples = 0 if isinstance(rule, RolloutRule) else n_envs
    return State(
        memory.network,
        memory.optimizer,
        memory.average,
        np.array(numbers_of(rule), np.float64),
        memory.rewards,
        memory.traces,
        *memory.td_errors,
        memory.gradient[np.newaxis],
        np.full(1, -1.0, np.float32),
        np.zeros((n_samples, 3, memory.n_units), np.float32),
        np.zeros(n_envs, np.bool_),
        np.zeros(n_envs, np.float32),
        np.zeros(n_envs, np.float32),
        np.zeros(3 * memory.inputs.n + 8 + n_envs),
    )


def numbers_of(rule: Any) -> list[float]:
    """
    Read the numbers of any rule, 0 for one that it does not have.

    These are, in the order of their places: ε, 1 for learning from each transition by itself, γ,
    the advantage gap or NaN for the one that follows the cost share, the largest norm of the
    gradient or 0 for any, the step size of the target, 1 for bootstrapping from terminal states, λ,
    one of ``CUT_NEVER``, ``CUT_AFTER`` and ``CUT_WATKINS``, the largest TD error that is learned
    from, the same in multiples of their root mean square, and ``MAX`` or ``EXPECTED``.
    """

    def number(name: str, of_none: float = 0.0) -> float:
        value = getattr(rule, name, 0.0)
        return of_none if value is None else float(value)

    return [
        0.0,
        float(getattr(rule, "update", None) == "each"),
        rule.gamma,
        number("advantage_gap", np.nan),
        number("max_grad_norm"),
        number("q_step_size"),
        number("bootstrap_at_terminal"),
        number("trace_decay"),
        TRACE_CUTS[getattr(rule, "trace_cut", "never")],
        number("td_error_clip", np.inf),
        number("td_error_clip_rms", np.inf),
        TARGETS[getattr(rule, "target", "max")],
    ]


@entry_point
def greedy_actions(network: Network, obs: Floats, actions: Ints, masks: Bools | None) -> None:
    """
    Find the actions of the highest values, of one observation after the other, as they are learned
    from: the first of them where several are, of those that are possible.
    """
    sample = sample_in(network.scratch)
    for row in range(obs.shape[0]):
        actions[row] = best_action(forward(network, sample, obs[row], None), masks, row)


@entry_point
def observe(network: Network, obs: Floats) -> None:
    """Take observations into the running statistics, where there are any."""
    for row in range(obs.shape[0]):
        observe_one(network, obs[row])


@entry_point
def learn_naive(
    state: State,
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
    Apply the naive update rule to one transition per environment: fields of :class:`Transition`,
    with observations flattened to shape (n_envs, n_inputs).

    :return: ``LEARNED``; or, with no weight changed, ``NOT_FINITE`` or the row whose update
        overflows.
    """
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE
    network, numbers, gradient = state.network, state.numbers, state.gradient[0]
    n_envs, size = len(actions), group_size(numbers, len(actions))
    for start in range(0, n_envs, size):
        stop, n_valid = start + size, count(valid[start : start + size])

        # TD errors, and the derivatives of the loss: its mean is over all actions and transitions,
        # and only the taken action's entry differs from its target.
        for env in range(start, stop):
            state.td_errors[env] = np.float32(0.0)
            if not valid[env]:
                continue
            best = next_value = np.float32(0.0)
            for is_next in range(1, -1, -1):  # a loop, so that the network is compiled once
                if not is_next and (numbers[BOOTSTRAP_AT_TERMINAL] or not terminated[env]):
                    next_value = best
                sample = sample_in(network.scratch if is_next else state.samples[env - start])
                q_values = forward(network, sample, next_obs[env] if is_next else obs[env], None)
                best = best_value(q_values, next_masks if is_next else masks, env)
            target = rewards[env] + np.float32(numbers[GAMMA]) * next_value
            taken = q_values[actions[env]]
            td_error = target - taken - np.float32(numbers[ADVANTAGE_GAP]) * (best - taken)
            state.td_errors[env] = td_error
            loss_scale = -2.0 * numbers[Q_STEP_SIZE] / (len(q_values) * n_valid)
            derivatives = output_derivatives(network, sample, None)
            for action in range(len(derivatives)):
                derivatives[action] = np.float32(0.0)
            derivatives[actions[env]] = loss_scale * td_error
            backward(network, sample, None)
            bound = gradient_bound(network, sample)
            if not (np.isfinite(td_error) and bound < LARGEST_GRADIENT):
                return env

        # One step of the optimiser on the mean gradient
        kept = 0.0
        for env in range(start, stop):
            if valid[env]:
                sample = sample_in(state.samples[env - start])
                accumulate_gradient(network, sample, kept, gradient, None)
                kept = 1.0
        if n_valid > 0:
            if numbers[MAX_GRAD_NORM] > 0:
                clip_norm(gradient, numbers[MAX_GRAD_NORM])
            step = Step(network.weights, state.gradient, state.descent, 1)
            take_step(state.optimizer, step, state.average)
    return LEARNED


@entry_point
def learn_stream(
    state: State,
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
    Apply Stream Q(λ)'s update rule to one transition per environment. See :func:`learn_naive`.

    :return: ``LEARNED``; or, with nothing changed, ``NOT_FINITE`` or the row whose update
        overflows.
    """
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE
    network, numbers = state.network, state.numbers
    optimizer: Any = state.optimizer  # torch takes no such steps
    td_errors, traces = state.td_errors, state.traces[first_env_index:]
    gamma, trace_cut = numbers[GAMMA], numbers[TRACE_CUT]
    n_envs, size = len(actions), group_size(numbers, len(actions))
    for start in range(0, n_envs, size):
        stop, n_valid = start + size, count(valid[start : start + size])

        advantage_gap = numbers[ADVANTAGE_GAP]
        if np.isnan(advantage_gap):
            advantage_gap = GAP_OF_COSTS * cost_share(state.rewards)

        # First the values of the states, by what was known when they came, and ∇Q(s, a). Then,
        # after a look at the next states and at the rewards, the TD errors. It is a loop, so that
        # the network is compiled once.
        scale = 1.0
        for is_next in range(2):
            if is_next:
                copy_statistics(state, False)
                for env in range(start, stop):
                    if valid[env]:
                        observe_one(network, next_obs[env])
                        look_at_reward(state.rewards, first_env_index + env, rewards[env], gamma)
                scale = scale_of_rewards(state.rewards)
            for env in range(start, stop):
                if not valid[env]:
                    td_errors[env] = state.clipped_td_errors[env] = np.float32(0.0)
                    continue
                sample = sample_in(network.scratch if is_next else state.samples[env - start])
                q_values = forward(network, sample, next_obs[env] if is_next else obs[env], None)
                value = value_of(q_values, next_masks if is_next else masks, env, numbers)
                if not is_next:
                    taken = float(q_values[actions[env]])
                    td_errors[env] = -taken - advantage_gap * (value - taken)
                    state.explored[env] = actions[env] != best_action(q_values, masks, env)
                    derivatives = output_derivatives(network, sample, None)
                    for action in range(len(derivatives)):
                        derivatives[action] = np.float32(action == actions[env])
                    backward(network, sample, None)
                    continue
                next_value = 0.0 if terminated[env] else value
                td_errors[env] += np.float64(rewards[env]) / scale + gamma * next_value
                state.clipped_td_errors[env] = clipped(state, np.float64(td_errors[env]))
                bound = gradient_bound(network, sample_in(state.samples[env - start]))
                if abs(td_errors[env]) > LARGE_TD_ERROR:
                    bound += largest_of(traces[env])
                bound *= max(abs(td_errors[env]), 1.0)
                finite = np.isfinite(td_errors[env])
                td_errors[env] *= scale
                if not (finite and bound < LARGEST_GRADIENT):
                    copy_statistics(state, True)
                    return env

        # The traces: fade, and take in the gradient
        decay, kept = gamma * numbers[TRACE_DECAY], 0.0
        for env in range(start, stop):
            if valid[env]:
                sample = sample_in(state.samples[env - start])
                if state.explored[env] and trace_cut == CUT_WATKINS:
                    clear(traces[env])
                accumulate_gradient(network, sample, decay, traces[env], None)
                take_in_gradient(optimizer, optimizer.squares, network, sample, kept, n_valid)
                kept = 1.0

        # The weights: along the traces
        if n_valid > 0:
            take_in_squares(optimizer, optimizer.squares, decay)
            errors = state.clipped_td_errors[start:stop]
            step = Step(network.weights, traces[start:stop], errors, n_valid)
            take_step(optimizer, step, state.average)

        # What ended is forgotten
        for env in range(start, stop):
            if valid[env] and (dones[env] or (state.explored[env] and trace_cut == CUT_AFTER)):
                clear(traces[env])
            if dones[env]:
                state.rewards.returns[first_env_index + env] = 0.0
    return LEARNED


@entry_point
def learn_minibatches(
    state: State,
    obs: Floats,
    actions: Ints,
    targets: Floats,
    order: Ints,
    n_batches: int,
    values: Floats,
) -> int:
    """
    Take one step for each minibatch, on the mean squared error of the values of actions; or learn
    nothing, but compute the values of all actions.

    :param state: What to work on.
    :param obs: Observations, shape (n, n_inputs), of any number type.
    :param actions: Actions, shape (n,).
    :param targets: What their values are to be, shape (n,).
    :param order: Which rows make the minibatches, one after the other, shape (n_rows,).
    :param n_batches: How many minibatches these are: the first ones are longer by one row where
        they cannot all be of one length. 0 to learn nothing.
    :param values: Written if nothing is learned: the values, shape (n_rows, n_actions).
    :return: ``LEARNED``; or the minibatch whose gradient is too large or NaN, with no step for it.
    """
    network, max_norm, gradient = state.network, state.numbers[MAX_GRAD_NORM], state.gradient[0]
    n_inputs, flat_obs, n_units = obs.shape[1], obs.reshape(-1), network.scratch.shape[1]
    flat_values = values.reshape(-1)
    n_at_once = min(ROWS_AT_ONCE, max(len(order), 1))
    sample = sample_in(np.empty((3, n_at_once * n_units), np.float32))
    inputs = np.empty(n_at_once * n_inputs, np.float32)
    size, n_longer = divmod(len(order), max(n_batches, 1))
    start = 0
    for batch in range(max(n_batches, 1)):
        stop = start + size + (1 if batch < n_longer else 0)
        slope = np.float32(2.0 / max(stop - start, 1))
        kept = 0.0
        while start < stop:
            rows = order[start : min(start + n_at_once, stop)]
            n = len(rows)
            for i in range(n):
                for k in range(n_inputs):
                    inputs[i * n_inputs + k] = flat_obs[rows[i] * n_inputs + k]
            q_values = forward(network, sample, inputs[: n * n_inputs], n)
            n_actions = len(q_values) // n
            if n_batches == 0:
                for i in range(len(q_values)):
                    flat_values[start * n_actions + i] = q_values[i]
                start += n
                continue
            derivatives = output_derivatives(network, sample, n)
            for i in range(len(derivatives)):
                derivatives[i] = np.float32(0.0)
            for i in range(n):
                taken = i * n_actions + actions[rows[i]]
                derivatives[taken] = (q_values[taken] - targets[rows[i]]) * slope
            backward(network, sample, n)
            accumulate_gradient(network, sample, kept, gradient, n)
            start, kept = start + n, 1.0
        if n_batches == 0:
            break
        square = np.float32(0.0)
        for entry in gradient:
            square += entry * entry
        if not np.sqrt(square) < LARGEST_GRADIENT:
            clear(gradient)  # 0 times infinity would be left of it in the next one
            return batch
        if max_norm > 0:
            clip_norm(gradient, max_norm)
        step = Step(network.weights, state.gradient, state.descent, 1)
        take_step(state.optimizer, step, state.average)
    return LEARNED


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


@compiled
def observe_one(network: Network, obs: Floats) -> None:
    """Take one observation into the running statistics, where there are any."""
    for part in range(network.obs_count.size):
        network.obs_count[part] += 1.0
    for i in range(network.obs_places.size):
        number, count = obs[network.obs_places[i]], network.obs_count[0]
        update_statistics(number, i, network.obs_mean, network.obs_squared_deviations, count)


@compiled
def group_size(numbers: Doubles, n_envs: int) -> int:
    """Tell from how many environments' transitions to learn at once, at least 1."""
    return 1 if numbers[EACH] else max(n_envs, 1)


@compiled
def count(flags: Bools) -> int:
    """Count what is true."""
    n = 0
    for flag in flags:
        n += flag
    return n


@compiled
def all_finite(values: Floats) -> bool:
    """Look for NaN, infinity, and what would be infinity in float32."""
    for value in values.flat:  # noqa: SIM110 - compiled code has no generators
        if not np.isfinite(np.float32(value)):
            return False
    return True


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
def clipped(state: State, td_error: float) -> float:
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
def all_statistics(state: State) -> tuple[Doubles, ...]:
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
def copy_statistics(state: State, restores: bool) -> None:
    """Write the statistics down, or make them again what was written down."""
    before, place = state.before, 0
    for numbers in all_statistics(state):
        for i in range(numbers.size):
            if restores:
                numbers[i] = before[place]
            else:
                before[place] = numbers[i]
            place += 1


RULES: dict[type[Rule], Callable[..., int]] = {
    NaiveRule: learn_naive,
    StreamRule: learn_stream,
    RolloutRule: learn_minibatches,
}
"""The entry point of each rule that is compiled."""
