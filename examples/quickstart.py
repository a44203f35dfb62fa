"""
Train, save, load and evaluate, in about ten lines.

Run it with ``python examples/quickstart.py``; it takes seconds. The model goes to
``runs/quickstart.zip``.
"""

from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy

from dqn_plugins import NaiveDQN

env = gym.make("LunarLander-v3")
model = NaiveDQN("MlpPolicy", env, seed=0)
model.learn(total_timesteps=10_000, progress_bar=True)
Path("runs").mkdir(exist_ok=True)
model.save("runs/quickstart")

model = NaiveDQN.load("runs/quickstart", env=env)
mean, std = evaluate_policy(model, model.get_env(), n_eval_episodes=10)
print(f"Greedy return over 10 episodes: {mean:.1f} ± {std:.1f} (200 counts as solved)")
