"""
Measure what StreamQ learns, with its defaults, on held-out seeds.

Studies as ``dqn-plugins compare`` runs them, resumable: interrupt it anywhere and run it again.
Writes ``results/learning.md``, ``results/learning.csv`` and ``results/learning.png`` beside this
file. Which seeds chose the defaults, ``search/README.md`` says; the ones here begin at 1000. What
other algorithms learn is in ``docs/results``.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import gymnasium as gym
import pandas as pd

from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.report.charts import curves_files
from dqn_plugins.comparison.results import StudyResults, read_study
from dqn_plugins.comparison.summary import AlgorithmSummary, interval, number, summarise

HERE = Path(__file__).parent
RESULTS = HERE / "results"
FIRST_SEED = 1000
LANDER = "LunarLander-v3"
EIGHT_STREAMS = {"stream_q_8": {"algorithm": "stream_q", "n_envs": 8}}
# What learn_one does where the length of the run is not known
ENDLESS = {"stream_q_endless": {"algorithm": "stream_q", "learning_rate": 1e-3}}


@dataclass(frozen=True)
class Question:
    """
    One study, and what was hoped for.

    :param name: Of its folder.
    :param settings: The study, without its folder.
    :param goals: What was hoped for of StreamQ, by environment.
    """

    name: str
    settings: ComparisonSettings
    goals: dict[str, str] = field(default_factory=dict)


def questions() -> Iterator[Question]:
    """List the studies, the quickest first."""
    ours = ComparisonSettings(
        algo=("stream_q", "stream_q_8"),
        env=(LANDER,),
        variants=EIGHT_STREAMS,
        seeds=32,
        first_seed=FIRST_SEED,
        evaluations=1,  # curves are drawn of the longest runs alone
        evaluation_episodes=1,
        final_evaluation_episodes=50,
        videos=False,
    )
    yield Question(
        "cart_pole_50k",
        replace(ours, env=("CartPole-v1",), timesteps=50_000),
        {"CartPole-v1": "every seed ≥ 495"},
    )
    yield Question(
        "classic_control_100k",
        replace(ours, env=("Acrobot-v1", "MountainCar-v0"), timesteps=100_000),
        {
            "Acrobot-v1": "IQM ≥ −90, worst ≥ −110",
            "MountainCar-v0": "IQM ≥ −125 (8 streams −120), every seed reaches the flag",
        },
    )
    yield Question(
        "endless_100k",
        replace(
            ours, algo=tuple(ENDLESS), variants=ENDLESS, env=("Acrobot-v1",), timesteps=100_000
        ),
        {"Acrobot-v1": "IQM ≥ −105"},
    )
    yield Question(
        "lunar_lander_100k",
        replace(ours, timesteps=100_000),
        {LANDER: "IQM ≥ 235, worst ≥ 130, 28 of 32 solved"},
    )
    yield Question(
        "lunar_lander_500k",
        replace(ours, algo=("stream_q",), variants={}, seeds=10, timesteps=500_000, evaluations=20),
        {LANDER: "IQM ≥ 275, worst ≥ 255"},
    )


def table(studies: list[tuple[Question, StudyResults]]) -> pd.DataFrame:
    """Put all final returns into one table."""
    rows = []
    for question, study in studies:
        for row in summarise(study).rows:
            if not row.returns:
                continue
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
                    "solved": _solved(row),
                    "CPU s per seed": number(seconds),
                    "goal": question.goals.get(row.environment, "–"),
                }
            )
    return pd.DataFrame(rows)


def _range(row: AlgorithmSummary) -> str:
    return f"{number(min(row.returns))} … {number(max(row.returns))}"


def _solved(row: AlgorithmSummary) -> str:
    threshold = gym.spec(row.environment).reward_threshold
    assert threshold is not None
    return f"{sum(value >= threshold for value in row.returns)} of {len(row.returns)}"


def write_results(studies: list[tuple[Question, StudyResults]]) -> None:
    """Write the table and the picture."""
    results = table(studies)
    results.to_csv(RESULTS / "learning.csv", index=False)
    for question, study in studies:
        if question.name == "lunar_lander_500k":
            curves = curves_files(summarise(study))["curves.png"]
            (RESULTS / "learning.png").write_bytes(curves)
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
        f"begin at {FIRST_SEED} and are held out. Return: mean of 50 greedy episodes of each",
        "seed, on seeds of their own; IQM: interquartile mean over training seeds, with a 95 %",
        "bootstrap interval; solved: seeds that reach Gymnasium's own threshold (CartPole 475,",
        "Acrobot −100, MountainCar −110, LunarLander 200). CPU seconds are those of training,",
        "without evaluation, the median over seeds, with two runs at a time on two cores.",
        "",
        *lines,
        "",
        "`stream_q_8` is `stream_q` with `n_envs=8`; `stream_q_endless` keeps its first learning",
        "rate, 1e-3, as `learn_one` does where the length of the run is not known.",
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
    parser.add_argument("--only", nargs="+", help="studies to run; all by default")
    arguments = parser.parse_args()
    studies = []
    failed: dict[str, str] = {}
    for question in questions():
        settings = replace(
            question.settings, out=arguments.out / question.name, jobs=arguments.jobs
        )
        if not arguments.only or question.name in arguments.only:
            failed |= run_comparison(settings, command="make bench-learning").failed
        elif not settings.out.exists():
            continue
        studies.append((question, read_study(settings.out)))
        write_results(studies)
    print((RESULTS / "learning.md").read_text())
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
