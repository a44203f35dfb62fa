"""A study that is killed and begun again, for real."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest

from dqn_plugins.comparison import run_comparison, write_report
from dqn_plugins.comparison.summary import TIMING_COLUMNS
from tests.dqn_plugins.comparison.studies import cell_folders, results, small_study

TIMESTEPS = 1_500
SCRIPT = """
import sys
from pathlib import Path
from dqn_plugins.comparison import run_comparison
from tests.dqn_plugins.comparison.studies import small_study

if __name__ == "__main__":
    study = {{"algo": ("stream_q", "a2c"), "timesteps": {timesteps}, "seeds": {seeds}}}
    run_comparison(small_study(Path(sys.argv[1]), **study))
"""


def wait_until(condition: Callable[[], bool], child: subprocess.Popen[bytes]) -> bool:
    """Whether it came to be before the child ended by itself."""
    while not condition():
        if child.poll() is not None:
            assert child.returncode == 0
            return False
        time.sleep(0.01)
    return True


def summary(out: Path) -> str:
    write_report(out, videos=False)
    table = pd.read_csv(out / "summary.csv", dtype=str)
    return table.drop(columns=list(TIMING_COLUMNS)).to_csv(index=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize(("times", "seeds"), [(1, 2), pytest.param(20, 3, marks=pytest.mark.long)])
def test_killed_at_random_moments_resumed_and_grown_the_results_are_the_same(
    times: int, seeds: int, tmp_path: Path
) -> None:
    settings = small_study(
        tmp_path / "whole", algo=("stream_q", "a2c"), seeds=seeds, timesteps=TIMESTEPS
    )
    run_comparison(settings)
    killed = replace(settings, out=tmp_path / "killed")
    script = tmp_path / "script.py"
    moments = random.Random(time.time_ns())
    for kill in range(times):
        # Half of the kills are of the study with one seed, the rest while it grows.
        script.write_text(
            SCRIPT.format(timesteps=TIMESTEPS, seeds=1 if 2 * kill < times else seeds)
        )
        child = subprocess.Popen(
            [sys.executable, str(script), str(killed.out)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        )
        try:
            if not wait_until(lambda: any(killed.out.glob("*/*/.seed_*/progress.json")), child):
                continue  # all that it asked for is finished
            time.sleep(moments.uniform(0.0, 0.5))
            workers = psutil.Process(child.pid).children(recursive=True)
        finally:
            child.kill()
            child.wait()
        # Those that worked for it notice that it is gone.
        psutil.wait_procs(workers)
        for folder in cell_folders(killed.out):
            assert (folder / "done.json").exists()
    result = run_comparison(killed)
    assert len(result.kept) + len(result.finished) == 2 * seeds
    assert results(killed.out) == results(settings.out)
    assert summary(killed.out) == summary(settings.out)
    assert not list(killed.out.glob("*/*/.seed_*"))
