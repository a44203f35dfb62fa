"""Nothing crosses an episode's end: no trace, no discounted return, in no environment."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import StreamQ
from dqn_plugins.learning import Learner, Transition
from dqn_plugins.policies import QPolicy, StreamQPolicy
from tests.helpers import traces
from tests.properties.cases import (
    STREAM_OPTIMIZERS,
    Batch,
    boxes,
    make_learner,
    make_policy,
    networks,
    play,
    scripts,
    stream_rules,
)

# The weights stand still and observations are not normalised, so that the gradients of an episode
# do not depend on what came before it: its traces then may not either, bit for bit. They are the
# same of every optimiser, and each would be compiled.
frozen_rules = stream_rules(STREAM_OPTIMIZERS[0]).map(
    lambda rule: replace(
        rule, learning_rate=0.0, normalize_observations=False, normalize_rewards="return_deviation"
    )
)


def state(policy: QPolicy) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the traces, shape (n_envs, n_weights), and of the discounted returns."""
    assert isinstance(policy, StreamQPolicy)
    assert policy.reward_normalizer is not None
    return traces(policy), policy.reward_normalizer.returns.numpy().copy()


def learn(learner: Learner, batch: Batch) -> None:
    learner.learn(batch.acted(learner.greedy_actions(batch.transition.obs)).transition)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@given(
    network=networks(boxes),
    rule=frozen_rules,
    script=scripts(),
    boundary=st.sampled_from(["terminated", "truncated", "both", "reset", "forgotten"]),
    n_before=st.integers(1, 5),
)
def test_an_episodes_traces_are_those_of_it_alone(
    backend, network, rule, script, boundary, n_before
):
    batches = [batch._replace(begins=False) for batch in play(script, network)]
    before, after = batches[:n_before], batches[n_before:]
    policies = [make_policy(network, rule) for _ in range(2)]
    learners = [make_learner(policy, rule, script.n_envs, backend) for policy in policies]
    # The first one learns from what came before, and then its episodes end in all environments.
    learners[0].start_episodes(before[0].transition.obs)
    for batch in before[:-1]:
        learn(learners[0], batch)
    last = before[-1]
    if boundary in ("terminated", "truncated", "both"):
        everywhere = np.ones(script.n_envs, bool)
        terminated = everywhere if boundary != "truncated" else ~everywhere
        ended = {"terminated": terminated, "dones": everywhere, "valid": everywhere}
        last = last._replace(transition=last.transition._replace(**ended))
    learn(learners[0], last)
    if not after:
        return
    if boundary == "reset":
        learners[0].start_episodes(after[0].transition.obs)
    elif boundary == "forgotten":
        learners[0].forget()
    learners[1].start_episodes(after[0].transition.obs)
    for batch in after:
        assert_same_state(*policies)
        for learner in learners:
            learn(learner, batch)
    assert_same_state(*policies)


def assert_same_state(one: QPolicy, other: QPolicy) -> None:
    (traces, returns), (other_traces, other_returns) = state(one), state(other)
    assert np.array_equal(traces, other_traces)
    assert np.array_equal(returns, other_returns)


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@given(network=networks(boxes), rule=frozen_rules, script=scripts())
def test_an_environments_trace_is_that_of_it_alone(backend, network, rule, script):
    together = make_policy(network, rule)
    learner = make_learner(together, rule, script.n_envs, backend)
    alone = [make_policy(network, rule) for _ in range(script.n_envs)]
    learners = [make_learner(policy, rule, 1, backend) for policy in alone]
    for batch in play(script, network):
        batches = [only(batch, slice(i, i + 1)) for i in range(script.n_envs)]
        if batch.begins:
            learner.start_episodes(batch.transition.obs)
            for one, part in zip(learners, batches, strict=True):
                one.start_episodes(part.transition.obs)
        learn(learner, batch)
        for one, part in zip(learners, batches, strict=True):
            learn(one, part)
        traces, returns = state(together)
        for i, policy in enumerate(alone):
            (trace,), (one_return,) = state(policy)
            # In torch a batch of three may be rounded otherwise than a batch of one.
            np.testing.assert_allclose(traces[i], trace, rtol=1e-4, atol=1e-5)
            assert returns[i] == one_return


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@given(network=networks(boxes), rule=frozen_rules, script=scripts(), n_first=st.integers(0, 2))
def test_environments_that_take_turns_are_learned_from_as_themselves(
    backend, network, rule, script, n_first
):
    rule = replace(rule, update="each")
    together, by_turns = (make_policy(network, rule) for _ in range(2))
    learners = [
        make_learner(policy, rule, script.n_envs, backend) for policy in (together, by_turns)
    ]
    for batch in play(script, network):
        if batch.begins:
            for learner in learners:
                learner.start_episodes(batch.transition.obs)
        batch = batch.acted(learners[0].greedy_actions(batch.transition.obs))
        td_errors = learners[0].learn(batch.transition).copy()
        for first, stop in (0, n_first), (n_first, script.n_envs):
            if first < stop <= script.n_envs:
                rows = slice(first, stop)
                turn = only(batch, rows).transition._replace(first_env_index=first)
                assert np.array_equal(learners[1].learn(turn), td_errors[rows])
    if n_first < script.n_envs:
        assert_same_state(together, by_turns)


def only(batch: Batch, rows: slice) -> Batch:
    parts = (p[rows] if isinstance(p, np.ndarray) else p for p in batch.transition)
    transition = Transition(*parts)
    if transition.begun is not None and not transition.begun.any():
        transition = transition._replace(begun=None)
    return batch._replace(transition=transition, explores=batch.explores[rows])


# The same through whole models: what ends an episode from outside


class Episodes(gym.Env[np.ndarray, np.int64]):
    """
    Plays given observations, episode by episode; after the last episode it begins again.

    :param episodes: Observations of each episode, shape (n_steps + 1, 3).
    :param end: How they end: "terminated", "truncated" or "both".
    """

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, episodes: list[np.ndarray], end: str) -> None:
        self.episodes, self.end, self.episode = episodes, end, -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode += 1
        self.observations = self.episodes[self.episode % len(self.episodes)]
        self.step_in_episode = 0
        return self.observations[0], {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.step_in_episode += 1
        obs = self.observations[self.step_in_episode]
        over = self.step_in_episode == len(self.observations) - 1
        terminated = over and self.end in ("terminated", "both")
        return obs, float(obs[0]), terminated, over and self.end in ("truncated", "both"), {}


def interrupt(*_: Any) -> bool:
    raise KeyboardInterrupt


def learn_again(model: StreamQ, env: Episodes, n_steps: int) -> None:
    model.learn(n_steps)
    model.learn(0)


def learn_on_elsewhere(model: StreamQ, env: Episodes, n_steps: int) -> None:
    model.learn(n_steps)
    model.set_env(DummyVecEnv([lambda: env]))
    model.learn(0, reset_num_timesteps=False)


def learn_on_after_an_interruption(model: StreamQ, env: Episodes, n_steps: int) -> None:
    model.learn(n_steps - 1)
    with pytest.raises(KeyboardInterrupt):
        model.learn(1, interrupt, reset_num_timesteps=False)
    model.learn(0, reset_num_timesteps=False)


def learn_to_the_end(model: StreamQ, env: Episodes, n_steps: int) -> None:
    model.learn(len(env.episodes[0]) - 1)


INTERRUPTIONS: list[Callable[[StreamQ, Episodes, int], None]] = [
    learn_again,
    learn_on_elsewhere,
    learn_on_after_an_interruption,
    learn_to_the_end,
]


@pytest.mark.parametrize("backend", ["torch", "compiled"])
@given(
    lengths=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    n_steps=st.integers(1, 6),
    interruption=st.sampled_from(INTERRUPTIONS),
    ends=st.sampled_from(["terminated", "truncated", "both"]),
    trace_cut=st.sampled_from(["after", "watkins", "never"]),
    seed=st.integers(0, 2**31),
)
def test_an_episode_is_learned_as_if_it_were_the_first(
    backend, lengths, n_steps, interruption, ends, trace_cut, seed
):
    rng = np.random.default_rng(seed)
    first, second = (rng.normal(size=(n + 1, 3)).astype(np.float32) for n in lengths)

    def model(env: Episodes) -> StreamQ:
        return StreamQ(
            "MlpPolicy",
            env,
            learning_rate=0.0,
            exploration_fraction=0.0,
            exploration_final_eps=0.0,  # the same actions for the same observations
            exploration="epsilon_greedy",
            trace_cut=trace_cut,
            policy_kwargs={"net_arch": [4], "normalize_observations": False},
            seed=0,
            backend=backend,
        )

    after = Episodes([first, second], ends)
    alone = Episodes([second], ends)
    models = [model(after), model(alone)]
    # At least a step of the first episode remains when it is cut short.
    interruption(models[0], after, min(n_steps, lengths[0] - 1) or lengths[0])
    while after.episode % 2 == 0 or after.step_in_episode > 0:
        models[0].learn(1, reset_num_timesteps=False)
    models[1].learn(0)
    for _ in range(lengths[1]):
        for one in models:
            one.learn(1, reset_num_timesteps=False)
        assert np.array_equal(*map(traces, models))
        returns = [one.policy.reward_normalizer.returns.item() for one in models]
        assert returns[0] == returns[1]
