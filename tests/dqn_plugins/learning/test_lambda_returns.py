"""λ-returns against numbers worked out by hand, and against the forward view in float64."""

import numpy as np
import pytest
import torch as th

from dqn_plugins.learning import lambda_returns


def as_column(*numbers: float) -> th.Tensor:
    return th.tensor(numbers, dtype=th.float64).unsqueeze(1)


def returns_of(rewards, next_values, terminated, dones, gamma=0.5, q_lambda=0.75) -> list[float]:
    """The returns of one environment."""
    flags = as_column(*terminated).bool(), as_column(*dones).bool()
    returns = lambda_returns(as_column(*rewards), as_column(*next_values), *flags, gamma, q_lambda)
    assert returns.dtype == th.float64
    return returns.squeeze(1).tolist()


def test_nothing_comes_back_over_a_termination():
    # G3 = 4 + 0.5·8 = 8; G2 = 3 + 0.5·(0.25·7 + 0.75·8) = 6.875; G1 = 2, whatever 6 is;
    # G0 = 1 + 0.5·(0.25·4 + 0.75·2) = 2.25
    returns = returns_of([1, 2, 3, 4], [4, 6, 7, 8], [0, 1, 0, 0], [0, 1, 0, 0])
    assert returns == [2.25, 2.0, 6.875, 8.0]


def test_a_truncation_bootstraps_from_its_last_observation_alone():
    # G1 = 2 + 0.5·6 = 5: 6 is the value of the last observation; G0 = 1 + 0.5·(0.25·4 + 0.75·5)
    returns = returns_of([1, 2, 3, 4], [4, 6, 7, 8], [0] * 4, [0, 1, 0, 0])
    assert returns == [3.375, 5.0, 6.875, 8.0]


def test_ends_at_the_last_step_of_a_rollout():
    assert returns_of([1, 2], [4, 6], [0, 1], [0, 1]) == [2.25, 2.0]
    assert returns_of([1, 2], [4, 6], [0, 0], [0, 1]) == [3.375, 5.0]


def forward_view(rewards, next_values, terminated, dones, gamma, q_lambda) -> np.ndarray:
    """
    The definition: a mean of n-step returns, weighted (1 − λ)·λⁿ⁻¹, the longest with all the rest.
    """
    n_steps, n_envs = rewards.shape
    result = np.zeros((n_steps, n_envs))
    for env in range(n_envs):
        for start in range(n_steps):
            total, discounted, n = 0.0, 0.0, 0
            while True:
                t = start + n
                discounted += gamma**n * rewards[t, env]
                n += 1
                value = 0.0 if terminated[t, env] else next_values[t, env]
                n_step_return = discounted + gamma**n * value
                if dones[t, env] or t == n_steps - 1:
                    total += q_lambda ** (n - 1) * n_step_return
                    break
                total += (1 - q_lambda) * q_lambda ** (n - 1) * n_step_return
            result[start, env] = total
    return result


@pytest.mark.parametrize("seed", range(5))
def test_the_forward_view(seed):
    rng = np.random.default_rng(seed)
    shape = 12, 4
    rewards, next_values = rng.normal(size=(2, *shape))
    dones = rng.random(shape) < 0.25
    terminated = dones & (rng.random(shape) < 0.5)
    assert terminated.any()
    assert (dones & ~terminated).any()
    arguments = rewards, next_values, terminated, dones
    gamma, q_lambda = rng.uniform(0.5, 1.0, 2)
    expected = forward_view(*arguments, gamma, q_lambda)
    returns = lambda_returns(*map(th.from_numpy, arguments), gamma, q_lambda)
    np.testing.assert_allclose(returns, expected, rtol=1e-12)
    in_float32 = [th.from_numpy(each.astype(np.float32)) for each in (rewards, next_values)]
    flags = map(th.from_numpy, (terminated, dones))
    returns = lambda_returns(*in_float32, *flags, gamma, q_lambda)
    assert returns.dtype == th.float32
    np.testing.assert_allclose(returns, expected, rtol=1e-4, atol=1e-5)


def test_what_is_given_stays_as_it_was():
    rewards, values = th.ones(3, 2), th.ones(3, 2)
    flags = th.zeros(3, 2, dtype=th.bool)
    lambda_returns(rewards, values, flags, flags, 0.9, 0.5)
    assert (rewards == 1).all()
    assert (values == 1).all()
    assert not flags.any()
