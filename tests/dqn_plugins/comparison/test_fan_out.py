"""Clusters, for real: a local Dask cluster."""

import os
import signal
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from dqn_plugins.comparison import run_comparison
from dqn_plugins.comparison.fan_out import number_of_workers, run_in_parallel
from tests.dqn_plugins.comparison.studies import results, small_study

distributed = pytest.importorskip("distributed")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_results(tmp_path):
    settings = small_study(tmp_path / "here", timesteps=100)
    run_comparison(settings)
    # Two threads in one process: its cells must take turns.
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
        result = run_comparison(there)
    assert len(result.finished) == 4
    assert results(there.out) == results(settings.out)


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_a_backend_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'ray', which is not installed.*pip install ray"):
        run_comparison(small_study(tmp_path / "study", backend="ray", timesteps=50))


def test_dask_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"'dask', which is not installed.*dqn-plugins\[cluster\]"):
        run_comparison(small_study(tmp_path / "study", backend="dask", timesteps=50))


def test_a_cluster_has_as_many_workers_as_it_has():
    assert number_of_workers(-1, "dask") == -1
    assert number_of_workers(3, "loky") == 3
    assert 1 <= number_of_workers(-1, "loky") <= (os.cpu_count() or 1)


def kill_this_process(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_worker_that_dies_is_reported():
    with pytest.raises(RuntimeError, match=r"(?s)A worker process died.*[^.]\. What.*fewer --jobs"):
        run_in_parallel(kill_this_process, [(1,), (2,)], 2, "loky")
