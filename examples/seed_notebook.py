"""
The naive online DQN of the introductory notebook, run as the notebook runs it.

``NOTEBOOK_HYPERPARAMETERS`` holds its exact settings: network, initial weights, Keras's form of
Adam, α = 0.1, γ = 0.95, ε = 0.3, and the bootstrapping through the end of an episode. A line every
500 episodes reports their last rewards; then five greedy episodes are filmed.

Run it with ``python examples/seed_notebook.py``. The notebook's 50,000 episodes take an hour or
more, ``--episodes 1000`` a minute or two. Model and videos go to ``runs/seed_notebook``; a second
run replaces the model and keeps the earlier videos.

A last reward of -100 is a crash, +100 a landing, and near 0 a flight that the clock cut off. The
notebook's mean stayed at -100. The outcome depends on the seed: with the default it crashes as the
notebook's did, with some others, such as 0, it hovers.
"""

import argparse
from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes

from dqn_plugins import NOTEBOOK_HYPERPARAMETERS, NaiveDQN
from dqn_plugins.wrappers import EpisodeReward, RecordVideo, show_video

parser = argparse.ArgumentParser(description="The notebook's run.")
parser.add_argument("--episodes", type=int, default=50_000, help="episodes to learn from")
parser.add_argument("--report-every", type=int, default=500, help="episodes per report line")
parser.add_argument("--videos", type=int, default=5, help="greedy episodes to film")
parser.add_argument("--seed", type=int, default=2, help="seed of everything random")
parser.add_argument("--out", type=Path, default=Path("runs/seed_notebook"), help="output folder")
arguments = parser.parse_args()

env = EpisodeReward(gym.make("LunarLander-v3"), report_every=arguments.report_every)
model = NaiveDQN("MlpPolicy", env, seed=arguments.seed, **NOTEBOOK_HYPERPARAMETERS)
model.learn(
    # An episode has at most 1,000 steps, so it is the callback that ends the training.
    total_timesteps=1_000 * arguments.episodes,
    callback=StopTrainingOnMaxEpisodes(arguments.episodes),
)
arguments.out.mkdir(parents=True, exist_ok=True)
model.save(arguments.out / "model")
print(f"Learned from {model.num_timesteps:,} transitions in {env.episode_count:,} episodes.")

film = RecordVideo(
    # Pictures are for the film alone: an environment that renders steps many times slower.
    gym.make("LunarLander-v3", render_mode="rgb_array"),
    video_folder=str(arguments.out / "videos"),
    episode_trigger=lambda episode: True,
)
for episode in range(arguments.videos):
    obs, info = film.reset(seed=arguments.seed + episode)
    terminated = truncated = False
    while not (terminated or truncated):
        action, _ = model.predict(obs, deterministic=True)
        obs, reward, terminated, truncated, info = film.step(action)
    film.stop_recording()
    show_video(film.video_path)  # prints the path; in a notebook it plays the video
film.close()
