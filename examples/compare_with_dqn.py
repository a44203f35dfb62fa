"""
Train on LunarLander with and without a replay buffer, and see what each learned.

Each algorithm takes the same number of steps in the same environment, with its defaults. Then all
play the same greedy evaluation episodes. It prints a table, draws the learning curves, and films
greedy episodes with what the model thought of each action.

Run it with ``make demo`` or ``python examples/compare_with_dqn.py``; ``--help`` lists the options.
Everything goes to ``runs/demo``, or to ``runs/demo_1``, ``runs/demo_2``, ... if that is taken.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import torch as th
from matplotlib import patheffects
from rich.console import Console
from rich.table import Table
from stable_baselines3 import DQN

from dqn_plugins import NaiveDQN, StreamQ
from dqn_plugins.experiments.rollout import play_episodes
from dqn_plugins.wrappers import EpisodeReward, RecordVideo

ENVIRONMENT = "LunarLander-v3"
ACTIONS = ["coast", "left", "main", "right"]
SOLVED = 200  # the return from which LunarLander counts as solved
GREY = "#777777"
TABLE_WINDOW = 100  # episodes in the table's training return
CURVE_WINDOW = 30  # episodes in the curves' running mean


@dataclass
class Entry:
    """
    One algorithm of the comparison, and what it did.

    :param name: Its name in the table and the picture, and in the names of its files.
    :param algorithm: Its class, with Stable-Baselines3's signature.
    :param color: Of its learning curve.
    :param films: Whether its greedy episodes are filmed.
    """

    name: str
    algorithm: Any
    color: str
    films: bool = False
    model: Any = None
    seconds: float = 0.0
    # One number per training episode.
    returns: list[float] = field(default_factory=list)
    end_steps: list[int] = field(default_factory=list)
    end_seconds: list[float] = field(default_factory=list)
    # One number per evaluation episode.
    greedy_returns: list[float] = field(default_factory=list)


# One more algorithm is one more line. The colours are Okabe and Ito's, which people with any kind
# of colour vision can tell apart.
ENTRIES = [
    Entry("NaiveDQN", NaiveDQN, "#D55E00", films=True),
    Entry("StreamQ", StreamQ, "#009E73", films=True),
    Entry("DQN", DQN, "#0072B2"),
]


def train(entry: Entry, timesteps: int, seed: int, folder: Path) -> None:
    # The episodes also go to a CSV file that pandas and Stable-Baselines3's load_results read.
    env = EpisodeReward(gym.make(ENVIRONMENT), window=timesteps, log_file=folder / entry.name)
    start = time.perf_counter()
    entry.model = entry.algorithm("MlpPolicy", env, seed=seed)
    entry.model.learn(timesteps, progress_bar=True)
    entry.seconds = time.perf_counter() - start
    entry.returns = env.returns
    entry.end_steps = np.cumsum(env.lengths, dtype=int).tolist()
    entry.end_seconds = [record.elapsed for record in env.records]
    env.close()


def evaluate(entry: Entry, seeds: range) -> None:
    env = gym.make(ENVIRONMENT)
    for seed in seeds:
        (episode,) = play_episodes(entry.model, [env], [seed])
        entry.greedy_returns.append(episode.episode_return)
    env.close()


def film(entry: Entry, seeds: range, folder: Path) -> None:
    # Only here is the environment made to render: one that does steps many times slower.
    env = RecordVideo(
        gym.make(ENVIRONMENT, render_mode="rgb_array"),
        video_folder=str(folder),
        episode_trigger=lambda episode: True,
        name_prefix=entry.name,
        caption=True,
        model=entry.model,
        action_names=ACTIONS,
    )
    for seed in seeds:
        play_episodes(entry.model, [env], [seed])
    env.close()


def table(entries: list[Entry], title: str) -> Table:
    result = Table(title=title, title_justify="left", title_style="bold")
    result.add_column("algorithm")
    for column in ("steps", "seconds", "steps/s", "training return", "greedy return"):
        result.add_column(column, justify="right", no_wrap=True)
    for entry in entries:
        steps = entry.model.num_timesteps
        result.add_row(
            entry.name,
            f"{steps:,}",
            f"{entry.seconds:.2f}",
            f"{steps / entry.seconds:,.0f}",
            f"{np.mean(entry.returns[-TABLE_WINDOW:]):.1f}" if entry.returns else "-",
            f"{np.mean(entry.greedy_returns):.1f} ± {np.std(entry.greedy_returns):.1f}",
        )
    return result


def running_mean(values: list[float]) -> np.ndarray:
    """Mean of each value and the ones just before it, ``CURVE_WINDOW`` in all if there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - CURVE_WINDOW, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def draw(entries: list[Entry], path: Path, title: str) -> None:
    plt.switch_backend("Agg")  # a picture for a file needs no window
    plt.rcParams.update(
        {
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.grid.axis": "y",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#EEEEEE",
            "xtick.color": GREY,
            "ytick.color": GREY,
        }
    )
    figure, (by_step, by_second) = plt.subplots(
        1, 2, figsize=(12, 5), sharey=True, layout="constrained"
    )
    for panel in (by_step, by_second):
        panel.axhline(SOLVED, color=GREY, lw=1, ls="--", zorder=1)
    for entry in entries:
        mean = running_mean(entry.returns)
        for panel, ends in ((by_step, entry.end_steps), (by_second, entry.end_seconds)):
            panel.plot(ends, entry.returns, ".", color=entry.color, alpha=0.3, ms=5, mew=0)
            # A mean over the very first episodes says little and jumps about.
            panel.plot(ends[9:], mean[9:], color=entry.color, lw=2.5, label=entry.name, zorder=3)
        if entry.returns:
            end = (entry.end_seconds[-1], mean[-1])
            by_second.plot(*end, "o", color=entry.color, ms=7, zorder=3)
            by_second.annotate(
                f"{entry.seconds:.0f} s",
                end,
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=entry.color,
                fontweight="bold",
                zorder=4,
                path_effects=[patheffects.withStroke(linewidth=3, foreground="white")],
            )

    # The worst crashes would squeeze everything else, so the lowest hundredth is left out.
    every_return = [value for entry in entries for value in entry.returns]
    lowest = np.percentile(every_return, 1) if every_return else 0
    by_step.set(xlabel="environment steps", ylabel="return of the episode")
    by_step.set(xlim=(0, None), ylim=(min(lowest, -SOLVED) - 20, 330))
    by_step.xaxis.set_major_formatter("{x:,.0f}")
    longest = max(entry.seconds for entry in entries)
    by_second.set(xlabel="seconds of training", xlim=(0, 1.1 * longest))
    by_step.annotate("solved", (0, SOLVED), (4, 4), textcoords="offset points", color=GREY)
    by_step.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=14)
    key = f"dots: episodes · lines: mean of the last {CURVE_WINDOW}"
    by_second.set_title(key, loc="right", fontsize=11, color=GREY, pad=14)
    by_step.legend(loc="lower right", framealpha=0.9, edgecolor="none")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def fresh_folder(wanted: Path) -> Path:
    """Make the wanted folder, or if it is taken its first free neighbour: demo_1, demo_2, ..."""
    folder = wanted
    number = 0
    while folder.exists():
        number += 1
        folder = wanted.with_name(f"{wanted.name}_{number}")
    folder.mkdir(parents=True)
    return folder


def run(arguments: argparse.Namespace, folder: Path, console: Console) -> None:
    for entry in ENTRIES:
        # What is loaded and compiled once per program belongs to no algorithm's time, so a
        # throw-away model does a few steps first.
        entry.algorithm("MlpPolicy", gym.make(ENVIRONMENT)).learn(200)
    for entry in ENTRIES:
        console.print(f"Training [bold]{entry.name}[/bold], {arguments.timesteps:,} steps")
        train(entry, arguments.timesteps, arguments.seed, folder)
        entry.model.save(folder / entry.name)

    # The same episodes for all, none of them seen in training. The first ones are filmed.
    seeds = range(10_000, 10_000 + arguments.evaluation_episodes)
    for entry in ENTRIES:
        console.print(f"Evaluating [bold]{entry.name}[/bold], {len(seeds)} greedy episodes")
        evaluate(entry, seeds)
        if entry.films:
            console.print(f"Filming [bold]{entry.name}[/bold], {arguments.videos} greedy episodes")
            film(entry, range(10_000, 10_000 + arguments.videos), folder / "videos")

    title = f"{ENVIRONMENT}, {arguments.timesteps:,} steps each, seed {arguments.seed}"
    picture = folder / "learning_curves.png"
    draw(ENTRIES, picture, title)
    console.print()
    console.print(table(ENTRIES, title))
    console.print(f"training return: mean over the last {TABLE_WINDOW} episodes")
    console.print(f"greedy return:   mean ± std over {len(seeds)} episodes, the same for all")
    console.print(f"A return of {SOLVED} counts as solved.")
    console.print()
    for what, where in (
        ("learning curves", picture),
        ("videos", folder / "videos"),
        ("models", f"{folder / '*.zip'}"),
        ("training episodes", f"{folder / '*.monitor.csv'}"),
    ):
        console.print(f"{what:<18} {where}", soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--timesteps", type=int, default=50_000, help="steps per algorithm")
    parser.add_argument("--seed", type=int, default=0, help="seed of the trainings")
    parser.add_argument("--evaluation-episodes", type=int, default=20, help="greedy episodes")
    parser.add_argument("--videos", type=int, default=5, help="greedy episodes to film")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for results")
    arguments = parser.parse_args()

    th.set_num_threads(1)  # networks this small are slower on several
    console = Console(highlight=False)
    folder = fresh_folder(arguments.out)
    if folder != arguments.out:
        console.print(f"{arguments.out} is there already and stays; this run goes to {folder}.")
    try:
        run(arguments, folder, console)
    except KeyboardInterrupt:
        sys.exit(f"\nInterrupted. What was done so far is in {folder}.")


if __name__ == "__main__":
    main()
