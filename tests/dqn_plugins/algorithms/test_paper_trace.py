"""
Stream Q(λ) of the paper, written from its algorithms in plain NumPy, against ours on a recording.

The recording is the one that the notebook's Keras code was traced on: 2,000 transitions of
LunarLander. Source: Elsayed, Vasan and Mahmood (2024), arXiv 2410.14606, algorithms 2 to 6. Where
the authors' code and the paper differ, this follows what docs/stream_q.md says we follow.
"""

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from dqn_plugins import STREAM_Q_PAPER_HYPERPARAMETERS, StreamQ
from tests.environments import SpacesEnv
from tests.helpers import weights

pytestmark = pytest.mark.numerics

GAMMA, LAMBDA, ALPHA, KAPPA = 0.99, 0.8, 1.0, 2.0
SNAPSHOTS = (1, 2, 10, 100, 500, 1000, 2000)


class SampleMeanStd:
    """Algorithm 4: a running mean and a sum of squared deviations."""

    def __init__(self, size: int) -> None:
        self.n, self.mean, self.p = 0, np.zeros(size), np.zeros(size)

    def update(self, x: np.ndarray) -> None:
        self.n += 1
        mean = self.mean + (x - self.mean) / self.n
        self.p += (x - self.mean) * (x - mean)
        self.mean = mean

    @property
    def std(self) -> np.ndarray:
        variance = self.p / (self.n - 1) if self.n > 1 else np.ones_like(self.p)
        return np.sqrt(variance + 1e-8)


class PaperStreamQ:
    """
    Algorithm 2 over a network of three layers, with normalised layers, observations and rewards.

    :param parameters: First weights: matrix, bias, matrix, bias, matrix, bias.
    """

    def __init__(self, parameters: list[np.ndarray]) -> None:
        self.w = [p.astype(np.float64) for p in parameters]
        self.observations, self.returns, self.u = SampleMeanStd(8), SampleMeanStd(1), np.zeros(1)
        self.begin()

    def begin(self) -> None:
        self.z = [np.zeros_like(w) for w in self.w]
        self.u = np.zeros(1)

    def q(self, s: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Action values, and what each layer was given, its activations and scale."""
        w1, b1, w2, b2, w3, b3 = self.w
        # The paper has no bound; here a leg's contact reaches 20 deviations.
        x0 = np.clip((s - self.observations.mean) / self.observations.std, -10, 10)
        h1, scale1 = self.normalized(w1 @ x0 + b1)
        x1 = np.where(h1 > 0, h1, 0.01 * h1)
        h2, scale2 = self.normalized(w2 @ x1 + b2)
        x2 = np.where(h2 > 0, h2, 0.01 * h2)
        return w3 @ x2 + b3, [x0, h1, scale1, x1, h2, scale2, x2]

    @staticmethod
    def normalized(a: np.ndarray) -> tuple[np.ndarray, float]:
        scale = 1 / np.sqrt(a.var() + 1e-5)
        return (a - a.mean()) * scale, scale

    def gradient(self, s: np.ndarray, a: int) -> list[np.ndarray]:
        """∇Q(s, a) by back-propagation."""
        _, _, w2, _, w3, _ = self.w
        _, (x0, h1, scale1, x1, h2, scale2, x2) = self.q(s)
        by_q = np.eye(4)[a]
        by_a2 = self.through_layer(w3.T @ by_q, h2, scale2)
        by_a1 = self.through_layer(w2.T @ by_a2, h1, scale1)
        return [np.outer(by_a1, x0), by_a1, np.outer(by_a2, x1), by_a2, np.outer(by_q, x2), by_q]

    @staticmethod
    def through_layer(by_x: np.ndarray, h: np.ndarray, scale: float) -> np.ndarray:
        by_h = by_x * np.where(h > 0, 1.0, 0.01)
        return scale * (by_h - by_h.mean() - h * (by_h * h).mean())

    def learn(self, s, a, r, next_s, terminated: bool) -> None:
        q, _ = self.q(s)
        gradient, explored = self.gradient(s, a), a != q.argmax()
        self.observations.update(next_s)
        self.u = GAMMA * self.u + r
        self.returns.update(self.u)
        next_value = 0.0 if terminated else self.q(next_s)[0].max()
        delta = r / self.returns.std[0] + GAMMA * next_value - q[a]
        self.z = [GAMMA * LAMBDA * z + g for z, g in zip(self.z, gradient, strict=True)]
        # Algorithm 3, ObGD
        norm = sum(np.abs(z).sum() for z in self.z)
        m = ALPHA * KAPPA * max(abs(delta), 1.0) * norm
        step = ALPHA / max(1.0, m)
        self.w = [w + step * delta * z for w, z in zip(self.w, self.z, strict=True)]
        if explored or terminated:
            self.z = [np.zeros_like(z) for z in self.z]


@pytest.fixture(scope="module")
def recording() -> list[tuple]:
    names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
    with np.load(Path(__file__).parents[2] / "data" / "keras_trace.npz") as file:
        return list(zip(*(file[name] for name in names), strict=True))


def model_of_the_paper(backend: str) -> StreamQ:
    return StreamQ(
        "MlpPolicy",
        SpacesEnv(spaces.Box(-np.inf, np.inf, (8,), np.float32), 4),
        **STREAM_Q_PAPER_HYPERPARAMETERS,
        seed=0,
        backend=backend,
    )


def test_it_follows_the_papers_rule_weight_for_weight(recording, backend):
    model = model_of_the_paper(backend)
    paper = PaperStreamQ([p.detach().numpy() for p in model.q_net.parameters()])
    initial, begins = weights(model), True
    for t, (obs, action, reward, next_obs, terminated, truncated) in enumerate(recording, 1):
        if begins:
            paper.begin()
            paper.observations.update(obs.astype(np.float64))
        paper.learn(
            *(obs.astype(np.float64), action, reward, next_obs.astype(np.float64)), terminated
        )
        model.learn_one(obs, int(action), reward, next_obs, bool(terminated), bool(truncated))
        begins = terminated or truncated
        if t in SNAPSHOTS:
            theirs = np.concatenate([w.ravel() for w in paper.w])
            moved = np.linalg.norm(theirs - initial)
            assert np.linalg.norm(weights(model) - theirs) < 1e-4 * moved, t
    assert model.q_net.reward_scale == pytest.approx(paper.returns.std[0], rel=1e-6)
