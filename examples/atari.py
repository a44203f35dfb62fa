"""
Learn an Atari game from its pictures, one transition at a time, with no replay buffer.

Run it with ``python examples/atari.py --game Pong`` after ``pip install 'dqn-plugins[atari]'``. Run
again with ``--resume`` to go on where it stopped. It prints a line every 10 episodes, saves the
model and records a game.

The preprocessing is the usual one, of Mnih et al. (2015), by Stable-Baselines3's wrappers: up to 30
no-ops at the start, every action taken for 4 frames, an episode for each life, 84×84 grey pixels,
the last 4 frames together. As in the stream-x paper (Elsayed, Vasan and Mahmood, 2024, arXiv
2410.14606) rewards are not clipped, because StreamQ scales them itself, and ε falls to 0.01 over
the first 5 % of the steps.
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
from gymnasium.wrappers import FrameStackObservation, ReshapeObservation
from stable_baselines3.common.atari_wrappers import AtariWrapper

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import EpisodeReward, RecordVideo

gym.register_envs(ale_py)


def make_atari(game: str, render_mode: str | None = None, learning: bool = True) -> gym.Env:
    """Make a game; while learning, the loss of a life ends an episode."""
    # The wrapper skips frames itself. Without sticky actions, as in the paper's preprocessing.
    env = gym.make(
        f"ALE/{game}-v5", frameskip=1, repeat_action_probability=0.0, render_mode=render_mode
    )
    if learning:
        env = EpisodeReward(env, report_every=10)  # whole games, not lives
    else:
        env = RecordVideo(
            env, "runs/atari/videos", name_prefix=game, episode_trigger=lambda _: True
        )
    env = AtariWrapper(env, terminal_on_life_loss=learning, clip_reward=False)
    # (84, 84, 1) four times is (4, 84, 84, 1): the frames become the channels.
    return ReshapeObservation(FrameStackObservation(env, 4), (4, 84, 84))


parser = argparse.ArgumentParser(description="StreamQ on Atari.")
parser.add_argument("--game", default="Pong", help="as in ALE/Pong-v5")
parser.add_argument("--steps", type=int, default=1_000_000, help="of 4 frames each")
parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
parser.add_argument("--resume", action="store_true", help="go on from the saved model")
parser.add_argument("--record-steps", type=int, default=2_000, help="longest recorded game")
arguments = parser.parse_args()

path = Path("runs/atari") / f"{arguments.game}.zip"
path.parent.mkdir(parents=True, exist_ok=True)
env = make_atari(arguments.game)
if arguments.resume:
    model = StreamQ.load(path, env=env)
else:
    model = StreamQ(
        "CnnPolicy",
        env,
        exploration_fraction=0.05,
        exploration_final_eps=0.01,
        seed=arguments.seed,
    )
model.learn(arguments.steps, reset_num_timesteps=not arguments.resume, progress_bar=True)
model.save(path)

game = make_atari(arguments.game, render_mode="rgb_array", learning=False)
obs, _ = game.reset(seed=arguments.seed)
for _ in range(arguments.record_steps):
    obs, _, terminated, truncated, _ = game.step(int(model.predict(obs, deterministic=True)[0]))
    if terminated or truncated:
        break
game.close()
print(f"Saved {path}, recorded a game in runs/atari/videos.")
