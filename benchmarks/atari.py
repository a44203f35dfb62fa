"""
Measure what learning from Atari's images costs: steps per second, and memory beside a buffer's.

Prints one line; needs ``pip install 'dqn-plugins[atari]'``. The preprocessing is the usual one, by
Stable-Baselines3's wrappers. What SB3's DQN allocates is asked of its own buffer class, and scaled
up from a hundredth of its default size, which few machines have the memory for.
"""

import argparse
import time

import ale_py
import gymnasium as gym
import psutil
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from dqn_plugins import StreamQ

DEFAULT_BUFFER_SIZE = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="Pong")
    parser.add_argument("--steps", type=int, default=5_000)
    arguments = parser.parse_args()
    gym.register_envs(ale_py)
    env = VecFrameStack(
        make_atari_env(
            f"{arguments.game}NoFrameskip-v4", seed=0, wrapper_kwargs={"clip_reward": False}
        ),
        4,
    )
    model = StreamQ("CnnPolicy", env, seed=0).learn(100)
    begin, wall = time.process_time(), time.perf_counter()
    model.learn(arguments.steps, reset_num_timesteps=False)
    seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    # With torch, the environment and all
    process = psutil.Process().memory_info().rss
    buffer = DQN("CnnPolicy", env, buffer_size=DEFAULT_BUFFER_SIZE // 100).replay_buffer
    assert buffer is not None
    arrays = [buffer.observations, buffer.next_observations, buffer.actions, buffer.rewards]
    of_dqn = 100 * sum(array.nbytes for array in arrays)
    print(
        f"{arguments.game}: {arguments.steps / seconds:.0f} steps per CPU second "
        f"({arguments.steps / wall:.0f} per second). The whole process takes {process / 1e9:.2f} "
        f"GB, DQN's default buffer alone {of_dqn / 1e9:.1f} GB: 1/{of_dqn / process:.0f}."
    )


if __name__ == "__main__":
    main()
