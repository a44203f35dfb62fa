"""What the wrapper and the page's process do, without a browser."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch as th
from gymnasium.error import DependencyNotInstalled
from PIL import Image
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.wrappers import (
    EpisodeReward,
    LiveCallback,
    LivePage,
    LiveView,
    VecEpisodeReward,
    VecLiveView,
)
from tests.wrappers.live.helpers import (
    Client,
    Counting,
    Learning,
    Masked,
    Steps,
    VecSteps,
    balancing,
    port_of,
    until,
    until_the_page_is_gone,
)
from tests.wrappers.scripted import BareVecEnv


def cart_pole(**kwargs: Any) -> LiveView[Any, Any]:
    return LiveView(gym.make("CartPole-v1", render_mode="rgb_array"), port=0, **kwargs)


@contextlib.contextmanager
def learning(algorithm: Any, view: Any = None, **kwargs: Any) -> Iterator[tuple[Any, Any, Client]]:
    """A model that learns CartPole while somebody watches."""
    view = cart_pole() if view is None else view
    model = algorithm("MlpPolicy", view, **kwargs)
    view.attach(model)
    with Client(view.url) as client, Learning(model):
        yield view, model, client
    view.close()


@contextlib.contextmanager
def stepping(env: Any, pause: float = 0.0005, **kwargs: Any) -> Iterator[tuple[Client, Steps]]:
    """Steps of an environment that somebody watches."""
    view = LiveView(env, port=0, **kwargs)
    with Client(view.url) as client, Steps(view, pause) as steps:
        yield client, steps


@pytest.fixture
def counting() -> Iterator[LiveView[Any, Any]]:
    env = LiveView(Counting(), port=0)
    yield env
    env.close()


# What a training gives away


def test_nothing_is_rendered_until_somebody_watches(counting: Any) -> None:
    counting.reset()
    for _ in range(49):
        counting.step(0)
    assert counting.unwrapped.renders == 0
    assert not counting.is_watched
    with Client(counting.url) as client:
        until(lambda: counting.step(0) and counting.is_watched)
        counting.reset()
        until(lambda: counting.step(0) and counting.unwrapped.renders == 1)
        client.until(lambda: client.pictures)


def test_the_first_state_can_be_shown_before_anybody_watches(counting: Any) -> None:
    counting.reset()
    counting.step(0)
    counting.show()
    with Client(counting.url) as client:
        client.until(lambda: client.pictures)
        assert client.states[-1]["state"]["length"] == 1
        assert counting.unwrapped.renders == 1


def test_frames_show_the_state_in_which_the_action_was_chosen(counting: Any) -> None:
    with Client(counting.url) as client, Steps(counting, pause=0.003):
        client.until(lambda: len(client.pictures) > 5)
        picture, state = client.pictures[-1], client.states[-1]["state"]
        frame = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
        assert frame.shape == (40, 60, 3)
        assert (frame == state["length"]).all()
        assert state["return"] == state["length"]
        assert state["action"] == 0
        assert "values" not in state


def test_the_curve_has_every_episode(counting: Any) -> None:
    """Also those from before somebody watched."""
    counting.reset()
    for _ in range(3):
        for _ in range(50):
            counting.step(0)
        counting.reset()
    with Client(counting.url) as client, Steps(counting, pause=0):
        client.until(lambda: len(client.episodes) >= 10)
        steps, seconds, returns, lengths, changed = zip(*client.episodes, strict=True)
    assert list(steps) == [50 * number for number in range(1, len(steps) + 1)]
    assert set(returns) == {50.0}
    assert set(lengths) == {50}
    assert set(changed) == {""}
    assert list(seconds) == sorted(seconds)


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "steps"),
    [
        (StreamQ, {}, 600),
        (NaiveDQN, {"backend": "torch"}, 400),
        (DQN, {"learning_starts": 100}, 400),
        (PPO, {"n_steps": 128}, 384),
    ],
)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.numerics
def test_watching_changes_no_bit(
    several: bool, algorithm: Any, kwargs: Any, steps: int, tmp_path: Path
) -> None:
    """On LunarLander, whose rendering moves bodies in the world that is simulated."""
    weights = []
    for is_watched in (False, True):
        drawn = {"render_mode": "rgb_array"}
        env: Any = gym.make("LunarLander-v3", **drawn)  # type: ignore[arg-type]
        if several:
            env = make_vec_env("LunarLander-v3", 2, env_kwargs=drawn)
        if is_watched:
            env = (VecLiveView if several else LiveView)(env, port=0, folder=tmp_path)
        model = algorithm("MlpPolicy", env, seed=1, **kwargs)
        if is_watched:
            env.attach(model)
            with Client(env.url) as client:
                assert env.wait_until_watched(30)
                for control, value in (("speed", 10), ("look", None), ("pause", True)):
                    client.send(control, value)
                client.send("step")
                client.send("save")
                client.send("film")
                client.send("look")  # stops it
                client.send("pause", False)
                with Learning(model, steps) as thread:
                    client.until(lambda: len(client.pictures) > 3)
                    client.send("speed", 0)
                    thread.join()
            env.close()
        else:
            model.learn(steps)
        weights.append(th.cat([each.detach().ravel() for each in model.policy.parameters()]))
    assert th.equal(*weights)


def test_q_values_probabilities_and_td_errors() -> None:
    env = cart_pole()
    model = DQN("MlpPolicy", env, gamma=0.5, learning_starts=10**9, seed=0)
    with Client(env.url) as client, Learning(model) as learning:
        client.until(lambda: client.pictures)
        assert "values" not in client.states[-1]["state"]
        learning.between_steps(lambda: env.attach(model))
        client.until(lambda: "values" in client.states[-1]["state"])
        state = client.states[-1]["state"]
        assert state["kind"] == "Q"
        assert state["greedy"] == int(np.argmax(state["values"]))
        assert client.known["settings"]["gamma"] == "0.5"
        # 1 + γ max Q(s', ·) − Q(s, a), with Q near 0 in an untrained network
        client.until(lambda: "td_error" in client.known)
        assert 0.2 < client.known["td_error"] < 1.8
        on_policy = PPO("MlpPolicy", gym.make("CartPole-v1"))
        learning.between_steps(lambda: env.attach(on_policy))
        client.until(lambda: client.states[-1]["state"].get("kind") == "probability")
        assert sum(client.states[-1]["state"]["values"]) == pytest.approx(1.0, abs=1e-4)
        learning.between_steps(lambda: env.attach(lambda observation: [float("nan"), 2.0]))
        client.until(lambda: client.states[-1]["state"].get("values") == [None, 2.0])
        assert client.states[-1]["state"]["greedy"] is None
    env.close()


def test_the_td_error_is_of_the_transition_on_the_page() -> None:
    class Model:
        gamma = 0.5

        def __call__(self, observation: Any) -> Any:
            return np.full(3, 10.0 * float(observation[0]))

    seen = set()
    with stepping(Counting(length=3), 0.002, model=Model()) as (client, _):

        def note() -> bool:
            error = client.known.pop("td_error", None)
            if error is not None and client.states:
                seen.add(error)
            return len(seen) == 3

        client.until(note)
    # From 0: 1 + 0.5 * 10 - 0. From 1: 1 + 0.5 * 20 - 10. From 2 the next state is terminal.
    assert seen == {6.0, 1.0, -19.0}


class MasksOfAMethod(Counting):
    """Tells the same as :class:`Masked`, as sb3-contrib asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gym.spaces.Discrete(3)

    def action_masks(self) -> Any:
        return [index != self.steps % 3 for index in range(3)]


@pytest.mark.parametrize("env", [Masked, MasksOfAMethod])
def test_impossible_actions_are_said_and_never_greedy(env: Any) -> None:
    with stepping(env(), 0.002, model=lambda observation: [1.0, 2.0, 3.0]) as (client, _):
        client.until(lambda: len({each["state"]["length"] % 3 for each in client.states}) == 3)
        for state in (each["state"] for each in client.states):
            impossible = state["length"] % 3
            assert state["possible"] == [index != impossible for index in range(3)]
            assert state["greedy"] == (1 if impossible == 2 else 2)
            assert state["values"] == [1.0, 2.0, 3.0]


def test_disturbing_takes_possible_actions_only() -> None:
    env = Masked(1_000_000)
    with stepping(env) as (client, _):
        for number in range(1, 6):
            client.send("disturb")
            client.until(lambda n=number: client.all_of("disturb").count(True) == n)
            client.until(lambda: client.known["controls"]["disturb"] is False)
    actions = np.array(env.actions)
    others = np.flatnonzero(actions)  # undisturbed, it is 0
    assert len(others)
    assert np.all(actions[others] != others % 3)


def test_the_spread_of_q_values_is_kept_for_who_comes_later() -> None:
    view = LiveView(Counting(), model=lambda observation: [-2.0, float("nan"), 5.0], port=0)
    with Steps(view):
        with Client(view.url) as client:
            client.until(lambda: len(client.all("spread")) >= 2)
            steps, _, highest, lowest, _ = client.all("spread")[0][0]
            assert (highest, lowest) == (5.0, -2.0)
            assert steps > 0
        with Client(view.url) as late:
            late.until(lambda: len(late.known.get("spread", [])) >= 2)


def test_actions_have_their_names_or_those_that_are_passed() -> None:
    venv = make_vec_env("CartPole-v1", 2, env_kwargs={"render_mode": "rgb_array"})
    for view, names in (
        (cart_pole(), ["left", "right"]),
        (cart_pole(action_names=["a", "b"]), ["a", "b"]),
        (VecLiveView(venv, port=0), ["left", "right"]),
    ):
        with Client(view.url) as client:
            client.until(lambda client=client: "snapshot" in client.known)
            assert client.known["action_names"] == names
        view.close()


def test_a_callback_attaches_the_model() -> None:
    env = cart_pole()
    model = StreamQ("MlpPolicy", env)
    with Client(env.url) as client:
        model.learn(50, callback=LiveCallback(env))
        client.until(lambda: client.known.get("settings", {}).get("algorithm") == "StreamQ")
        client.until(lambda: client.known.get("name") == "StreamQ")
        assert client.known["reasons"] == {}
    env.close()


def test_the_first_episode_of_a_watched_view_has_no_gap_in_its_seconds(counting: Any) -> None:
    """Time that training waited for the page does not count."""
    began = time.monotonic()
    with Client(counting.url) as client:
        assert counting.wait_until_watched(30)
        with Steps(counting, pause=0):
            client.use("pause", True)
            time.sleep(1.5)
            client.episodes.clear()
            client.send("pause", False)
            client.until(lambda: client.episodes)
            # However long the rest took on a busy machine
            assert client.episodes[0][1] < time.monotonic() - began - 1.0


# Controls


def test_pause_and_one_step(counting: Any) -> None:
    with Client(counting.url) as client, Steps(counting) as steps:
        client.use("pause", True)
        before = steps.count
        for number in range(1, 4):
            client.send("step")
            until(lambda number=number: steps.count == before + number, "one step")
        time.sleep(0.1)
        assert steps.count == before + 3
        client.send("pause", False)
        until(lambda: steps.count > before + 20)


def test_real_time(counting: Any) -> None:
    with Client(counting.url) as client, Steps(counting, pause=0) as steps:
        client.use("speed", 1)
        before, began = steps.count, time.monotonic()
        until(lambda: steps.count >= before + 15)
        # 20 frames per second
        assert time.monotonic() - began > 14 / 20 - 0.05


def test_training_goes_on_when_the_last_browser_leaves(
    counting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Steps(counting) as steps:
        with Client(counting.url) as client:
            client.send("speed", 1)
            client.use("pause", True)
        before = steps.count
        until(lambda: steps.count > before + 100, "training after the pause")
        assert not counting.is_watched


def test_exploration_rate_is_held_and_released() -> None:
    env = EpisodeReward(cart_pole(), window=10_000)
    view = env.env
    model = StreamQ("MlpPolicy", env, exploration_fraction=0.0, exploration_final_eps=0.25)
    view.attach(model)
    schedule = model.exploration_schedule
    with Client(view.url) as client, Learning(model):
        client.until(lambda: client.episodes)
        client.send("exploration", 0.75)
        until(lambda: model.exploration_rate == 0.75)
        client.until(lambda: any("held at 0.75" in episode[4] for episode in client.episodes))
        client.send("exploration", None)
        until(lambda: model.exploration_rate == 0.25)
        assert model.exploration_schedule is schedule
        client.until(lambda: client.episodes[-1][4] == "")
    texts = [record.interventions for record in env.records]
    assert texts[0] == texts[-1] == ""
    assert "exploration rate held at 0.75" in texts
    env.close()


def test_attaching_another_model_gives_the_first_its_own_back(counting: Any) -> None:
    first, second = (DQN("MlpPolicy", gym.make("CartPole-v1")) for _ in range(2))
    schedules = first.exploration_schedule, first.lr_schedule
    counting.attach(first)
    with Client(counting.url) as client:
        assert counting.wait_until_watched(30)
        client.send("exploration", 0.5)
        client.send("learning", False)
        counting.reset()
        until(lambda: counting.step(0) and not counting._training._is_learning)
        counting.attach(first)  # as a callback does at each call of learn
        assert first.exploration_schedule(1.0) == 0.5
        assert first.policy.optimizer.param_groups[0]["lr"] == 0.0
        counting.attach(second)
        assert (first.exploration_schedule, first.lr_schedule) == schedules
        assert first.policy.optimizer.param_groups[0]["lr"] == 1e-4
        client.until(lambda: 0.5 in client.all_of("exploration"))
        client.until(lambda: client.known["controls"]["exploration"] is None)
        assert client.known["controls"]["learning"]


@pytest.mark.parametrize("algorithm", [StreamQ, DQN])
def test_learning_off_keeps_every_weight(algorithm: Any) -> None:
    with learning(algorithm, seed=0, learning_rate=1e-3) as (_, model, client):

        def weights() -> th.Tensor:
            return th.cat([each.detach().ravel().clone() for each in model.q_net.parameters()])

        until(lambda: model.num_timesteps > 200)
        client.use("learning", False)
        n = model.num_timesteps
        until(lambda: model.num_timesteps > n + 5)
        before, n = weights(), model.num_timesteps
        until(lambda: model.num_timesteps > n + 100)
        assert th.equal(weights(), before)
        client.send("learning", True)
        until(lambda: not th.equal(weights(), before))
        assert model.policy.optimizer.param_groups[0]["lr"] == 1e-3
        client.until(lambda: any("learning off" in episode[4] for episode in client.episodes))


def test_disturbing_without_a_model_replaces_eight_actions(counting: Any) -> None:
    with Client(counting.url) as client, Steps(counting):
        client.until(lambda: client.pictures)
        client.send("disturb")
        client.until(lambda: True in client.all_of("disturb"))
        client.until(lambda: client.known["controls"]["disturb"] is False)
        client.until(lambda: any(episode[4] for episode in client.episodes))
    actions = counting.unwrapped.actions
    (random,) = np.nonzero(actions)
    assert len(random) == 8
    assert random[-1] - random[0] == 7
    assert {episode[4] for episode in client.episodes} >= {"8 random actions"}


def test_disturbing_has_the_algorithm_explore_by_itself() -> None:
    """So that it learns from the actions that were taken."""
    rates = []
    env = cart_pole()
    greedy = {"exploration_fraction": 0.0, "exploration_final_eps": 0.0}
    model = StreamQ("MlpPolicy", env, exploration="epsilon_greedy", **greedy)
    env.attach(model)

    def note(*_: Any) -> bool:
        rates.append(model.exploration_rate)
        return len(rates) < 100_000 and 1.0 not in rates[:-20]

    with Client(env.url) as client:
        assert env.wait_until_watched(30)
        client.send("disturb")
        model.learn(10_000_000, callback=note)
        assert rates.count(1.0) == 8
        assert rates[-1] == 0.0
    env.close()


def test_reset_truncates() -> None:
    with stepping(Counting(length=1_000_000)) as (client, steps):
        client.until(lambda: client.states and client.states[-1]["state"]["length"] > 3)
        client.send("reset")
        until(lambda: steps.endings)
        terminated, truncated, info = steps.endings[0]
        assert (terminated, truncated) == (False, True)
        assert info["interventions"] == "reset"
        client.until(lambda: client.episodes)
        assert client.episodes[0][2] < 1_000_000
        assert client.episodes[0][4] == "reset"


def test_models_are_saved_into_one_folder(tmp_path: Path) -> None:
    with learning(StreamQ, cart_pole(folder=tmp_path / "models")) as (_, _, client):
        client.until(lambda: client.pictures)
        client.send("save", "../elsewhere.zip")  # no control has such a value
        client.use("pause", True)
        for _ in range(2):
            client.send("save")
        client.until(lambda: str(client.known.get("notice")).endswith("_1.zip"))
        client.send("pause", False)
    saved = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    steps = saved[0].split("_")[1]
    assert saved == [f"StreamQ_{steps}_steps.zip", f"StreamQ_{steps}_steps_1.zip"]
    assert StreamQ.load(tmp_path / "models" / saved[0]).num_timesteps == int(steps)


def test_a_greedy_look_leaves_training_where_it_is(tmp_path: Path) -> None:
    made = gym.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=20)
    env = LiveView(EpisodeReward(Monitor(made), log_file=tmp_path / "log"), port=0)
    model = balancing(env)
    env.attach(model)
    with Client(env.url) as client, Learning(model):
        n = model.num_timesteps
        client.send("look")
        client.until(
            lambda: str(client.known.get("notice")) == "Greedy look: return 20.0 in 20 steps."
        )
        until(lambda: model.num_timesteps > n + 50)
        assert all("look" not in episode[4] for episode in client.episodes)
        assert None in client.all("td_error")  # that of the training's last step is not the look's
    env.close()
    assert [file.name for file in tmp_path.iterdir()] == ["log.monitor.csv"]


class Unrepeatable(gym.Wrapper):
    """Does not tell its arguments."""


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        (Counting(), "not made by gym.make"),
        (Unrepeatable(gym.make("CartPole-v1", render_mode="rgb_array")), "RecordConstructorArgs"),
    ],
)
def test_why_there_can_be_no_greedy_look_is_said_beforehand(env: Any, reason: str) -> None:
    view = LiveView(env, untrained("CartPole-v1"), port=0)
    with Client(view.url) as client, Steps(view):
        client.until(lambda: reason in client.known.get("reasons", {}).get("look", ""))
    view.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3"])
def test_what_renders_below_sees_what_it_would_without_the_page(env_id: str) -> None:
    below = gym.make(env_id, render_mode="rgb_array")
    env = LiveView(gym.wrappers.AddRenderObservation(below, render_only=True), port=0)
    pictures = [env.reset(seed=0)[0], env.step(0)[0], env.unwrapped.render()]
    assert [picture.shape[2] for picture in pictures] == [3, 3, 3]
    env.close()
    assert (env.unwrapped.render_mode, vars(env.unwrapped).get("render")) == ("rgb_array", None)
    venv = VecLiveView(DummyVecEnv([lambda: gym.make(env_id, render_mode="rgb_array")]), port=0)
    venv.reset()
    assert venv.render("rgb_array").shape[2] == 3
    venv.close()


def test_a_threshold_without_end_is_none() -> None:
    gym.register("Endless-v0", entry_point=Counting, reward_threshold=float("inf"))
    with stepping(gym.make("Endless-v0")) as (client, _):
        client.until(lambda: client.states)
        assert client.known["threshold"] is None


def test_a_training_that_compiles_says_so(counting: Any) -> None:
    with Client(counting.url) as client:
        for is_compiling in (True, False):
            counting._training.on_compilation(is_compiling)
            client.until(lambda expected=is_compiling: client.known.get("compiling") is expected)


def test_a_model_without_exploration_says_why() -> None:
    with learning(PPO, n_steps=64) as (_, _, client):
        client.until(
            lambda: "not act ε-greedily" in client.known.get("reasons", {}).get("exploration", "")
        )
        client.send("exploration", 0.5)
        n = len(client.states)
        client.until(lambda: len(client.states) > n + 3)
        assert client.known["controls"]["exploration"] is None


NO_CONTROLS = [
    "",
    "[]",
    "{}",
    "null",
    '{"control": "close"}',
    '{"control": "__init__"}',
    '{"control": ["pause"]}',
    '{"control": "exploration", "value": 2}',
    '{"control": "exploration", "value": NaN}',
    '{"control": "exploration", "value": true}',
    '{"control": "speed", "value": 1e9}',
    '{"control": "environment", "value": -1}',
    '{"control": "film", "value": "/etc/passwd"}',
    '{"control": "watched", "value": false}',
    '{"control": "pause", "value": 1}',
    '{"control": "pause", "value": true, "padding": "' + 2_000 * "x" + '"}',
]


def test_what_is_no_control_does_nothing(counting: Any) -> None:
    with Client(counting.url) as client, Steps(counting) as steps:
        client.until(lambda: client.pictures)
        for text in NO_CONTROLS:
            client.send_text(text)
        client.use("speed", 10)
        assert client.known["controls"] == {
            "pause": False,
            "speed": 10,
            "exploration": None,
            "learning": True,
            "disturb": False,
            "look": False,
            "environment": None,
        }
        assert counting.is_watched
    assert counting.unwrapped.actions == [0] * steps.count


# Several environments


def test_several_environments_in_a_grid_or_one() -> None:
    venv = VecLiveView(DummyVecEnv([lambda: Counting(40)] * 3), port=0)
    with Client(venv.url) as client, VecSteps(venv):

        def size() -> tuple[int, int]:
            return Image.open(io.BytesIO(client.pictures[-1])).size

        client.until(lambda: client.pictures)
        assert size() == (2 * 60 + 2, 2 * 40 + 2)
        client.use("environment", 2)
        client.until(lambda: size() == (60, 40))


def test_a_vec_env_with_nothing_that_sb3_does_not_call() -> None:
    venv = VecLiveView(BareVecEnv(), port=0)
    with Client(venv.url) as client, VecSteps(venv):
        client.until(lambda: client.pictures)


def test_one_of_several_environments_is_reset() -> None:
    view = VecLiveView(DummyVecEnv([lambda: Counting(1_000_000)] * 2), port=0)
    venv = VecEpisodeReward(view)
    with Client(view.url) as client, VecSteps(venv) as steps:
        client.use("environment", 1)
        client.until(lambda: client.states and client.states[-1]["state"]["length"] > 3)
        client.send("reset")
        until(lambda: steps.endings)
        observations, _, dones, infos = steps.endings[0]
        record = venv.records[-1]
    assert dones.tolist() == [False, True]
    assert infos[1]["TimeLimit.truncated"]
    assert infos[1]["interventions"] == "reset"
    assert infos[1]["terminal_observation"] == observations[0]
    assert observations[1] == 0
    assert (record.interventions, record.environment) == ("reset", 1)


def test_several_trainings_on_one_page() -> None:
    page = LivePage(port=0, quiet=True)
    views = [LiveView(Counting(), name=name, page=page) for name in ("left", "right")]
    with Client(page.url) as client, Steps(views[0]) as left, Steps(views[1]) as right:
        client.until(lambda: {state["run"] for state in client.states} == {0, 1})
        names = {event["run"]: event["snapshot"]["name"] for event in client.events[1:3]}
        assert names == {0: "left", 1: "right"}
        client.send("pause", True, run=1)
        until(lambda: views[1]._training.is_held)
        time.sleep(0.1)
        before = left.count, right.count
        until(lambda: left.count > before[0] + 50)
        assert right.count <= before[1] + 1
        client.send("pause", False, run=None)
        until(lambda: right.count > before[1] + 50)
    page.close()


def test_expected_trainings_appear_in_their_order() -> None:
    """Whichever comes first, and before any does."""
    page = LivePage(
        port=0, quiet=True, expected=[("left", "Env-v0"), ("right", "Env-v0"), ("never", "Env-v0")]
    )
    with Client(page.url) as client:
        client.until(lambda: len(client.snapshots) == 3)
        assert [client.snapshots[run]["name"] for run in range(3)] == ["left", "right", "never"]
        assert not any(each["is_connected"] for each in client.snapshots.values())
        views = [LiveView(Counting(), name=name, page=page) for name in ("right", "left", "more")]
        client.until(lambda: client.snapshots.get(3, {}).get("name") == "more")
        assert [client.snapshots[run]["is_connected"] for run in range(4)] == [1, 1, 0, 1]
        assert client.snapshots[1]["name"] == "right"
        assert client.snapshots[1]["environment"] == "Counting"
        for view in views:
            view.close()
        page.close()
        client.until(lambda: client.ended.get(2))
        assert client.ended == {
            0: "Training is over.",
            1: "Training is over.",
            2: "The program ended before this training began.",
            3: "Training is over.",
        }


def test_a_page_that_is_opened_after_the_training_has_its_curve(counting: Any) -> None:
    counting.reset()
    for _ in range(50):
        counting.step(0)
    counting.close()
    with Client(counting.url) as client:
        client.until(lambda: client.known.get("ended"))
        assert [episode[2] for episode in client.episodes] == [50.0]
    until_the_page_is_gone(counting.url)


# Ends


def test_an_environment_that_raises_is_said_and_raised() -> None:
    class Broken(Counting):
        is_broken = False

        def step(self, action: Any) -> Any:
            if self.steps == 7 and not self.is_broken:
                self.is_broken = True
                raise RuntimeError("the motor is stuck")
            return super().step(action)

    env = LiveView(Broken(), port=0)
    with Client(env.url) as client:
        env.reset()
        for _ in range(7):
            env.step(0)
        with pytest.raises(RuntimeError, match="the motor is stuck"):
            env.step(0)
        client.until(lambda: client.known.get("raised") == "RuntimeError: the motor is stuck")
        with Steps(env):  # a program that goes on is shown to go on
            client.until(lambda: client.known.get("raised", "") is None)


SCRIPT = """
import sys
import time
from dqn_plugins.wrappers import LiveView
from tests.wrappers.live.helpers import Counting

env = LiveView(Counting(10), port=0)
env.wait_until_watched()
env.reset()
while True:
    terminated = env.step(0)[2]
    time.sleep(0.001)
    if terminated:
        env.reset()
    {ending}
"""


@pytest.mark.parametrize(
    ("ending", "words", "failed"),
    [
        ("if env._scene.steps > 100: raise ValueError('lost')", "ValueError: lost", True),
        ("if env._scene.steps > 100: break", "The program that trained is over.", False),
        (
            "if env._scene.steps > 100: env.close(); time.sleep(60)",
            "Training is over.",
            False,
        ),
        ("", "it was killed", True),
    ],
    ids=["raises", "ends", "closes", "killed"],
)
def test_the_page_outlives_the_training(
    ending: str, words: str, failed: bool, tmp_path: Path
) -> None:
    root = Path(__file__).parents[3]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(ending=ending))
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as training:
        try:
            assert training.stdout is not None
            url = training.stdout.readline().split()[-1]
            with Client(url) as client:
                client.until(lambda: len(client.episodes) >= 5)
                if not ending:
                    training.send_signal(signal.SIGKILL)
                client.until(lambda: words in str(client.known.get("ended")))
                assert client.known["failed"] is failed
                count = len(client.episodes)
                # Who comes late sees the curve, too.
                with Client(url) as late:
                    late.until(lambda: late.known.get("ended"))
                    assert len(late.episodes) >= count
        finally:
            training.kill()
    until_the_page_is_gone(url)


def test_a_view_that_nobody_holds_lets_its_page_go() -> None:
    env = LiveView(Counting(), port=0)
    process = psutil.Process(env._page._process.pid)  # type: ignore[union-attr]
    env.reset()
    del env
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def test_training_goes_on_when_the_page_is_killed(counting: Any) -> None:
    with Steps(counting) as steps:
        with Client(counting.url) as client:
            client.use("pause", True)
            counting._page._process.kill()
        before = steps.count
        until(lambda: steps.count > before + 100)
        counting.attach(lambda observation: [0.0])


def test_a_browser_that_does_not_read_holds_up_nobody() -> None:
    """Its picture waits; the others', and training, do not."""
    env = LiveView(BigPictures(), port=0)
    address = env.url.removeprefix("http://").rstrip("/")
    with socket.create_connection(("127.0.0.1", port_of(env.url))) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(
            f"GET /socket HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        with Client(env.url) as client, Steps(env, pause=0) as steps:
            server = psutil.Process(env._page._process.pid)  # type: ignore[union-attr]
            client.until(lambda: len(client.pictures) >= 10)
            memory, before = server.memory_info().rss, steps.count
            client.until(lambda: len(client.pictures) >= 60 and steps.count > before + 1_000)
            # 50 pictures of 100 KB each do not wait for it.
            assert server.memory_info().rss - memory < 4 << 20


class BigPictures(Counting):
    def render(self) -> Any:
        noise = np.random.default_rng(self.steps).integers(0, 256, (60, 90, 3), np.uint8)
        return noise.repeat(4, axis=0).repeat(4, axis=1)


# Bad input


BARE = "CartPole-v1"
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: LiveView(gym.make(BARE)), ValueError, "env: received render_mode=None"),
    (
        lambda: VecLiveView(DummyVecEnv([lambda: gym.make(BARE)])),
        ValueError,
        "venv: received render_mode=None",
    ),
    *[
        (lambda v=v: LiveView(Counting(), port=0, speed=v), ValueError, f"speed: received {v!r}")
        for v in (-1, float("inf"), float("nan"), "fast")
    ],
    (lambda: LiveView(Counting(), page="http://here"), TypeError, "page: received 'http://here'"),
    (lambda: LivePage("192.0.2.1", quiet=True), OSError, r"host, port: received '192\.0\.2\.1'"),
    *[
        (lambda port=port: LivePage(port=port), ValueError, f"port: received {port!r}")
        for port in (-1, 65536, True, "8700")
    ],
]


@pytest.mark.parametrize(("make", "error", "fix"), REFUSED, ids=[fix for *_, fix in REFUSED])
def test_what_cannot_be_shown_is_refused(make: Any, error: type[Exception], fix: str) -> None:
    with pytest.raises(error, match=fix):
        make()


def test_a_page_that_is_gone_is_said() -> None:
    page = LivePage(port=0, quiet=True)
    page._process.kill()
    page._process.wait()
    with pytest.raises(OSError, match=r"page: the page at .* cannot be reached"):
        LiveView(Counting(), page=page.address)


def test_the_next_free_port_is_taken_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        view = LiveView(Counting(), port=port)
    found = port_of(view.url)
    assert found > port
    said = capsys.readouterr().out
    assert said == f"Port {port} is taken, so the page is on {found}.\nWatch at {view.url}\n"
    view.close()


class Blind(Counting):
    def render(self) -> Any:
        raise RuntimeError("no display")


def untrained(env_id: str) -> DQN:
    return DQN("MlpPolicy", gym.make(env_id))


BESIDE_THE_TRAINING: dict[str, tuple[Any, str | None]] = {
    "no display": (lambda _: LiveView(Blind(), port=0), None),
    "make LiveView the outermost": (lambda _: cart_pole(model=untrained("Acrobot-v1")), None),
    "could not be saved": (lambda file: cart_pole(model=untrained(BARE), folder=file), "save"),
}


@pytest.mark.parametrize("words", BESIDE_THE_TRAINING)
def test_what_fails_beside_the_training_is_said_and_trained_on(words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    make, control = BESIDE_THE_TRAINING[words]
    view = make(tmp_path / "file")
    with Client(view.url) as client, Steps(view) as steps:
        client.until(lambda: client.states)
        if control is not None:
            client.send(control)
        client.until(lambda: any(words in client.known.get(on, "") for on in ("notice", "blind")))
        before, n = steps.count, len(client.states)
        client.until(lambda: len(client.states) > n + 5)
        assert steps.count > before
        assert bool(client.pictures) == (words != "no display")
        assert client.known["controls"]["look"] is False


def test_the_extra_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else name
    )
    with pytest.raises(DependencyNotInstalled, match=r"pip install 'dqn-plugins\[live\]'"):
        LiveView(Counting())


@pytest.mark.parametrize(
    ("imported", "not_needed"),
    [
        ("dqn_plugins.wrappers.video.record_video", "starlette uvicorn websockets"),
        ("dqn_plugins.wrappers.live.live_view", "starlette uvicorn websockets"),
        ("dqn_plugins.wrappers.live.server.main", "torch gymnasium stable_baselines3"),
    ],
)
def test_the_server_and_the_training_do_not_import_each_other_s(
    imported: str, not_needed: str
) -> None:
    program = f"import sys, {imported}; assert not set({not_needed.split()}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_a_notebook_shows_the_page(counting: Any) -> None:
    assert f'<iframe src="{counting.url}"' in counting._repr_html_()


def test_snapshots_are_valid_json() -> None:
    """Browsers know no NaN, which an environment may give as a reward."""

    class Odd(Counting):
        def step(self, action: Any) -> Any:
            observation, _, *rest = super().step(action)
            return observation, float("nan"), *rest

    with stepping(Odd(5), model=lambda observation: [float("nan")]) as (client, _):
        client.until(lambda: client.pictures and "td_error" in client.known)
        assert client.known["td_error"] is None
        assert client.states[-1]["state"]["return"] in {None, 0}
        text = json.dumps(client.events)
    assert "NaN" not in text
