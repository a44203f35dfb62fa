"""Cells read as what they are."""

import json

import gymnasium as gym
import pytest
from rich.console import Console

from dqn_plugins.comparison import write_report
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.study import _claim_folder
from dqn_plugins.errors import SettingsError
from tests.dqn_plugins.comparison.synthetic_study import fail_cell, finish_cell, write_study

ENVIRONMENT = "CartPole-v1"
FILES = ("timings.json", "evaluations.npz", "final_evaluation.csv", "done.json")


@pytest.fixture
def study(tmp_path):
    """Five seeds of one algorithm, of which the first is finished."""
    write_study(tmp_path, algorithms=["dqn"], seeds=5)
    finish_cell(tmp_path, ENVIRONMENT, "dqn", 0, 100.0)
    return tmp_path


def statuses(folder):
    return {cell.seed: cell.status for cell in read_study(folder).cells}


def test_every_state_of_a_cell_is_told(study):
    fail_cell(study, ENVIRONMENT, "dqn", 1, "ValueError: no")
    (study / ENVIRONMENT / "dqn" / ".seed_2.ab12").mkdir()
    finish_cell(study, ENVIRONMENT, "dqn", 3, 50.0)
    damaged = study / ENVIRONMENT / "dqn" / "seed_3" / "final_evaluation.csv"
    damaged.write_text(damaged.read_text().replace("49.0", "9949.0"))
    assert statuses(study) == {
        0: "finished",
        1: "failed",
        2: "unfinished",
        3: "damaged",
        4: "missing",
    }
    read = read_study(study)
    assert [cell.seed for cell in read.finished(ENVIRONMENT, "dqn")] == [0]
    failed, _, broken, _ = read.troubled
    assert failed.error == "ValueError: no"
    assert "Traceback" in failed.traceback
    assert failed.evaluations.returns.tolist() == [20.0, 20.0]  # the curve that it had
    assert "final_evaluation.csv was changed" in broken.error


@pytest.mark.parametrize("rest", [0, 20])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_short_damages_its_cell(study, name, rest):
    file = study / ENVIRONMENT / "dqn" / "seed_0" / name
    file.write_bytes(file.read_bytes()[:rest])
    read = read_study(study).cells[0]
    assert read.status == "damaged"
    assert read.error


def test_returns_that_are_no_numbers_damage_their_cell(study):
    finish_cell(study, ENVIRONMENT, "dqn", 1, float("nan"), curve=[1.0])
    finish_cell(study, ENVIRONMENT, "dqn", 2, 1.0, curve=[float("nan")])
    damaged = read_study(study).cells[1:3]
    assert [cell.error for cell in damaged] == [
        "ValueError: final_evaluation.csv holds no episode, or returns that are not finite",
        "ValueError: evaluations.npz holds returns that are not finite",
    ]


def test_names_with_a_slash_have_a_folder_with_a_dash(tmp_path):
    gym.register("Mine/Pole-v5", "gymnasium.envs.classic_control:CartPoleEnv")
    write_study(tmp_path, ["Mine/Pole-v5"], ["dqn"], seeds=1)
    assert finish_cell(tmp_path, "Mine/Pole-v5", "dqn", 0, 1.0).parts[-3] == "Mine-Pole-v5"
    assert read_study(tmp_path).cells[0].status == "finished"


def test_cells_the_study_does_not_ask_for_are_named(study):
    finish_cell(study, ENVIRONMENT, "ppo", 0, 1.0)
    finish_cell(study, ENVIRONMENT, "dqn", 7, 1.0)
    read = read_study(study)
    assert len(read.cells) == 5
    assert [path.relative_to(study).as_posix() for path in read.strangers] == [
        "CartPole-v1/dqn/seed_7",
        "CartPole-v1/ppo/seed_0",
    ]


def test_folders_without_a_study_are_refused_with_the_fix(tmp_path):
    (tmp_path / "holiday.txt").write_text("sun")
    for report in (read_study, write_report):
        with pytest.raises(SettingsError, match=r"holds no study\.json.*Pass the folder.*--out"):
            report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("algorithms", None),
        ("algorithms", ["dqn"]),
        ("algorithms", {"dqn": 3}),
        ("algorithms", {}),
        ("environments", "CartPole-v1"),
        ("environments", []),
        ("seeds", 5),
    ],
)
def test_a_damaged_description_is_refused_and_mended_by_running_it_again(tmp_path, name, value):
    file = write_study(tmp_path, algorithms=["dqn"]) / "study.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, name: value}))
    with pytest.raises(SettingsError, match=rf"study\.json.*its {name} are .*Run the comparison"):
        read_study(tmp_path)
    _claim_folder(tmp_path, whole, whole["command"], Console(quiet=True))
    assert json.loads(file.read_text()) == whole


def test_the_reference_is_chosen_and_must_be_there(tmp_path):
    write_study(tmp_path, algorithms=["random", "dqn", "ppo"])
    assert read_study(tmp_path).reference == "dqn"
    assert read_study(tmp_path, "ppo").reference == "ppo"
    with pytest.raises(SettingsError, match="reference: received 'a2c'"):
        read_study(tmp_path, "a2c")
