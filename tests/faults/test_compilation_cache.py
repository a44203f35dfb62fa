"""Processes that compile at once into the same empty folder do not disturb each other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from dqn_plugins import {algorithm}
from tests.environments import RecordingEnv
from tests.helpers import weights

model = {algorithm}("MlpPolicy", RecordingEnv(), seed=0, backend="compiled").learn(50)
sys.stdout.write(weights(model).tobytes().hex()[:4000])
"""


def start_together(n_processes: int, folder: Path, algorithm: str) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    for _ in range(2):  # on an empty folder, and on what that left
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM.format(algorithm=algorithm)],
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(n_processes)
        ]
        answers = [process.communicate() for process in processes]
        for process, (_, errors) in zip(processes, answers, strict=True):
            assert process.returncode == 0, errors
        assert len({output for output, _ in answers}) == 1
        assert answers[0][0]
        assert list(folder.rglob("*.nbi"))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("algorithm", ["NaiveDQN", "StreamQ"])
def test_ten_processes_at_once(algorithm, tmp_path):
    start_together(10, tmp_path, algorithm)
