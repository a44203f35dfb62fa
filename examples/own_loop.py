"""
Learn in a loop of your own: ``learn_one`` takes one transition and updates the weights with it.

Run it with ``python examples/own_loop.py``. It prints a line every 20 episodes.
"""

import argparse

import gymnasium as gym

from dqn_plugins import NaiveDQN
from dqn_plugins.wrappers import EpisodeReward

parser = argparse.ArgumentParser(description="NaiveDQN in a hand-written loop.")
parser.add_argument("--episodes", type=int, default=100, help="episodes to learn from")
parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
arguments = parser.parse_args()

env = EpisodeReward(gym.make("LunarLander-v3"), report_every=20)
model = NaiveDQN("MlpPolicy", env, seed=arguments.seed)

squared_td_errors = 0.0
steps = 0
for episode in range(arguments.episodes):
    # The seed goes in once; later episodes go on with the environment's random numbers.
    obs, info = env.reset(seed=arguments.seed if episode == 0 else None)
    terminated = truncated = False
    while not (terminated or truncated):
        action, _ = model.predict(obs)  # ε-greedy; deterministic=True would be greedy
        next_obs, reward, terminated, truncated, info = env.step(action)

        # Two ways for an episode to end, and the learner must be able to tell them apart.
        # terminated: the lander crashed or came to rest. No reward follows, so nothing is added
        #   to `reward`.
        # truncated: the clock ran out at 1,000 steps. The flight could have gone on, and what it
        #   would have earned is still estimated from `next_obs`.
        # So never hand over `terminated or truncated` as if both were the same.
        td_error = model.learn_one(obs, action, reward, next_obs, terminated, truncated)

        squared_td_errors += td_error**2
        steps += 1
        obs = next_obs
env.close()

print(
    f"Learned from {steps:,} transitions in {env.episode_count} episodes, each once. "
    f"Root mean squared TD error: {(squared_td_errors / max(steps, 1)) ** 0.5:.2f}"
)
