"""The command that trains side by side on one page, or shows a saved model play."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import pandas as pd
import psutil
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from dqn_plugins import NaiveDQN
from dqn_plugins.errors import SettingsError
from dqn_plugins.experiments.watch import WatchSettings, watch
from tests.wrappers.live.helpers import Client, until


@contextmanager
def watching(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; the process and the page's address."""
    command = [sys.executable, "-m", "dqn_plugins", "watch", *arguments, "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"COLUMNS": "200"},
        stderr=subprocess.PIPE,
        text=True,
        # Programs that a shell starts in the background may inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stderr is not None
            found = re.match(r"Watch at (http://\S+)\n", process.stderr.readline())
            assert found is not None
            yield process, found[1]
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()


@pytest.mark.slow
def test_two_algorithms_side_by_side(tmp_path: Path) -> None:
    algorithms = ("--algo", "naive_dqn", "--algo", "random")
    arguments = ("--env", "CartPole-v1", *algorithms, "--timesteps", "3000", "--seed", "5")
    with watching(tmp_path, *arguments) as (process, url):
        assert process.stderr is not None
        assert process.stderr.readline().startswith("It begins when a browser shows the page.")
        time.sleep(1.0)
        assert process.poll() is None
        with Client(url) as client:
            client.until(lambda: {state["run"] for state in client.states} == {0, 1})
            names = [client.snapshots[run]["name"] for run in (0, 1)]
            assert names == ["naive_dqn", "random"]
            client.until(lambda: len(client.ended) == 2)
            saved = "runs/watch/CartPole-v1_naive_dqn_seed_5.zip"
            assert client.ended[0] == f"Trained for 3,000 steps. Saved {saved}"
        assert process.wait(60) == 0
    folder = tmp_path / "runs" / "watch"
    assert NaiveDQN.load(folder / "CartPole-v1_naive_dqn_seed_5").num_timesteps == 3_000
    log = pd.read_csv(folder / "CartPole-v1_naive_dqn_seed_5.monitor.csv", skiprows=1)
    assert log["l"].sum() == 3_000
    assert (folder / "CartPole-v1_random_seed_5.monitor.csv").exists()


@pytest.mark.parametrize("is_paused", [False, True])
def test_ctrl_c_ends_all(is_paused: bool, tmp_path: Path) -> None:
    arguments = ("--env", "CartPole-v1", "--algo", "random", "--timesteps", "100000000")
    with watching(tmp_path, *arguments) as (process, url):
        with Client(url) as client:
            client.until(lambda: client.states and client.states[-1]["state"]["steps"])
            if is_paused:
                client.send("pause", True)
                client.until(lambda: client.known["controls"]["pause"])
            children = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            client.until(lambda: client.known.get("ended"))
            assert client.known["ended"] == "Ended by Ctrl-C."
            assert process.wait(60) == 130
        until(lambda: not any(child.is_running() for child in children), "the end of all")
        assert process.stderr is not None
        said = process.stderr.read()
        assert "Traceback" not in said
        assert "Ended. The logs are in runs/watch. Models are saved when" in said


def test_a_saved_model_plays_until_the_page_is_gone(tmp_path: Path) -> None:
    NaiveDQN("MlpPolicy", "CartPole-v1", seed=0, backend="torch").save(tmp_path / "model.zip")
    (tmp_path / "settings.json").write_text('{"environment": "CartPole-v1"}')
    with watching(tmp_path, "model.zip") as (process, url), Client(url) as client:
        client.until(lambda: client.episodes and client.pictures)
        state: dict[str, Any] = client.states[-1]["state"]
        assert state["action"] == state["greedy"]
        assert "plays and does not learn" in client.known["reasons"]["learning"]
        assert client.known["plays"] is True
        assert client.known["controls"]["speed"] == 1
        (server,) = psutil.Process(process.pid).children()
        server.kill()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert "The page is gone" in process.stderr.read()


def test_a_saved_model_plays_what_is_possible(tmp_path: Path) -> None:
    taxi = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"
    model = NaiveDQN("MlpPolicy", taxi, seed=0, backend="torch", policy_kwargs={"net_arch": []})
    # It would rather let the passenger out, where nobody has got in, than do anything else.
    model.policy.q_net.q_net[-1].bias.data[5] = 100.0
    model.save(tmp_path / "model.zip")
    with watching(tmp_path, "model.zip", "--env", taxi) as (_, url), Client(url) as client:
        client.until(lambda: client.states and client.states[-1]["state"]["action"] is not None)
        assert client.states[-1]["state"]["action"] != 5


def test_a_training_that_fails_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    config = tmp_path / "variants.yaml"
    config.write_text(
        "algorithms:\n  bad: {algorithm: naive_dqn, learning_rate: -1}\n"
        "  worse: {algorithm: dqn, learning_starts: soon}\n"
        "  good: {algorithm: random}\n"
    )
    algorithms = [each for name in ("bad", "worse", "good") for each in ("--algo", name)]
    arguments = ("--env", "CartPole-v1", *algorithms, "--timesteps", "50")
    with watching(tmp_path, *arguments, "--no-wait", "--config", str(config)) as (process, url):
        assert process.stderr is not None
        with Client(url) as client:
            client.until(lambda: len(client.ended) == 3)
            assert client.ended[0].startswith("learning_rate: received -1")
            assert client.ended[1].startswith("TypeError: '<'")
            assert client.ended[2].startswith("Trained for 50 steps. Saved ")
        said = process.stderr.read()
        assert process.wait(60) == 1
    assert "Error: bad: learning_rate: received -1" in said
    assert "Failed: bad" in said
    # What is no mistake in the settings keeps its traceback.
    assert said.count("Traceback") == 1
    assert "TypeError: '<'" in said
    assert "Failed: worse" in said
    assert "Failed: good" not in said


def test_a_variant_has_its_own_environment_and_each_training_its_own_files(tmp_path: Path) -> None:
    config = tmp_path / "variants.yaml"
    config.write_text(
        "algorithms: {own: {algorithm: random, n_envs: 2, env_kwargs: {sutton_barto_reward: true}}}"
    )
    arguments = ("watch", "--env", "CartPole-v1", "--algo", "own", "--timesteps", "100")
    files = ("--config", "variants.yaml", "--no-wait", "--port", "0")
    for _ in range(2):
        command = [sys.executable, "-m", "dqn_plugins", *arguments, *files]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "own: n_envs left out" in run.stderr
    for name in ("CartPole-v1_own_seed_0", "CartPole-v1_own_seed_0_1"):
        assert (tmp_path / "runs" / "watch" / f"{name}.zip").stat().st_size
        log = pd.read_csv(tmp_path / "runs" / "watch" / f"{name}.monitor.csv", skiprows=1)
        assert set(log["r"][:-1]) == {-1.0}  # where the pole fell
        assert log["l"].sum() == 100


class Blind(CartPoleEnv):
    """It takes no render_mode."""

    def __init__(self) -> None:
        super().__init__()


class Forgetful(CartPoleEnv):
    """It keeps no render_mode."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__()


gym.register("Blind-v0", Blind)
gym.register("Forgetful-v0", Forgetful)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (WatchSettings(env="Blind-v0", algo=("dqn",)), "env: .*'Blind-v0', which has no pictures"),
        (WatchSettings(env="Forgetful-v0", algo=("dqn",)), "no pictures: its render_mode is None"),
        (WatchSettings(env="CartPole-v1", algo=("dqn",), port=99999), "port: received 99999"),
        (WatchSettings(env="CartPole-v1", algo=("dqn",), host="1.2.3.4"), "host, port: received"),
        (WatchSettings(), "env: received none"),
        (WatchSettings(env="CartPole-v1"), "algo: received none"),
        (WatchSettings(env="CartPole-v1", algo=("dqn", "dqn")), "each may be named once"),
        (WatchSettings(env="CartPole-v1", algo=("strem_q",)), "there is no such algorithm"),
        (WatchSettings(env="CartPol-v1", algo=("dqn",)), "which Gymnasium cannot make"),
        (WatchSettings(env="CartPole-v1", algo=("dqn",), timesteps=0), "timesteps: received 0"),
        (WatchSettings(env="CartPole-v1", algo=("dqn",), seed=-1), "seed: received -1"),
        (WatchSettings(model=Path("nothing.zip")), "nothing.zip is not there"),
        (WatchSettings(model=Path("model.zip")), "env: there is no settings.json"),
        (WatchSettings(model=Path("nothing.zip"), env="CartPole-v1"), "is not there"),
        (WatchSettings(model=Path("model.zip"), env="Acrobot-v1"), "Pass the environment it was"),
        (
            WatchSettings(model=Path("nothing.zip"), algo=("dqn", "ppo")),
            "must be that of the saved model",
        ),
    ],
)
def test_bad_settings_are_refused(
    settings: WatchSettings, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NaiveDQN("MlpPolicy", "CartPole-v1", backend="torch").save(tmp_path / "model.zip")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=message):
        watch(settings)
