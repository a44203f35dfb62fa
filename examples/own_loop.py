"""
Learn in a loop of your own: ``act`` chooses an action, ``learn_one`` learns from what it led to.

Run it with ``python examples/own_loop.py``. It prints a line every 20 episodes.
"""

import argparse

import gymnasium as gym

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import EpisodeReward

parser = argparse.ArgumentParser(description="StreamQ in a hand-written loop.")
parser.add_argument("--steps", type=int, default=50_000, help="transitions to learn from")
parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
arguments = parser.parse_args()

env = EpisodeReward(gym.make("LunarLander-v3"), report_every=20)
model = StreamQ("MlpPolicy", env, seed=arguments.seed)

squared_td_errors = 0.0
# The seed goes in once; later episodes go on with the environment's random numbers.
obs, info = env.reset(seed=arguments.seed)
for _ in range(arguments.steps):
    # By the newest weights; `predict` would act by their average. Given the total number of steps,
    # exploration fades as in `learn`, and this loop learns what `learn` learns, bit for bit.
    action = model.act(obs, total_timesteps=arguments.steps)
    next_obs, reward, terminated, truncated, info = env.step(action)

    # Two ways for an episode to end, and the learner must be able to tell them apart.
    # terminated: the lander crashed or came to rest. No reward follows, so nothing is added to
    #   `reward`.
    # truncated: the clock ran out at 1,000 steps. The flight could have gone on, and what it would
    #   have earned is still estimated from `next_obs`.
    # So never hand over `terminated or truncated` as if both were the same.
    td_error = model.learn_one(obs, action, reward, next_obs, terminated, truncated)

    squared_td_errors += td_error**2
    obs = env.reset()[0] if terminated or truncated else next_obs
env.close()

print(
    f"Learned from {arguments.steps:,} transitions in {env.episode_count} episodes, each once. "
    f"Root mean squared TD error: {(squared_td_errors / max(arguments.steps, 1)) ** 0.5:.2f}"
)
