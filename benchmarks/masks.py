"""
Count impossible actions that are taken with masks, and measure what masks do for Taxi.

Writes ``results/masks.md`` and ``results/masks.png`` beside this file.
"""

import argparse
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium as gym
import joblib
import matplotlib.pyplot as plt
import numpy as np
from sb3_contrib import MaskablePPO
from speed import cpu_model, table
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import PQN, NaiveDQN, StreamQ

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from masks import Taxi, curve, stream_q

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 1000
OPTIMAL = 7.5
ROUTES = ("action_masks()", "info['action_mask']")


class Drawn(gym.Env[np.ndarray, np.int64]):
    """Draws at every step which of five actions are possible, and counts those that are not."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(5)
    steps = impossible = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.length = int(self.np_random.integers(1, 30))
        return self._look()

    def step(self, action: np.int64) -> Any:
        self.steps += 1
        self.impossible += not self.mask[action]
        self.length -= 1
        reward = float(self.np_random.normal())
        is_terminal = self.length == 0 and reward > 0
        obs, info = self._look()
        return obs, reward, is_terminal, self.length == 0 and not is_terminal, info

    def _look(self) -> tuple[np.ndarray, dict[str, Any]]:
        self.mask = self.np_random.random(5) < 0.4
        self.mask[self.np_random.integers(5)] = True
        return self.np_random.random(3, np.float32), self._told()

    def _told(self) -> dict[str, Any]:
        return {"action_mask": self.mask.astype(np.int8)}


class Asked(Drawn):
    """The same, with sb3-contrib's method."""

    def action_masks(self) -> np.ndarray:
        return self.mask

    def _told(self) -> dict[str, Any]:
        return {}


def count(algorithm: Callable[..., Any], n_envs: int, route: str, steps: int) -> list[str]:
    """Learn, and return a row of the table."""
    envs = [(Asked if route == ROUTES[0] else Drawn)() for _ in range(n_envs)]
    venv = DummyVecEnv([lambda env=env: env for env in envs])
    algorithm("MlpPolicy", venv, seed=FIRST_SEED, policy_kwargs={"net_arch": [16]}).learn(steps)
    done = sum(env.steps for env in envs)
    impossible = sum(env.impossible for env in envs)
    return [algorithm.__name__, str(n_envs), route, f"{done:,}", str(impossible)]


def taxi(name: str, seed: int) -> tuple[list[int], list[float]]:
    """Learn Taxi, and return the steps and the greedy returns."""
    is_masked = name != "StreamQ without"
    if name == "MaskablePPO":
        return curve(lambda: MaskablePPO("MlpPolicy", Taxi(), seed=seed), True, 100_000, 10_000, 30)
    return curve(lambda: stream_q(seed, is_masked), is_masked, 100_000, 10_000, 30)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="of each count")
    parser.add_argument("--seeds", type=int, default=32, help="of StreamQ on Taxi")
    parser.add_argument("--ppo-seeds", type=int, default=2, help="of MaskablePPO on Taxi")
    arguments = parser.parse_args()
    parallel = joblib.Parallel(n_jobs=2)
    counts = parallel(
        joblib.delayed(count)(*each, arguments.steps)
        for each in product((NaiveDQN, StreamQ, PQN), (1, 8), ROUTES)
    )
    n_seeds = {
        "StreamQ with masks": arguments.seeds,
        "StreamQ without": arguments.seeds,
        "MaskablePPO": arguments.ppo_seeds,
    }
    cells = [(name, FIRST_SEED + seed) for name, n in n_seeds.items() for seed in range(n)]
    curves = parallel(joblib.delayed(taxi)(*cell) for cell in cells)
    rows = []
    for name, n in n_seeds.items():
        of_seeds = [each for cell, each in zip(cells, curves, strict=True) if cell[0] == name]
        if not of_seeds:
            continue
        returns = np.array([each[1] for each in of_seeds])
        last = returns[:, -1]
        middle = f"{np.median(last):.2f}"
        rows.append([name, middle, f"{last.min():.2f}", f"{int((last >= OPTIMAL).sum())} of {n}"])
        label = f"{name}, {n} seed{'s' if n > 1 else ''}"
        plt.plot(of_seeds[0][0], np.median(returns, axis=0), label=label)
        plt.fill_between(of_seeds[0][0], returns.min(axis=0), returns.max(axis=0), alpha=0.15)
    plt.axhline(OPTIMAL, color="gray", linewidth=0.8, linestyle="--")
    plt.xlabel("environment steps")
    plt.ylabel("greedy return, mean of 30 episodes")
    plt.title("Taxi: median, worst and best seed")
    plt.legend()
    plt.savefig(RESULTS / "masks.png", dpi=90)
    (RESULTS / "masks.md").write_text(
        f"""# Action masks

Made by `python benchmarks/masks.py {" ".join(sys.argv[1:])}` on {cpu_model()}. Seeds begin at
{FIRST_SEED}.

## Impossible actions taken while learning

Of five actions, those that are possible are drawn anew at every step.

{table("algorithm | environments | route | steps | impossible actions", counts)}

## Taxi, 100,000 steps

Greedy return of 30 episodes, the same for all, and how many seeds reach a mean of {OPTIMAL}.
StreamQ is that of `examples/masks.py`; MaskablePPO has its defaults.

{table(" | median | worst seed | reach it", rows)}

![Greedy return against steps](masks.png)
"""
    )
