"""
Measure what StreamQ learns, with its defaults, on seeds that chose nothing.

Five studies, each as ``dqn-plugins compare`` would run it, resumable: interrupt it anywhere and run
it again. Writes ``results/learning.md``, ``results/learning.csv`` and ``results/learning.png``
beside this file. Seeds 0 to 9 chose the defaults; the ones here begin at 100.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.report.charts import curves_files
from dqn_plugins.comparison.results import Cell, StudyResults, read_study
from dqn_plugins.comparison.summary import AlgorithmSummary, interval, number, summarise
from dqn_plugins.experiments.settings import variants_in

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TUNED_DQN = HERE.parent / "examples" / "configs" / "lunar_lander_dqn_rl_zoo.yaml"
FIRST_SEED = 100
LANDER = "LunarLander-v3"


@dataclass(frozen=True)
class Question:
    """
    One study, and what its runs are called.

    :param name: Of its folder.
    :param settings: The study, without its folder.
    :param goals: What was hoped for, by environment and algorithm.
    """

    name: str
    settings: ComparisonSettings
    goals: dict[tuple[str, str], str]


def questions() -> Iterator[Question]:
    """List the studies, the quickest first."""
    ours = ComparisonSettings(
        algo=("stream_q",), seeds=10, first_seed=FIRST_SEED, final_evaluation_episodes=100
    )
    yield Question(
        "cart_pole_50k",
        replace(ours, env=("CartPole-v1",), timesteps=50_000),
        {("CartPole-v1", "stream_q"): "every seed 500"},
    )
    yield Question(
        "lunar_lander_100k",
        replace(ours, env=(LANDER,), algo=("stream_q", "naive_dqn"), timesteps=100_000),
        {(LANDER, "stream_q"): "IQM ≥ 200, ≤ 10 s"},
    )
    yield Question(
        "lunar_lander_500k",
        replace(ours, env=(LANDER,), timesteps=500_000, evaluations=20),
        {(LANDER, "stream_q"): "IQM ≥ 260, every seed ≥ 200, ≤ 40 s"},
    )
    yield Question(
        "classic_control_100k",
        replace(ours, env=("Acrobot-v1", "MountainCar-v0"), timesteps=100_000),
        {("Acrobot-v1", "stream_q"): "IQM ≥ −90", ("MountainCar-v0", "stream_q"): "none"},
    )
    # Few seeds: a run of RL Zoo's settings takes as long as seventy of StreamQ.
    tuned = variants_in(TUNED_DQN)
    yield Question(
        "lunar_lander_dqn",
        replace(
            ours,
            env=(LANDER,),
            algo=("dqn", *tuned),
            variants=tuned,
            seeds=2,
            timesteps=100_000,
            evaluations=5,
        ),
        {},
    )


def table(studies: list[tuple[Question, StudyResults]]) -> pd.DataFrame:
    """Put all final returns into one table."""
    rows = []
    for question, study in studies:
        for row in summarise(study).rows:
            seconds = row.timing("training_cpu_seconds")
            rows.append(
                {
                    "environment": row.environment,
                    "steps": question.settings.timesteps,
                    "algorithm": row.algorithm,
                    "seeds": row.seeds_label,
                    "greedy return, IQM": number(row.final.value if row.final else None),
                    "95 % interval": interval(row.final),
                    "worst … best seed": _range(row),
                    "CPU s per seed": number(seconds),
                    "goal": question.goals.get((row.environment, row.algorithm), "–"),
                }
            )
    return pd.DataFrame(rows)


def _range(row: AlgorithmSummary) -> str:
    if not row.returns:
        return "–"
    return f"{number(min(row.returns))} … {number(max(row.returns))}"


def lander_curves(studies: list[tuple[Question, StudyResults]]) -> bytes:
    """Draw all runs on LunarLander on the same axes."""
    cells: list[Cell] = []
    names: dict[str, None] = {}
    for question, study in studies:
        if LANDER not in study.environments:
            continue
        for cell in study.cells:
            name = cell.algorithm
            if question.name == "lunar_lander_500k":
                name += ", 500k"
            if len(study.seeds) < 10:
                name += f", n={len(study.seeds)}"
            names[name] = None
            cells.append(replace(cell, algorithm=name))
    seeds = tuple(sorted({cell.seed for cell in cells}))
    together = StudyResults(
        RESULTS, {}, (LANDER,), tuple(names), seeds, tuple(cells), next(iter(names))
    )
    return curves_files(summarise(together))["curves.png"]


def write_results(studies: list[tuple[Question, StudyResults]]) -> None:
    """Write the table and the picture."""
    results = table(studies)
    results.to_csv(RESULTS / "learning.csv", index=False)
    if any(LANDER in study.environments for _, study in studies):
        (RESULTS / "learning.png").write_bytes(lander_curves(studies))
    widths = [max(results[name].astype(str).map(len).max(), len(name)) for name in results]
    rows = [list(results), ["-" * width for width in widths], *results.to_numpy().tolist()]
    lines = [
        "| " + " | ".join(str(v).ljust(w) for v, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    versions = next(cell.versions for _, study in studies for cell in study.cells if cell.versions)
    text = [
        "# What is learned",
        "",
        "Made by `make bench-learning`. Default hyperparameters, the same everywhere; the seeds",
        f"begin at {FIRST_SEED} and chose nothing. Return: mean of 100 greedy episodes of each",
        "seed, on seeds of their own; IQM: interquartile mean over training seeds, with a 95 %",
        "bootstrap interval. CPU seconds are those of training, without evaluation, the median",
        "over seeds, with two runs at a time on two cores.",
        "",
        *lines,
        "",
        "`dqn` is Stable-Baselines3's with its defaults, `dqn_rl_zoo` the same with RL Zoo's",
        "tuned settings for LunarLander.",
        "",
        "![Return on LunarLander against steps and against CPU seconds](learning.png)",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    (RESULTS / "learning.md").write_text("\n".join(text) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="work in progress")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    arguments = parser.parse_args()
    studies = []
    failed: dict[str, str] = {}
    for question in questions():
        settings = replace(
            question.settings, out=arguments.out / question.name, jobs=arguments.jobs
        )
        failed |= run_comparison(settings, command="make bench-learning").failed
        studies.append((question, read_study(settings.out)))
        write_results(studies)
    print((RESULTS / "learning.md").read_text())
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
