"""Two million steps in one run: nothing grows, nothing drifts."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium import spaces

from dqn_plugins import StreamQ
from tests.helpers import weights

N_STEPS = 2_000_000
SEED = 7
MEAN, SCALE = np.array([1e3, -5.0]), np.array([1.0, 1e-2])


class Drawn(gym.Env):
    """Observations far from zero, all drawn from one generator one after another."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.generator = np.random.default_rng(SEED)
        self.n_drawn = self.n_steps = 0

    def reset(self, **_: Any) -> Any:
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        self.n_steps += 1
        return self._draw(), 1.0, self.n_steps % 1000 == 0, self.n_steps % 777 == 0, {}

    def _draw(self) -> np.ndarray:
        self.n_drawn += 1
        return (MEAN + SCALE * self.generator.normal(size=2)).astype(np.float32)


@pytest.mark.long
@pytest.mark.slow
def test_two_million_steps(capsys):
    env = Drawn()
    model = StreamQ("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": [16]})
    process, resident, seconds = psutil.Process(), [], []
    began = time.perf_counter()

    def measure(*_: Any) -> bool:
        nonlocal began
        if model.num_timesteps % 200_000 == 0:
            resident.append(process.memory_info().rss)
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
        return True

    model.learn(N_STEPS, callback=measure)
    with capsys.disabled():
        speeds = [round(200_000 / elapsed) for elapsed in seconds]
        growth = (resident[-1] - resident[0]) / 2**20
        print(f"\nsteps/s in each tenth: {speeds}; memory grew by {growth:.2f} MiB")
    # From the first tenth to the last, less than one byte for every step.
    assert resident[-1] - resident[0] < 1.8 * 2**20
    assert model.num_timesteps == model._n_updates == env.n_steps == N_STEPS
    assert np.isfinite(weights(model)).all()

    drawn = np.random.default_rng(SEED).normal(size=(env.n_drawn, 2))
    seen = (MEAN + SCALE * drawn).astype(np.float32).astype(np.float64)
    (statistics,) = model.q_net.observation_normalizer.statistics.values()
    assert statistics.count.item() == env.n_drawn
    np.testing.assert_allclose(statistics.mean.numpy(), seen.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics.variance.numpy(), seen.var(axis=0, ddof=1), rtol=1e-9)
    assert model.policy.reward_normalizer.return_statistics.count.item() == N_STEPS
