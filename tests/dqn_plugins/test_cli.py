"""The command line from end to end, in this process."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from dqn_plugins import NaiveDQN
from dqn_plugins.cli import main
from dqn_plugins.experiments.algorithms import ALGORITHMS
from tests.dqn_plugins.comparison.studies import status_of
from tests.dqn_plugins.comparison.synthetic_study import finish_cell, write_study


def test_what_was_trained_is_recorded(tmp_path: Path) -> None:
    run, videos = tmp_path / "run", tmp_path / "videos"
    what = ("--algo", "naive_dqn", "--env", "CartPole-v1", "--timesteps", 60)
    assert not status_of("train", *what, "--out", run)
    assert NaiveDQN.load(run / "model").num_timesteps == 60
    assert not status_of("record", run, "--episodes", 1, "--out", videos)
    assert len(list(videos.glob("*.mp4"))) == 1


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"dqn-plugins {version('dqn-plugins')}\n"
    assert status_of("compare", "--no-such-flag") == 2


def test_the_help_names_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("compare", "--help") == 0
    (names,) = re.findall(r"Algorithms: ([^.]*)\.", re.sub(r"[│\s]+", " ", capsys.readouterr().out))
    assert set(names.split(", ")) == set(ALGORITHMS)


def test_a_cell_that_fails_is_named_and_the_status_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # PPO refuses rollouts of one transition: it cannot normalise their advantages.
    config = tmp_path / "study.yaml"
    config.write_text("algorithms: {broken: {algorithm: ppo, n_steps: 1, n_epochs: 1}}\n")
    what = ("--env", "CartPole-v1", "--seeds", 1, "--timesteps", 20, "--jobs", 1)
    out = ("--config", config, "--out", tmp_path / "study", "--no-videos")
    assert status_of("compare", *what, *out) == 1
    assert re.search(r"Failed: broken\b.*: SettingsError: broken: ", capsys.readouterr().err)


@pytest.fixture
def environment_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module, named as no other, with a CartPole that does something else in its step."""

    def write(module: str, statement: str) -> str:
        (tmp_path / f"{module}.py").write_text(
            "import gymnasium as gym\n"
            "from gymnasium.envs.classic_control import CartPoleEnv\n"
            "class Other(CartPoleEnv):\n"
            "    def step(self, action):\n"
            f"        {statement}\n"
            f"gym.register('{module}-v0', Other)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"{module}:{module}-v0"

    return write


def test_a_mistake_is_one_line_and_a_fault_keeps_its_traceback(
    tmp_path: Path, environment_that: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    env = ("--env", environment_that("raises", "raise ValueError('not the settings')"))
    what = ("--algo", "random", "--timesteps", 20)
    assert status_of("train", *what, "--env", "Cart Pole", "--out", tmp_path / "mistake") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: env: received 'Cart Pole'")

    config = tmp_path / "study.yaml"
    config.write_text("timesteps: many")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        command = ("compare", "--config", config, "--env", "CartPole-v1", "--algo", "random")
        assert status_of(*command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: timesteps: received 'many'")

    with pytest.raises(ValueError, match="not the settings") as fault:
        main([str(each) for each in ("train", *what, *env, "--out", tmp_path / "fault")])
    assert fault.traceback[-1].name == "step"


def test_every_command_refuses_a_folder_that_cannot_be_written_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "a_file"
    taken.touch()
    model = tmp_path / "model.zip"
    NaiveDQN("MlpPolicy", "CartPole-v1").save(model)
    what = ("--algo", "random", "--env", "CartPole-v1", "--timesteps", 20)
    study = write_study(tmp_path / "study")
    commands: list[tuple[object, ...]] = [
        ("train", *what, "--out", taken),
        ("compare", *what, "--out", taken),
        ("compare", *what, "--out", tmp_path / "new", "--export", taken),
        ("report", study, "--out", taken),
        ("report", study, "--export", taken),
        ("record", model, "--env", "CartPole-v1", "--out", taken),
        ("export", model, "--output", taken / "model.onnx"),
        ("watch", *what, "--out", taken),
    ]
    for command in commands:
        assert status_of(*command) == 1
        name = str(command[-2]).strip("-")
        said = capsys.readouterr().err
        assert f"Error: {name}: received '{taken}', it must be a folder" in said, command
    assert not (tmp_path / "new").exists()


def test_after_ctrl_c_it_says_how_a_training_goes_on(
    tmp_path: Path, environment_that: Callable[[str, str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    env_id = environment_that("stopping", "raise KeyboardInterrupt")
    what = ("--algo", "naive_dqn", "--env", env_id, "--timesteps", 60)
    again = ("train", *what, "--out", tmp_path / "run")
    assert status_of(*again) == 130
    said = capsys.readouterr().err
    assert "Interrupted. The same command with --resume goes on" in said
    assert "or begins anew if there is none: --checkpoint-every writes them." in said
    assert status_of(*again) == 1
    assert status_of(*again, "--resume") == 130
    assert "has no checkpoint, so the run begins anew." in capsys.readouterr().err


def test_without_the_extra_compare_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "scipy" else found(name)
    )
    assert status_of("compare", "--env", "CartPole-v1", "--out", tmp_path / "study") == 1
    assert "needs scipy, not installed here" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_the_module_is_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dqn-plugins", "--help"])
    with pytest.raises(SystemExit) as ending:
        runpy.run_module("dqn_plugins", run_name="__main__")
    assert not ending.value.code
    assert "compare, train, record" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_report_is_printed_whatever_the_encoding(tmp_path: Path, encoding: str) -> None:
    study = write_study(tmp_path, algorithms=["dqn"], seeds=1)
    finish_cell(study, "CartPole-v1", "dqn", 0, -0.5)
    command = [sys.executable, "-m", "dqn_plugins", "report", str(study), "--no-videos"]
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    ended = subprocess.run(command, env=env, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert b"dqn ended at ?0.500" in ended.stdout


ROOMS = ("comparison.study", "comparison.report.page", "experiments.record", "experiments.train")


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import dqn_plugins.cli; dqn_plugins.cli.main(['compare', '--help'])", "torch"),
        ("; ".join(f"import dqn_plugins.{room}" for room in ROOMS), "tyro"),
    ],
)
def test_what_takes_long_to_import_is_imported_where_it_is_needed(code: str, module: str) -> None:
    check = f"atexit.register(lambda: os._exit({module!r} in sys.modules))"
    subprocess.run([sys.executable, "-c", f"import atexit, os, sys; {check}; {code}"], check=True)


def test_the_environment_of_the_page_is_trained_by_the_command(tmp_path: Path) -> None:
    """The console script has the working directory not on its path, as `python -m` has."""
    page = Path(__file__).parents[2] / "docs" / "how_to" / "own_environment.md"
    (code,) = re.findall(r"```python\n(.*?)\nmodel = ", page.read_text(), re.DOTALL)
    (tmp_path / "my_module.py").write_text(code)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("dqn-plugins")), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    what = ("--env", "my_module:Thermostat-v0", "--timesteps", "40")
    trained = run("train", *what, "--algo", "naive_dqn", "--out", "run")
    assert trained.returncode == 0, trained.stderr
    recorded = run("record", "run")
    assert recorded.returncode == 1
    assert "no pictures" in recorded.stderr
    assert "Traceback" not in recorded.stderr
    # In processes of its own, too
    study = ("--algo", "dqn", "--seeds", "2", "--jobs", "2", "--out", "study", "--no-videos")
    compared = run("compare", *what, *study)
    assert compared.returncode == 0, compared.stderr
