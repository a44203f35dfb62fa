"""Every update is the one of the equations, and the compiled one that of autograd."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from dqn_plugins.learning import Learner
from dqn_plugins.policies import AdaptiveObGD, ObGD, QPolicy, TraceAdam
from tests.helpers import optimizer_numbers, traces
from tests.properties.cases import (
    NAIVE_OPTIMIZERS,
    STREAM_OPTIMIZERS,
    Batch,
    Naive,
    Network,
    Script,
    Stream,
    boxes,
    images,
    make_learner,
    make_policy,
    naive_rules,
    networks,
    optimizers,
    others,
    play,
    scripts,
    stream_rules,
)
from tests.properties.oracle import NaiveOracle, Oracle, StreamOracle, one_of, row_of

pytestmark = pytest.mark.numerics

# Nearer to a kink of the rectifier or to a tie between two actions than this, rounding decides, and
# float32 and float64 may rightly part. What came before is compared.
TOO_CLOSE_TO_CALL = 1e-5

# ObGD's step is as long as the TD error asks for: on noise without structure, as here, it is
# chaotic and multiplies a difference in the last bit from update to update. Few updates are enough,
# since a wrong number costs 1e-2 in the first one that it enters.
MOST_UPDATES_OF_OBGD = 4

# Each kind of optimiser is compiled anew, and none knows what weights and masks are for: all learn
# from vectors, and the usual ones from everything.
USUAL = {"rates": [1e-3], "betas": [(0.9, 0.999)], "eps": [1e-3]}
CASES = [
    *(
        pytest.param(inputs, rules, True, id=f"{kind}-{rule}")
        for kind, inputs in (("vectors", boxes), ("categories", others), ("images", images))
        for rule, rules in (
            ("naive", naive_rules(optimizers(th.optim.Adam, **USUAL))),
            ("stream", stream_rules(optimizers(TraceAdam, **USUAL))),
        )
    ),
    *(
        pytest.param(boxes, rules_with(optimizer), False, id=f"{rule}-{number}")
        for rule, rules_with, all_optimizers in (
            ("naive", naive_rules, NAIVE_OPTIMIZERS),
            ("stream", stream_rules, STREAM_OPTIMIZERS),
        )
        for number, optimizer in enumerate(all_optimizers)
    ),
]


def played(
    network: Network, rule: Naive | Stream, script: Script
) -> Iterator[tuple[Batch, list[float], Oracle]]:
    """
    Let the oracle learn from a script, up to where rounding decides.

    :return: For each step the batch with its actions, the TD errors, and the oracle after it.
    """
    policy = make_policy(network, rule)
    oracle: Oracle
    if isinstance(rule, Naive):
        oracle, most = NaiveOracle(network, policy, rule), len(script.ends)
    else:
        oracle = StreamOracle(network, policy, rule, script.n_envs)
        most = len(script.ends)
        if rule.optimizer_class in (ObGD, AdaptiveObGD):
            most = MOST_UPDATES_OF_OBGD
    for batch, _ in zip(play(script, network), range(most), strict=False):
        obs, masks = batch.transition.obs, batch.transition.action_masks
        if batch.begins:
            oracle.begin(batch.transition)
        batch = batch.acted(
            [oracle.greedy_action(one_of(obs, i), row_of(masks, i)) for i in range(script.n_envs)]
        )
        td_errors = oracle.learn(batch.transition)
        if oracle.margin < TOO_CLOSE_TO_CALL:
            return
        yield batch, td_errors, oracle


def flat_weights(policy: QPolicy, name: str = "q_net") -> np.ndarray:
    parts = [param.detach().numpy().ravel() for param in getattr(policy, name).parameters()]
    return np.concatenate(parts).astype(np.float64)


def learn(learner: Learner, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """One step of a script; the transitions' TD errors, and the greedy actions after it."""
    transition = batch.transition
    if batch.begins:
        learner.start_episodes(transition.obs)
    td_errors = learner.learn(transition)[transition.valid]
    return td_errors, learner.greedy_actions(transition.new_obs, transition.new_action_masks)


def assert_near(one: Any, other: Any, relative: float, absolute: float) -> None:
    """As a whole: the distance against the length of ``other``."""
    distance = np.linalg.norm(np.asarray(one) - np.asarray(other))
    assert distance <= relative * np.linalg.norm(other) + absolute, (one, other)


def greedy_where_clear(
    oracle: Oracle, batch: Batch, greedy_actions: np.ndarray
) -> list[tuple[int, int]]:
    """Pairs of a greedy action and the oracle's, where no two actions are nearly as good."""
    pairs, transition = [], batch.transition
    for i, action in enumerate(greedy_actions.tolist()):
        obs, mask = one_of(transition.new_obs, i), row_of(transition.new_action_masks, i)
        values = oracle.q_values(obs)
        values = np.sort(values if mask is None else values[mask])[::-1]
        if len(values) == 1 or values[0] - values[1] > 1e-3 * max(1.0, abs(values[0])):
            pairs.append((action, oracle.greedy_action(obs, mask)))
    return pairs


def assert_equal_to_equations(
    oracle: Oracle, policy: QPolicy, initial: np.ndarray, td_errors: np.ndarray, expected: Any
) -> None:
    """Compare a policy after an update, and the TD errors, with those of the oracle."""
    assert_near(td_errors, expected, 1e-4, 1e-5)
    rounding = 1e-6 * float(np.linalg.norm(initial))
    assert_near(flat_weights(policy) - initial, oracle.weights - initial, 1e-3, rounding)
    if isinstance(oracle, StreamOracle):
        assert_near(traces(policy), oracle.traces, 1e-3, 1e-6)
        oracle.assert_statistics(policy)
        if oracle.rule.averaging_window is not None:
            moved = flat_weights(policy, "average_q_net") - initial
            assert_near(moved, oracle.average - initial, 1e-3, rounding)


@pytest.mark.parametrize(("inputs", "rules", "masks"), CASES)
@settings(max_examples=settings.default.max_examples // 2)
@given(data=st.data())
def test_compiled_learners_equal_autograd_and_both_the_equations(inputs, rules, masks, data):
    network, rule = data.draw(networks(inputs)), data.draw(rules)
    script = data.draw(scripts(masks=masks))
    if isinstance(rule, Stream) and (network.convolutions is not None or script.masked):
        rule = replace(rule, averaging_window=3)  # without an average all is compiled anew
    policies = [make_policy(network, rule) for _ in range(2)]
    learners = [
        make_learner(policy, rule, script.n_envs, backend)
        for policy, backend in zip(policies, ["compiled", "torch"], strict=True)
    ]
    initial, has_learned = flat_weights(policies[0]), False
    for batch, expected, oracle in played(network, rule, script):
        td_errors, greedy_actions = zip(
            *(learn(learner, batch) for learner in learners), strict=True
        )
        for policy, errors, greedy in zip(policies, td_errors, greedy_actions, strict=True):
            assert_equal_to_equations(oracle, policy, initial, errors, expected)
            for one, other in greedy_where_clear(oracle, batch, greedy):
                assert one == other
        assert_near(*td_errors, 1e-4, 1e-5)
        assert_near(*map(flat_weights, policies), 1e-5, 1e-6)
        has_learned |= bool(batch.transition.valid.any())
        if has_learned:  # before that, torch's optimisers have no state
            for one, other in zip(*map(optimizer_numbers, policies), strict=True):
                assert_near(one, other, 1e-3, 1e-5)
        for (name, one), (_, other) in zip(*map(QPolicy.named_buffers, policies), strict=True):
            if not name.startswith("td_errors."):
                # Running statistics: float64, and of the same numbers
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)
