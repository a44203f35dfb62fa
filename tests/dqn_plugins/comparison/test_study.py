import csv
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from filelock import FileLock
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.monitor import load_results

from dqn_plugins import StreamQ
from dqn_plugins.comparison import run_comparison
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.summary import summarise
from dqn_plugins.errors import SettingsError
from tests.dqn_plugins.comparison.studies import (
    ENVIRONMENT,
    cell_folders,
    episodes_of,
    results,
    small_study,
)


def lengths_of(cell: Path) -> list[int]:
    header = (cell / "episodes.csv").read_text().partition("\n")[0]
    assert json.loads(header.removeprefix("#"))["env_id"] == ENVIRONMENT
    return [int(row["l"]) for row in episodes_of(cell)]


def test_a_cell_holds_all_that_was_agreed_on(tmp_path):
    out = tmp_path / "study"
    result = run_comparison(small_study(out, seeds=1), command="dqn-plugins compare ...")
    assert len(result.finished) == 2
    assert not result.failed

    study = json.loads((out / "study.json").read_text())
    assert study["environments"] == [ENVIRONMENT]
    assert list(study["algorithms"]) == ["stream_q", "random"]
    assert study["seeds"] == [0]
    assert study["timesteps"] == 300
    assert study["command"] == "dqn-plugins compare ..."

    cell = out / ENVIRONMENT / "stream_q" / "seed_0"
    assert not (cell / "progress.json").exists()
    settings = json.loads((cell / "settings.json").read_text())
    assert settings["algorithm_class"] == "StreamQ"
    assert (settings["evaluations"], settings["evaluation_episodes"]) == (3, 3)
    assert settings["hyperparameters"]["trace_cut"] == "after"
    assert settings["hyperparameters"]["policy_kwargs"]["layer_norm"] is True
    assert sum(lengths_of(cell)) == 300
    with np.load(cell / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [100, 200, 300]
        assert evaluations["results"].shape == evaluations["ep_lengths"].shape == (3, 3)
        # CartPole gives 1 per step.
        assert np.array_equal(evaluations["results"], evaluations["ep_lengths"])
        assert np.all(np.diff(evaluations["cpu_seconds"]) > 0)
        last_evaluation = evaluations["cpu_seconds"][-1]
    timings = json.loads((cell / "timings.json").read_text())
    assert timings["training_steps"] == 300
    assert timings["training_cpu_seconds"] == pytest.approx(last_evaluation)
    assert timings["evaluation_cpu_seconds"] > 0
    assert timings["peak_memory_mib"] > 0
    shutil.copy(cell / "episodes.csv", tmp_path / "monitor.csv")
    assert load_results(str(tmp_path))["l"].sum() == 300
    versions = json.loads((cell / "versions.json").read_text())
    assert {"python", "dqn_plugins", "stable_baselines3", "platform"} <= versions.keys()
    assert "finished" in json.loads((cell / "done.json").read_text())


def test_the_model_is_the_one_that_was_evaluated(tmp_path):
    out = tmp_path / "study"
    run_comparison(small_study(out, algo=("dqn",), seeds=1, evaluations=7))
    cell = out / ENVIRONMENT / "dqn" / "seed_0"
    with np.load(cell / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"].tolist() == [43, 86, 129, 172, 215, 258, 300]
    with (cell / "final_evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["seed"]) for row in rows] == [2_000_000 + episode for episode in range(4)]
    model = DQN.load(cell / "model.zip")
    env = gym.make(ENVIRONMENT)
    for row in rows:
        obs, _ = env.reset(seed=int(row["seed"]))
        steps, over = 0, False
        while not over:
            obs, _, terminated, truncated, _ = env.step(model.predict(obs, deterministic=True)[0])
            steps, over = steps + 1, terminated or truncated
        assert steps == int(row["length"]) == float(row["return"])


def test_evaluating_does_not_change_what_is_learned(tmp_path):
    model = StreamQ("MlpPolicy", gym.make(ENVIRONMENT), seed=1)
    model.learn(300)
    out = tmp_path / "study"
    run_comparison(small_study(out, algo=("stream_q",), seeds=1, first_seed=1, evaluations=20))
    trained = StreamQ.load(out / ENVIRONMENT / "stream_q" / "seed_1" / "model.zip")
    assert np.array_equal(
        trained.policy.parameters_to_vector(), model.policy.parameters_to_vector()
    )


def test_results_do_not_depend_on_the_number_of_jobs(tmp_path):
    algorithms = ("stream_q", "dqn1", "random")
    one = small_study(tmp_path / "one", algo=algorithms, timesteps=200, jobs=1)
    run_comparison(one)
    result = run_comparison(replace(one, out=tmp_path / "two", jobs=2))
    assert len(result.finished) == 6
    alone, together = results(tmp_path / "one"), results(tmp_path / "two")
    assert alone == together
    assert len({str(values) for values in alone.values()}) == 6  # and on nothing but the seed


@pytest.fixture(scope="module")
def random_study(tmp_path_factory):
    """Two finished cells."""
    out = tmp_path_factory.mktemp("random") / "study"
    settings = small_study(out, algo=("random",), timesteps=60)
    run_comparison(settings)
    return settings


@pytest.fixture
def settings(random_study, tmp_path):
    """Those of a copy of that study."""
    shutil.copytree(random_study.out, tmp_path / "study")
    return replace(random_study, out=tmp_path / "study")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("", shutil.rmtree),
        ("settings.json", lambda path: path.write_text(path.read_text()[:20])),
        ("evaluations.npz", lambda path: path.write_bytes(path.read_bytes()[:-30])),
        ("model.zip", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("done.json", lambda path: path.write_text("{")),
        ("done.json", lambda path: path.write_text("[]")),
        ("done.json", Path.unlink),
        ("episodes.csv", Path.unlink),
        ("final_evaluation.csv", lambda path: path.write_text("")),
    ],
)
def test_a_missing_or_corrupt_cell_is_done_again_and_the_others_are_kept(
    random_study, settings, capsys, name, damage
):
    dates = {path: path.stat().st_mtime_ns for path in settings.out.glob("*/*/*/done.json")}
    damage(settings.out / ENVIRONMENT / "random" / "seed_1" / name)
    result = run_comparison(settings)
    assert result.kept == [f"random · {ENVIRONMENT} · seed 0"]
    assert result.finished == [f"random · {ENVIRONMENT} · seed 1"]
    said = capsys.readouterr().err.replace("\n", " ")
    assert ("seed 1 is " in said and "done again" in said) == bool(name)
    assert "1 of 2 cells are finished already. Cells to train: 1." in said
    assert results(settings.out) == results(random_study.out)
    for path, date in dates.items():
        assert (path.stat().st_mtime_ns == date) == (path.parent.name == "seed_0")


FAULTY = """
import os, signal, time
from pathlib import Path
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Faulty(CartPoleEnv):
    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 250 and Path({broken!r}).exists():
            if self.np_random_seed == 1:
                print("about to leave", flush=True)
                os._exit(3)
            if self.np_random_seed == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.np_random_seed == 3:
                time.sleep(1000)
            if self.np_random_seed == 4:
                raise ZeroDivisionError("seed 4 breaks it")
        return super().step(action)

gym.register("Faulty-v0", Faulty, max_episode_steps=100)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_raises_dies_or_hangs_is_its_cells_failure_alone_and_done_again(tmp_path, monkeypatch):
    broken = tmp_path / "is_broken"
    broken.touch()
    (tmp_path / "faulty.py").write_text(FAULTY.format(broken=str(broken)))
    monkeypatch.syspath_prepend(tmp_path)
    # Seeds of evaluations are none of those that it fails with.
    settings = small_study(
        tmp_path / "study", env=("faulty:Faulty-v0",), algo=("random",), seeds=5, cell_timeout=15.0
    )
    result = run_comparison(settings)
    assert (len(result.finished), len(result.failed)) == (1, 4)
    read = {cell.seed: cell for cell in read_study(settings.out).cells}
    assert {seed for seed, cell in read.items() if cell.status == "failed"} == {1, 2, 3, 4}
    assert read[1].error == "its process ended with exit code 3"
    assert "about to leave" in read[1].traceback
    assert read[1].evaluations.steps.tolist() == [100, 200]  # the curve up to there
    assert read[2].error.startswith("its process was ended by SIGKILL")
    assert read[3].error == "it was killed after 15 seconds, see --cell-timeout"
    assert read[4].error == "ZeroDivisionError: seed 4 breaks it"
    assert "Traceback" in read[4].traceback
    assert not (read[4].folder / "done.json").exists()
    assert not list(settings.out.glob("*/*/.seed_*"))

    broken.unlink()
    again = run_comparison(settings)
    assert (len(again.kept), len(again.finished), again.failed) == (1, 4, {})
    assert not list(settings.out.glob("*/*/*/failure.json"))


NOT_FINITE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class NotFinite(CartPoleEnv):
    def __init__(self, in_evaluations):
        super().__init__()
        self.in_evaluations = in_evaluations

    def step(self, action):
        observation, reward, *rest = super().step(action)
        is_evaluated = self.np_random_seed >= 1_000_000
        return observation, float("nan") if is_evaluated == self.in_evaluations else reward, *rest

gym.register("NotFinite-v0", NotFinite, max_episode_steps=100)
"""


def test_returns_and_weights_that_are_not_finite_fail_their_cell(tmp_path, monkeypatch):
    (tmp_path / "not_finite.py").write_text(NOT_FINITE)
    monkeypatch.syspath_prepend(tmp_path)
    variants = {
        "early": {"algorithm": "dqn", "env_kwargs": {"in_evaluations": False}},
        "late": {"algorithm": "random", "env_kwargs": {"in_evaluations": True}},
    }
    settings = small_study(
        tmp_path / "returns", env=("not_finite:NotFinite-v0",), algo=(), seeds=1, variants=variants
    )
    result = run_comparison(settings)
    early, late = (error for _, error in sorted(result.failed.items()))
    assert re.match(r"ValueError: training: received a return of nan in \d+ of \d+ episodes", early)
    assert "ValueError: evaluation: received a return of nan in 13 of 13 episodes" in late
    diverging = replace(
        settings, out=tmp_path / "weights", env=(ENVIRONMENT,), algo=("dqn",), variants={},
        hp=("learning_rate:1e20",),
    )  # fmt: skip
    (error,) = run_comparison(diverging).failed.values()
    assert error.startswith("ValueError: training: received weights that are NaN or infinite")


def test_greedy_episodes_that_do_not_end_are_cut_and_said(tmp_path):
    settings = small_study(
        tmp_path / "study", env=("Acrobot-v1",), algo=("random",), seeds=1, max_episode_steps=30
    )
    assert not run_comparison(settings).failed
    study = read_study(settings.out)
    assert study.cells[0].final_return == -30
    assert study.cells[0].final_episodes["cut"].tolist() == [True] * 4
    assert "were cut, see --max-episode-steps" in summarise(study).cautions[1]


def test_environments_are_made_as_asked_for_training_and_evaluation(tmp_path):
    pytest.importorskip("tensorboard")
    settings = small_study(
        tmp_path / "study",
        algo=("stream_q", "a2c"),
        seeds=1,
        timesteps=200,
        env_kwargs=("sutton_barto_reward:true",),
        wrapper=("gymnasium.wrappers.TimeAwareObservation",),
        n_envs=2,
        tensorboard=True,
        videos=True,
        variants={
            "stream_q": {"vectorization": "async"},
            "a2c": {"normalize": True, "frame_stack": 2, "policy_kwargs": {"net_arch": [8]}},
        },
        hp=("a2c.policy_kwargs.net_arch:[4]", "gamma:0.9"),
    )
    result = run_comparison(settings)
    assert not result.failed
    for cell in read_study(settings.out).cells:
        # In Sutton and Barto's CartPole every step gives 0, and the fall -1.
        assert set(cell.final_episodes["return"]) == {-1.0}
        assert cell.settings["hyperparameters"]["gamma"] == 0.9
        assert cell.video is not None, cell.video_facts
        assert list(cell.folder.glob("tensorboard/*/events*"))
        logs = sorted(path.name for path in cell.folder.glob("episodes*.csv"))
        assert logs == ["episodes.0.csv", "episodes.1.csv"]
    model = A2C.load(settings.out / ENVIRONMENT / "a2c" / "seed_0" / "model.zip")
    assert model.observation_space.shape == (10,)  # four numbers and the time, twice
    assert model.policy.net_arch == [4]


def test_envpool_is_trained_on_and_gymnasium_evaluated(tmp_path):
    pytest.importorskip("envpool", reason="EnvPool is not installed")
    settings = small_study(
        tmp_path / "study",
        algo=("stream_q", "random"),
        seeds=1,
        n_envs=4,
        vectorization="envpool",
        variants={"stream_q": {"normalize": True}},
    )
    assert not run_comparison(settings).failed
    again = replace(settings, out=tmp_path / "again")
    run_comparison(again)
    assert results(settings.out) == results(again.out)
    for cell in read_study(settings.out).cells:
        assert set(cell.final_episodes["return"]) == set(cell.final_episodes["length"])
        rows = episodes_of(cell.folder)
        assert rows
        # A step in which EnvPool begins an episode is none: CartPole gives 1 for each that is.
        assert all(float(row["r"]) == float(row["l"]) for row in rows)


def test_what_is_imported_and_what_is_left_out_is_said_first(tmp_path, monkeypatch, capsys):
    (tmp_path / "own_wrapper.py").write_text(
        "import gymnasium, sys\n"
        "print('it is imported', file=sys.stderr)\n"
        "class Mine(gymnasium.Wrapper): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    variants = {
        "random": {"environments": {ENVIRONMENT: {"wrappers": ["own_wrapper:Mine"]}}},
        "other": {"algorithm": "dqn"},
    }
    settings = small_study(
        tmp_path / "study", algo=("random",), seeds=1, timesteps=30, variants=variants
    )
    assert not run_comparison(settings).failed
    unused, first, second, *_ = capsys.readouterr().err.splitlines()
    assert unused == "other: left out, because algo names others."
    assert first == "Imports own_wrapper, as the settings ask."
    assert second == "it is imported"


def test_a_changed_setting_of_a_cell_is_refused_and_the_difference_shown(settings):
    with pytest.raises(ValueError, match=r"timesteps: there 60, asked for 70"):
        run_comparison(replace(settings, timesteps=70))
    variants = {"random": {"n_envs": 2}}
    with pytest.raises(SettingsError, match=r"random on CartPole-v1.*n_envs: there nothing"):
        run_comparison(replace(settings, variants=variants))
    # How it is run is no part of what it is.
    assert len(run_comparison(replace(settings, jobs=1)).kept) == 2


def test_a_study_grows_and_keeps_what_is_there(settings, tmp_path):
    more = replace(settings, algo=("a2c", "random"), seeds=3)
    commands = read_study(settings.out).settings["command"]
    for _ in range(2):
        run_comparison(replace(settings, seeds=1), command="the same again")
    grown = run_comparison(more, command="more")
    assert (len(grown.kept), len(grown.finished)) == (2, 4)
    # Nothing is lost when less is asked for, and a new environment is one more.
    other = replace(settings, env=("Acrobot-v1",), seeds=1)
    assert len(run_comparison(other).finished) == 1
    study = read_study(settings.out)
    assert study.environments == (ENVIRONMENT, "Acrobot-v1")
    assert study.algorithms == ("random", "a2c")
    assert study.seeds == (0, 1, 2)
    assert study.settings["command"] == f"{commands}\nthe same again\nmore"
    assert [cell.status for cell in study.cells].count("finished") == 7
    # The same as if it had been asked for at once.
    whole = replace(more, out=tmp_path / "whole")
    run_comparison(whole)
    grown_results = results(settings.out)
    assert all(grown_results[name] == each for name, each in results(whole.out).items())


def test_a_damaged_study_is_mended_by_running_it_again(settings):
    file = settings.out / "study.json"
    for damage in (file.unlink, lambda: file.write_text("{")):
        damage()
        with pytest.raises(SettingsError, match="--out"):
            read_study(settings.out)
        assert len(run_comparison(settings).kept) == 2
        assert len(read_study(settings.out).cells) == 2
    file.write_text("{")
    with pytest.raises(SettingsError, match="timesteps: there 60, asked for 70"):
        run_comparison(replace(settings, timesteps=70))


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex and no study"):
        run_comparison(small_study(tmp_path))
    assert cell_folders(tmp_path) == []


def test_two_runs_at_once_on_one_folder_are_refused(tmp_path):
    settings = small_study(tmp_path / "study")
    settings.out.mkdir()
    with (
        FileLock(settings.out / ".lock"),
        pytest.raises(SettingsError, match="another run is at work"),
    ):
        run_comparison(settings)


@pytest.mark.parametrize("algorithm", ["stream_q", "dqn", "ppo", "random"])
def test_a_budget_of_cpu_seconds_ends_the_training(tmp_path, algorithm):
    out = tmp_path / "study"
    variants = {"dqn": {"learning_starts": 0}, "ppo": {"n_steps": 64}}
    settings = small_study(
        out, algo=(algorithm,), seeds=1, timesteps=None, cpu_seconds=0.5, variants=variants
    )
    result = run_comparison(settings)
    assert not result.failed
    cell = out / ENVIRONMENT / algorithm / "seed_0"
    timings = json.loads((cell / "timings.json").read_text())
    assert timings["training_cpu_seconds"] >= 0.5
    assert timings["training_steps"] == sum(lengths_of(cell))
    with np.load(cell / "evaluations.npz") as evaluations:
        assert evaluations["timesteps"][-1] == timings["training_steps"]
        assert 1 <= len(evaluations["timesteps"]) <= 3
    if algorithm in ("stream_q", "dqn"):
        # Exploration has come to its end with the budget, whatever the number of steps.
        model = (StreamQ if algorithm == "stream_q" else DQN).load(cell / "model.zip")
        assert model.exploration_rate == pytest.approx(model.exploration_final_eps, abs=0.01)
