"""What other tools take from a study, and several studies as one."""

import csv
import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dqn_plugins.comparison.report.export import citation
from dqn_plugins.comparison.report.page import write_report
from dqn_plugins.comparison.results import put_together, read_study
from dqn_plugins.errors import SettingsError
from tests.dqn_plugins.comparison.studies import status_of
from tests.dqn_plugins.comparison.synthetic_study import fail_cell, finish_cell, write_study

CART_POLE, ACROBOT = "CartPole-v1", "Acrobot-v1"
FINALS = {
    ("dqn", CART_POLE): [300, 310, 320, 330],
    ("dqn", ACROBOT): [-100, -110, -90, -80],
    ("under_score", CART_POLE): [20, 21, 22, 23],
    ("under_score", ACROBOT): [-500, -500, -500, -500],
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seeds of two algorithms on two environments, one of them failed."""
    folder = tmp_path_factory.mktemp("export") / "study"
    write_study(folder, [CART_POLE, ACROBOT], ["dqn", "under_score"], seeds=4)
    for (algorithm, environment), returns in FINALS.items():
        for seed, final in enumerate(returns):
            if (algorithm, environment, seed) == ("under_score", ACROBOT, 2):
                fail_cell(folder, environment, algorithm, seed, "ValueError: no")
            else:
                finish_cell(folder, environment, algorithm, seed, final)
    content = json.loads((folder / "study.json").read_text())
    content["algorithms"]["under_score"]["source"] = "own"
    (folder / "study.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def exported(study: Path) -> Path:
    out = study.parent / "exported"
    assert not status_of("report", study, "--no-videos", "--export", out)
    return out


def test_every_evaluation_is_a_row(exported: Path) -> None:
    with (exported / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Ten evaluations and a final one of each finished run, two of the failed one.
    assert len(rows) == 15 * 11 + 2
    of_one = [
        row for row in rows
        if (row["environment"], row["algorithm"], row["seed"]) == (CART_POLE, "dqn", "1")
    ]  # fmt: skip
    assert [int(row["steps"]) for row in of_one] == [*range(1_000, 10_001, 1_000), 10_000]
    # The made-up episodes of an evaluation are 1 below and above, the final ones 2, 2, 1 and 1.
    assert [float(of_one[9][name]) for name in ("return_mean", "return_std")] == [310, 1]
    assert of_one[10]["kind"] == "final"
    assert float(of_one[10]["return_mean"]) == 310
    assert float(of_one[10]["return_std"]) == pytest.approx(2.5**0.5)
    # Made up of the same values under two names
    assert len({row["identity"] for row in rows}) == 8
    assert {row["status"] for row in rows} == {"finished", "failed"}


def test_the_scores_are_rliables_dictionary(exported: Path) -> None:
    scores = dict(np.load(exported / "scores.npz"))
    assert scores["dqn"].tolist() == [[300, -100], [310, -110], [320, -90], [330, -80]]
    # A run is a row: seed 2 is not finished on one of the environments.
    assert scores["under_score"].tolist() == [[20, -500], [21, -500], [23, -500]]
    rliable = pytest.importorskip("rliable.metrics")
    assert rliable.aggregate_iqm(scores["dqn"]) == pytest.approx(110)


def test_the_tables_are_those_of_the_paper(exported: Path) -> None:
    markdown = (exported / "table.md").read_text().splitlines()
    assert markdown[0] == "| algorithm | settings | CartPole-v1 | Acrobot-v1 |"
    assert markdown[2].startswith("| `dqn` | defaults | **315** (")
    assert markdown[3].endswith("| −500 (−500 to −500; 3 of 4 seeds) |")
    latex = (exported / "table.tex").read_text()
    assert r"\begin{tabular}{llrr}" in latex
    assert r"\texttt{under\_score} & own & 21.5 {\small (" in latex
    assert r"$-$500 {\small ($-$500 to $-$500; 3 of 4 seeds)} \\" in latex


def test_the_line_to_cite_has_versions_machine_date_and_command(exported: Path) -> None:
    text = (exported / "citation.txt").read_text()
    assert text.startswith("dqn_plugins 0.1.0, Python 3.12.1, gymnasium 1.2.0; Linux.\n")
    assert "2 algorithms, 2 environments, 15 finished runs, 20" in text
    assert text.endswith("dqn-plugins compare --seeds 4 --out 'runs/<b>a & b</b>'\n")


def test_of_several_studies_each_cell_is_there_once(study: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(study, tmp_path / "copy")
    shutil.rmtree(study / ACROBOT / "dqn" / "seed_0")
    more = write_study(tmp_path / "more", [CART_POLE], ["dqn", "ppo"], seeds=2)
    for seed in (0, 1):
        finish_cell(more, CART_POLE, "dqn", seed, 5.0, cpu_seconds_per_step=2e-4)
        finish_cell(more, CART_POLE, "ppo", seed, 7.0)
    together = put_together([read_study(each) for each in (study, copy, more)], tmp_path / "out")
    assert together.environments == (CART_POLE, ACROBOT)
    assert together.algorithms == ("dqn", "under_score", "ppo")
    assert len(together.cells) == 18
    # The first that is finished counts.
    found = {(cell.algorithm, cell.environment, cell.seed): cell for cell in together.cells}
    assert found["dqn", ACROBOT, 0].folder.is_relative_to(copy)
    assert found["dqn", CART_POLE, 0].final_return == 300
    assert [cell.final_return for cell in together.finished(CART_POLE, "ppo")] == [7.0, 7.0]
    page = write_report([study, copy, more], videos=False, out=tmp_path / "out")
    assert page == tmp_path / "out" / "report.html"
    assert citation(together) in html.unescape(page.read_text())


def test_a_name_with_other_settings_gets_the_folders_name(study: Path, tmp_path: Path) -> None:
    other = write_study(tmp_path / "longer", [CART_POLE], ["dqn"], seeds=4, timesteps=20_000)
    for seed in range(4):
        finish_cell(other, CART_POLE, "dqn", seed, 1.0)
    together = put_together([read_study(study), read_study(other)], tmp_path)
    assert together.algorithms == ("dqn", "under_score", "dqn (longer)")
    assert [cell.final_return for cell in together.finished(CART_POLE, "dqn (longer)")] == [1.0] * 4
    assert "timesteps" not in together.settings


def test_every_name_stands_for_the_same_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where folders are called alike, too, and where one is the working directory."""
    studies = [tmp_path / name / "run" for name in "abcd"]
    for number, folder in enumerate(studies):
        timesteps = 10_000 * min(number + 1, 3)  # the last has the settings of the one before
        write_study(folder, [CART_POLE], ["dqn"], seeds=4, timesteps=timesteps)
        finish_cell(folder, CART_POLE, "dqn", number, float(number))
    monkeypatch.chdir(studies[1])
    studies[1] = Path()
    together = put_together([read_study(each) for each in studies], tmp_path)
    assert together.algorithms == ("dqn", "dqn (run)", "dqn (run 2)")
    returns = [[cell.final_return for cell in together.finished(CART_POLE, name)]
               for name in together.algorithms]  # fmt: skip
    assert returns == [[0.0], [1.0], [2.0, 3.0]]


def test_nothing_to_report_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("report")
    assert "studies" in capsys.readouterr().err
    for nothing in ([], None, 3, [None]):
        with pytest.raises(SettingsError, match=r"folder: received .*, it must be.* Pass"):
            write_report(nothing)  # type: ignore[arg-type]
