"""What actions are called."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from dqn_plugins.wrappers.drawing.action_names import action_names_of, known_action_names


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("LunarLander-v3", ("nothing", "left engine", "main engine", "right engine")),
        ("CartPole-v1", ("left", "right")),
        ("MountainCar-v0", ("left", "nothing", "right")),
        ("Acrobot-v1", ("torque −1", "no torque", "torque +1")),
        ("FrozenLake-v1", ("left", "down", "right", "up")),
    ],
)
def test_well_known_environments(env_id: str, names: tuple[str, ...]) -> None:
    env = gym.make(env_id)
    assert action_names_of(env) == names
    env.close()


def test_names_have_the_effect_that_they_say() -> None:
    """FrozenLake's actions move on its map, 4 wide; CartPole's push the cart."""
    lake = gym.make("FrozenLake-v1", is_slippery=False)
    moves = {}
    for action, name in enumerate(action_names_of(lake) or ()):
        lake.reset(seed=0)
        lake.unwrapped.s = 10  # third row, third column
        moves[name] = int(lake.step(action)[0]) - 10
    assert moves == {"left": -1, "down": 4, "right": 1, "up": -4}
    pole = gym.make("CartPole-v1")
    for action, name in enumerate(action_names_of(pole) or ()):
        before, _ = pole.reset(seed=0)
        after = pole.step(action)[0]
        assert (after[1] > before[1]) == (name == "right")


def test_taxi_s_names_whatever_its_version() -> None:
    names = known_action_names("Taxi-v3")
    assert names == known_action_names("Taxi-v4")
    assert names == ("south", "north", "east", "west", "pick up", "drop off")


class Game(gym.Env[Any, Any]):
    """Tells its actions as Atari's games do."""

    action_space = gym.spaces.Discrete(4)
    observation_space = gym.spaces.Discrete(1)

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "UP", "DOWNLEFTFIRE", "HYPERSPACE"]


def test_an_environment_that_says_them() -> None:
    assert action_names_of(Game()) == ("nothing", "up", "down left fire", "HYPERSPACE")


def test_names_that_do_not_fit_the_actions_are_left_out() -> None:
    env = Game()
    env.action_space = gym.spaces.Discrete(3)
    assert action_names_of(env) is None
    env.action_space = gym.spaces.Box(-1, 1)  # type: ignore[assignment]
    assert action_names_of(env) is None


def test_minatar_s_keys() -> None:
    games = pytest.importorskip("minatar.gym")
    if "MinAtar/Breakout-v1" not in gym.registry:
        games.register_envs()
    names = {
        version: action_names_of(gym.make(f"MinAtar/Breakout-v{version}")) for version in (0, 1)
    }
    assert names == {
        0: ("nothing", "left", "up", "right", "down", "fire"),
        1: ("nothing", "left", "right"),
    }


def test_unknown_environments_have_none() -> None:
    assert known_action_names(None) is None
    assert known_action_names("Lander-v1") is None
