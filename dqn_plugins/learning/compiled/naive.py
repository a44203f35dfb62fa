"""The naive update rule in compiled code."""

from typing import NamedTuple

import numpy as np

from dqn_plugins.learning.compiled.acting import best_value
from dqn_plugins.learning.compiled.compilation import Bools, Doubles, Floats, Ints, entry_point
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
    clip_norm,
    take_step,
)
from dqn_plugins.learning.compiled.rule import EACH, CompiledRule
from dqn_plugins.learning.limits import LARGEST_GRADIENT
from dqn_plugins.learning.rules import NaiveRule

__all__ = ["NAIVE"]

# Places in `NaiveState.numbers`, after those that every rule has
GAMMA, Q_STEP_SIZE, BOOTSTRAP_AT_TERMINAL, MAX_GRAD_NORM, ADVANTAGE_GAP = range(2, 7)


class NaiveState(NamedTuple):
    """
    All that the naive rule works on.

    :param network: The network.
    :param optimizer: The optimiser; None if torch takes the step.
    :param average: No average.
    :param numbers: The rule's numbers: ε (without effect), 1 for learning from each transition by
        itself, γ, α, 1 for bootstrapping from terminal states, the largest norm of the gradient or
        0 for any, and the advantage gap. Shape (7,).
    :param samples: Shape (n_envs, 3, n_units); written.
    :param gradient: One row, laid out as the weights; written.
    :param errors: −1: the gradient is descended. Shape (1,).
    :param td_errors: Written, shape (n_envs,).
    """

    network: Network
    optimizer: Optimizer | None
    average: Average | None
    numbers: Doubles
    samples: Floats
    gradient: Floats
    errors: Floats
    td_errors: Floats


@entry_point
def learn_naive(
    state: NaiveState,
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
    Apply the naive update rule to one transition per environment.

    :param state: What to work on.
    :param obs: As the other arrays, a field of :class:`Transition`, observations flattened to shape
        (n_envs, n_inputs).
    :param first_env_index: Without effect: nothing is remembered of an environment.
    :param masks: Which actions were possible, shape (n_envs, n_actions); None for all.
    :param next_masks: Which are possible next, likewise.
    :return: ``LEARNED``; or, with no weight changed, ``NOT_FINITE`` or the row whose update
        overflows.
    """
    if not (all_finite(obs) and all_finite(rewards) and all_finite(next_obs)):
        return NOT_FINITE
    network, numbers, gradient = state.network, state.numbers, state.gradient[0]
    n_envs = len(actions)
    size = 1 if state.numbers[EACH] else n_envs
    for start in range(0, n_envs, max(size, 1)):
        stop, n_valid = start + size, 0
        for env in range(start, stop):
            n_valid += valid[env]

        # TD errors, and the derivatives of the loss: its mean is over all actions and transitions,
        # and only the taken action's entry differs from its target.
        for env in range(start, stop):
            state.td_errors[env] = np.float32(0.0)
            if not valid[env]:
                continue
            next_value = np.float32(0.0)
            if numbers[BOOTSTRAP_AT_TERMINAL] or not terminated[env]:
                q_values = forward(network, sample_in(network.scratch), next_obs[env], None)
                next_value = best_value(q_values, next_masks, env)
            sample = sample_in(state.samples[env - start])
            q_values = forward(network, sample, obs[env], None)
            target = rewards[env] + np.float32(numbers[GAMMA]) * next_value
            taken = q_values[actions[env]]
            gap = best_value(q_values, masks, env) - taken
            td_error = target - taken - np.float32(numbers[ADVANTAGE_GAP]) * gap
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
            step = Step(network.weights, state.gradient, state.errors, 1)
            take_step(state.optimizer, step, state.average)
    return LEARNED


def _bind(memory: Memory, numbers: np.ndarray, td_errors: np.ndarray) -> NaiveState:
    return NaiveState(
        memory.network,
        memory.optimizer,
        memory.average,
        numbers,
        np.zeros((len(td_errors), 3, memory.n_units), np.float32),
        memory.gradient[np.newaxis],
        np.full(1, -1.0, np.float32),
        td_errors,
    )


def _numbers(rule: NaiveRule) -> list[float]:
    return [
        0.0,
        rule.update == "each",
        rule.gamma,
        rule.q_step_size,
        rule.bootstrap_at_terminal,
        rule.max_grad_norm or 0.0,
        rule.advantage_gap,
    ]


NAIVE = CompiledRule(_bind, _numbers, learn_naive)
