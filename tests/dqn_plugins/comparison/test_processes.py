"""Tasks in processes, and on a cluster, for real: a local Dask cluster."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from dqn_plugins.comparison import run_comparison
from dqn_plugins.comparison.processes import run_tasks
from dqn_plugins.errors import SettingsError
from tests.dqn_plugins.comparison.studies import results, small_study


def ends_of(tasks, **arguments):
    return dict(end for end in run_tasks(tasks, 2, **arguments) if end is not None)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_each_end_of_a_process_is_told():
    tasks = [partial(os._exit, 0), partial(os._exit, 7), os.abort, partial(time.sleep, 100)]
    assert ends_of(tasks, timeout=8.0) == {
        0: None,
        1: "its process ended with exit code 7",
        2: "its process was ended by SIGABRT",
        3: "it was killed after 8 seconds, see --cell-timeout",
    }


def test_a_folder_with_the_packages_name_is_not_taken_for_it(tmp_path):
    # As in a clone, beside an ordinary installation.
    (tmp_path / "dqn_plugins").mkdir()
    (tmp_path / "dqn_plugins" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    command = Path(sys.executable).with_name("dqn-plugins")
    what = "--env CartPole-v1 --algo random --seeds 1 --timesteps 20 --no-videos --out study"
    ended = subprocess.run(
        [command, "compare", *what.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "not this one" not in ended.stderr


def test_tasks_are_killed_with_whoever_asked_for_them(tmp_path):
    started = tmp_path / "started"
    run = run_tasks([partial(touch_and_sleep, started)], 1)
    next(run)
    while not started.exists():
        next(run)
    run.close()
    pid = int(started.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def touch_and_sleep(path: Path) -> None:
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)
    time.sleep(100)


@pytest.mark.slow
def test_a_cluster_whose_worker_is_killed_gives_the_same_results(tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = small_study(tmp_path / "here", timesteps=100)
    run_comparison(settings)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None
    ) as cluster:
        there = replace(
            settings,
            out=tmp_path / "there",
            backend="dask",
            dask_address=cluster.scheduler_address,
            jobs=-1,
        )
        worker = cluster.workers[0].pid
        killer = threading.Thread(target=kill_while_a_cell_runs, args=(worker, there.out))
        killer.start()
        result = run_comparison(there)
        killer.join()
        assert cluster.workers[0].pid != worker
    assert len(result.finished) == 4
    assert results(there.out) == results(settings.out)


def kill_while_a_cell_runs(pid: int, study: Path) -> None:
    while not list(study.glob("*/*/.seed_*/versions.json")):
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)


def test_dask_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match=r"'dask', which is not installed.*\[cluster\]"):
        run_comparison(small_study(tmp_path / "study", backend="dask", timesteps=50))


def test_the_number_of_cores_can_be_limited_from_outside(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    others, most = set(multiprocessing.active_children()), 0
    for end in run_tasks([partial(time.sleep, 0.5)] * 2, -1):
        most = max(most, len(set(multiprocessing.active_children()) - others))
        assert end is None or end[1] is None
    assert most == 1
