"""Small studies, and what they left on disk without what may differ from run to run."""

import csv
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqn_plugins.cli import main
from dqn_plugins.comparison import ComparisonSettings

__all__ = ["ENVIRONMENT", "cell_folders", "episodes_of", "results", "small_study", "status_of"]

ENVIRONMENT = "CartPole-v1"


def small_study(out: Path, **changes: Any) -> ComparisonSettings:
    """Two algorithms, two seeds, a few hundred steps."""
    settings: dict[str, Any] = {
        "env": (ENVIRONMENT,),
        "algo": ("stream_q", "random"),
        "seeds": 2,
        "timesteps": 300,
        "evaluations": 3,
        "evaluation_episodes": 3,
        "final_evaluation_episodes": 4,
        "jobs": 2,
        "videos": False,
        "out": out,
    }
    return ComparisonSettings(**{**settings, **changes})


def status_of(*arguments: object) -> object:
    """Run the command line in this process; its exit status."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    return ending.value.code


def cell_folders(out: Path) -> list[Path]:
    """The cells that are there, finished or failed."""
    return sorted(path for path in out.glob("*/*/seed_*"))


def episodes_of(folder: Path, logs: str = "episodes*.csv") -> list[dict[str, str]]:
    """The rows of its logs of training episodes."""
    texts = [log.read_text().splitlines()[1:] for log in sorted(folder.glob(logs))]
    return [row for text in texts for row in csv.DictReader(text)]


def results(out: Path) -> dict[str, list[Any]]:
    """All results of all cells: no times, no dates."""
    found: dict[str, list[Any]] = {}
    for folder in cell_folders(out):
        episodes = [(row["r"], row["l"], row["terminated"]) for row in episodes_of(folder)]
        with np.load(folder / "evaluations.npz") as arrays:
            evaluations = {
                name: arrays[name].tolist() for name in ("timesteps", "results", "ep_lengths")
            }
        final = (folder / "final_evaluation.csv").read_text()
        with zipfile.ZipFile(folder / "model.zip") as file:
            weights = file.read("policy.pth")
        found[str(folder.relative_to(out))] = [episodes, evaluations, final, weights]
    return found
