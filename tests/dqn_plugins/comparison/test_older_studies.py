"""A study that version 0.2.0 wrote, before cells had an identity: `tests/data/study_0.2.0.zip`."""

import zipfile
from pathlib import Path

import pytest

from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.cell import identity_of
from dqn_plugins.comparison.results import read_study
from dqn_plugins.comparison.settings import read_settings
from dqn_plugins.errors import SettingsError
from dqn_plugins.files import read_json
from tests.dqn_plugins.comparison.studies import ENVIRONMENT, results

CONFIG = """
env: CartPole-v1
seeds: {seeds}
timesteps: {timesteps}
evaluations: 2
evaluation_episodes: 2
final_evaluation_episodes: 2
videos: false
jobs: 2
out: {out}
hp: {{small.gamma: 0.9}}
algorithms:
  random:
  small:
    algorithm: dqn1
    train_freq: [1, step]
    env_kwargs: {{sutton_barto_reward: false}}
    wrappers: [gymnasium.wrappers.TimeAwareObservation]
    policy_kwargs: {{net_arch: [4], activation_fn: torch.nn.Tanh}}
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).parents[2] / "data" / "study_0.2.0.zip") as file:
        file.extractall(tmp_path / "study")
    return tmp_path / "study"


def settings_of(out: Path, seeds: int = 2, timesteps: int = 60) -> ComparisonSettings:
    config = out.with_name("study.yaml")
    config.write_text(CONFIG.format(seeds=seeds, timesteps=timesteps, out=out))
    return read_settings(config)


def test_it_is_read(out: Path) -> None:
    cells = read_study(out).cells
    assert [cell.status for cell in cells] == ["finished"] * 4
    assert len({cell.identity for cell in cells}) == 4


def test_it_is_resumed_and_grows(out: Path) -> None:
    before = results(out)
    grown = run_comparison(settings_of(out, seeds=3))
    assert (len(grown.kept), len(grown.finished), grown.failed) == (4, 2, {})
    after = results(out)
    assert {name: after[name] for name in before} == before
    # The values of its cells are hashed to what this version writes.
    old = read_json(out / ENVIRONMENT / "small" / "seed_1" / "settings.json")
    new = read_json(out / ENVIRONMENT / "small" / "seed_2" / "settings.json")
    assert identity_of({**old, "seed": 2}) == identity_of(new) == new["identity"]


def test_other_settings_are_refused_and_shown(out: Path) -> None:
    with pytest.raises(SettingsError, match=r"small on CartPole-v1\.timesteps: there 60, asked"):
        run_comparison(settings_of(out, timesteps=70))
    assert all(cell.status == "finished" for cell in read_study(out).cells)
