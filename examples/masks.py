"""
Learn Taxi with and without masks of possible actions, and draw both curves.

Run it with ``python examples/masks.py``. It takes a few minutes and writes ``masks.png``; where
sb3-contrib is installed, MaskablePPO learns beside StreamQ.
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from dqn_plugins import StreamQ
from dqn_plugins.policies import IntentionalOptimizer


class Taxi(gym.Wrapper[np.ndarray, np.int64, Any, np.int64]):
    """
    Taxi, whose 500 states are 500 numbers of which one is not 0.

    Taxi tells which actions are possible in ``info["action_mask"]``, where StreamQ finds it. The
    method ``action_masks`` tells sb3-contrib's MaskablePPO the same.

    :param scale: The number that is not 0.
    """

    def __init__(self, scale: float = 1.0) -> None:
        taxi = gym.make("Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3")
        super().__init__(FlattenObservation(taxi))
        self.scale = np.float32(scale)
        self.observation_space = spaces.Box(0.0, scale, (500,), np.float32)

    def step(self, action: np.int64) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Take a step; the observation is floats."""
        obs, *rest = self.env.step(action)
        return obs * self.scale, *rest

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        obs, info = self.env.reset(**kwargs)
        return obs * self.scale, info

    def action_masks(self) -> np.ndarray:
        """Tell which actions are possible now."""
        taxi: Any = self.env.unwrapped
        return np.array(taxi.action_mask(taxi.s))


def greedy_return(model: Any, is_masked: bool, n_episodes: int) -> float:
    """Play greedy episodes; the mean return. About 7.9 is the best possible."""
    env, returns = Taxi(model.observation_space.high[0]), []
    for episode in range(n_episodes):
        obs, _ = env.reset(seed=1_000_000 + episode)
        total, over = 0.0, False
        while not over:
            known = {"action_masks": env.action_masks()} if is_masked else {}
            action, _ = model.predict(obs, deterministic=True, **known)
            obs, reward, terminated, truncated, _ = env.step(int(action))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


def stream_q(seed: int, use_action_masks: bool) -> StreamQ:
    """
    Make StreamQ with a weight for each state and action.

    Without hidden layers, traces and normalisation this is Q-learning with a table, and each
    update takes a fifth of the TD error away. All states share the bias as well, but beside inputs
    of 100 it hardly counts.
    """
    return StreamQ(
        "MlpPolicy",
        Taxi(scale=100.0),
        learning_rate=0.2,
        trace_decay=0.0,
        advantage_gap=0.0,
        exploration="epsilon_greedy",
        policy_kwargs={
            "net_arch": [],
            "normalize_observations": False,
            "normalize_rewards": False,
            "optimizer_class": IntentionalOptimizer,
        },
        seed=seed,
        use_action_masks=use_action_masks,
    )


def curve(
    make: Callable[[], Any], is_masked: bool, steps: int, every: int, n_episodes: int
) -> tuple[list[int], list[float]]:
    """Learn, and evaluate every so many steps and at the end: the steps, and the greedy returns."""
    at: list[int] = []
    returns: list[float] = []
    model = make()

    def look(seen: dict[str, Any], _: dict[str, Any]) -> bool:
        if model.num_timesteps % every == 0 or model.num_timesteps == steps:
            at.append(model.num_timesteps)
            returns.append(greedy_return(model, is_masked, n_episodes))
        return True

    model.learn(steps, callback=look)
    return at, returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Taxi with and without masks.")
    parser.add_argument("--steps", type=int, default=100_000, help="environment steps of each")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    parser.add_argument("--every", type=int, default=10_000, help="steps between evaluations")
    arguments = parser.parse_args()
    seed = arguments.seed
    models: dict[str, tuple[Callable[[], Any], bool]] = {
        "StreamQ with masks": (lambda: stream_q(seed, True), True),
        "StreamQ without": (lambda: stream_q(seed, False), False),
    }
    if find_spec("sb3_contrib") is not None:
        from sb3_contrib import MaskablePPO

        models["MaskablePPO"] = (lambda: MaskablePPO("MlpPolicy", Taxi(), seed=seed), True)

    for name, (make, is_masked) in models.items():
        at, returns = curve(make, is_masked, arguments.steps, arguments.every, n_episodes=30)
        print(f"{name}: greedy return {returns[-1]:.2f} after {at[-1]:,} steps")
        plt.plot(at, returns, label=name)
    plt.axhline(7.9, color="gray", linewidth=0.8, linestyle="--")
    plt.xlabel("environment steps")
    plt.ylabel("greedy return, mean of 30 episodes")
    plt.title("Taxi")
    plt.legend()
    plt.savefig("masks.png", dpi=120)
