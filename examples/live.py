"""
Watch StreamQ learn to land, on a page in the browser.

    python examples/live.py --open

opens the page and trains; without --open, open the printed address. It begins when a browser shows
the page.
"""

import argparse

import gymnasium as gym

from dqn_plugins import StreamQ
from dqn_plugins.wrappers import LiveView


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8700)
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--no-wait", action="store_true", help="begin before anybody watches")
    arguments = parser.parse_args()

    env = LiveView(
        gym.make("LunarLander-v3", render_mode="rgb_array"),
        port=arguments.port,
        open_browser=arguments.open,
    )
    model = StreamQ("MlpPolicy", env, seed=arguments.seed)
    env.attach(model)
    if not arguments.no_wait:
        env.wait_until_watched()
    model.learn(arguments.timesteps)
    env.close()
    print(f"Learned from {model.num_timesteps:,} transitions, each once.")


if __name__ == "__main__":
    main()
