"""The CSV log: appended to, flushed, one file per environment."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from stable_baselines3.common.monitor import Monitor, load_results

from dqn_plugins.wrappers import EpisodeLog, EpisodeRecord, EpisodeReward
from tests.wrappers.scripted import Scripted, play


def record(episode_return: float = 1.5, elapsed: float = 0.5) -> EpisodeRecord:
    return EpisodeRecord(episode_return, 3, 0.5, True, False, 0.25, elapsed)


def rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, skiprows=1)


def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path / "run", "Some-v0")
    assert rows(log.path).empty
    log.write(record())
    lines = log.path.read_text().splitlines()
    assert json.loads(lines[0][1:])["env_id"] == "Some-v0"
    assert lines[2] == "1.5,3,0.5,0.25,0.5,True,False,False,,"
    log.close()
    log.close()
    with pytest.raises(ValueError, match="is closed"):
        log.write(record())


def test_a_second_run_continues_the_log_and_its_clock(tmp_path: Path) -> None:
    for _ in range(3):
        env = EpisodeReward(Scripted(), log_file=tmp_path / "run")
        play(env, 2)
        env.close()
        time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["run.monitor.csv"]
    table = load_results(str(tmp_path))
    assert table["r"].tolist() == [-0.5, 8.25] * 3
    assert table["t"].is_monotonic_increasing
    assert table["t"].iloc[2] >= 0.02


def test_replacing_on_request(tmp_path: Path) -> None:
    for _ in range(2):
        env = EpisodeReward(Scripted(), log_file=tmp_path / "run", append=False)
        play(env, 1)
        env.close()
    assert len(load_results(str(tmp_path))) == 1


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("run", "run.monitor.csv"),
        ("run.csv", "run.csv.monitor.csv"),
        ("run.monitor.csv", "run.monitor.csv"),
        ("monitor.csv", "monitor.csv"),
        ("deep/er/run", "deep/er/run.monitor.csv"),
        (".", "monitor.csv"),
        ("new/", "new/monitor.csv"),
    ],
)
def test_names(tmp_path: Path, given: str, made: str) -> None:
    log = EpisodeLog(f"{tmp_path}/{given}")
    assert log.path == tmp_path / made
    log.close()


def test_two_environments_at_once_get_two_files(tmp_path: Path) -> None:
    first, second = EpisodeLog(tmp_path / "run"), EpisodeLog(tmp_path / "run")
    folder = [EpisodeLog(tmp_path), EpisodeLog(tmp_path)]
    assert [first.path.name, second.path.name] == ["run.monitor.csv", "run_1.monitor.csv"]
    assert [log.path.name for log in folder] == ["monitor.csv", "1.monitor.csv"]
    first.close()
    again = EpisodeLog(tmp_path / "run")
    assert again.path == first.path
    for log in (second, again, *folder):
        log.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_another_process_gets_another_file(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path / "run")
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'a')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    log.close()
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(log.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"locked\n"
    second = EpisodeLog(tmp_path / "run")
    assert second.path.name == "run_1.monitor.csv"
    second.close()
    other.communicate(b"")


def test_half_a_row_is_removed_and_a_whole_one_kept(tmp_path: Path) -> None:
    log = EpisodeLog(tmp_path / "run")
    log.write(record(1))
    log.write(record(2))
    log.close()
    whole = log.path.read_bytes()
    log.path.write_bytes(whole[:-12])
    with pytest.warns(UserWarning, match="half a row"):
        log = EpisodeLog(tmp_path / "run")
    log.write(record(3))
    log.close()
    assert rows(log.path)["r"].tolist() == [1, 3]
    log.path.write_bytes(log.path.read_bytes()[:-1])
    log = EpisodeLog(tmp_path / "run")
    log.write(record(4))
    log.close()
    assert rows(log.path)["r"].tolist() == [1, 3, 4]


@pytest.mark.parametrize("content", ["", "#{", '#{"t_start": 1.0, "env_id": "x"}\nr,l'])
def test_a_log_without_a_whole_header_is_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.monitor.csv").write_text(content)
    log = EpisodeLog(tmp_path / "run")
    log.write(record())
    log.close()
    assert load_results(str(tmp_path))["r"].tolist() == [1.5]


@pytest.mark.parametrize(
    "content", ["my notes\n", "my notes\nand more\n", "#{}\nr,l,t\n", '#{"t_start": 1}\na,b\n1,2\n']
)
def test_files_of_another_kind_are_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.monitor.csv").write_text(content)
    with pytest.raises(ValueError, match=r"log_file: received .* no episode log.*append=False"):
        EpisodeLog(tmp_path / "run")
    assert (tmp_path / "run.monitor.csv").read_text() == content
    EpisodeLog(tmp_path / "run", append=False).close()


def test_a_log_of_sb3s_monitor_is_continued(tmp_path: Path) -> None:
    env: Any = Monitor(Scripted(), str(tmp_path / "run"))
    play(env, 1)
    env.close()
    with pytest.warns(UserWarning, match="begun with fewer columns"):
        env = EpisodeReward(Scripted(), log_file=tmp_path / "run")
    play(env, 2)
    env.close()
    assert load_results(str(tmp_path))["r"].tolist() == [-0.5, -0.5, 8.25]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"log_file: received .*Pass"):
        EpisodeLog(tmp_path / "file" / "run")
    (tmp_path / "run.monitor.csv").mkdir()
    log = EpisodeLog(tmp_path / "run.monitor.csv")
    assert log.path.parent.name == "run.monitor.csv"
    log.close()
