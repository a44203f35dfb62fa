"""
Programs that record and then end in every way a program can end.

Run as a script, it imports everything once and then forks a process for each line it reads:
``scenario folder``. The child answers with ``ready``, its process id and the encoder's.
"""

from __future__ import annotations

import os
import signal
import sys
import time

# SDL, which draws the pictures, would take SIGTERM for a wish to close its window.
os.environ["SDL_NO_SIGNAL_HANDLERS"] = "1"

import gymnasium as gym

from dqn_plugins.wrappers import EpisodeReward, RecordVideo

FRAMES = 80
FPS = 25


def record(folder: str) -> tuple[gym.Env, int]:
    """Record FRAMES frames of one episode that goes on."""
    env = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=10_000)
    env.unwrapped.theta_threshold_radians = 1e9
    env.unwrapped.x_threshold = 1e9
    env = EpisodeReward(env, log_file=os.path.join(folder, "log"))
    env = RecordVideo(env, folder, fps=FPS)
    env.reset(seed=0)
    for step in range(FRAMES - 1):
        env.step(step % 2)
    assert env._video.writer is not None
    return env, env._video.writer._encoder.process.pid


def run(scenario: str, folder: str) -> None:
    """Record and end as asked."""
    _env, encoder = record(folder)
    print("ready", os.getpid(), encoder, flush=True)
    if scenario == "exception":
        raise RuntimeError("the algorithm went wrong")
    if scenario == "never_closed":
        return
    if scenario == "os_exit":
        os._exit(3)
    if scenario == "sys_exit":
        sys.exit(4)
    # Ctrl-C, SIGTERM and kill -9 come from outside.
    time.sleep(120)


def main() -> None:
    """Fork one child per line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        scenario, folder = line.split(maxsplit=1)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run(scenario, folder.strip())
            return


if __name__ == "__main__":
    main()
