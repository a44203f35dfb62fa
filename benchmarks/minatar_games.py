"""
Measure what StreamQ learns of MinAtar's five games from their images.

A study as ``dqn-plugins compare`` would run it, resumable: interrupt it anywhere and run it again,
with more seeds too. Every finished model then plays 20 episodes greedily and 20 with ε 0.01.
Writes ``results/minatar.md``, ``results/minatar.csv`` and ``results/minatar.png`` beside this file;
those of ``--frames 5000000``, the long form, are called ``minatar_5000k``.

MinAtar is GPL-3 and an extra of its own: ``pip install 'dqn-plugins[minatar]'``.
"""

import argparse
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy.stats import trim_mean

from dqn_plugins import StreamQ
from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.report.charts import curves_files
from dqn_plugins.comparison.results import Cell, StudyResults, read_study
from dqn_plugins.comparison.summary import number, summarise
from dqn_plugins.environments import register_plugin
from dqn_plugins.files import read_json, write_json
from dqn_plugins.wrappers import EnlargeFrames

RESULTS = Path(__file__).parent / "results"
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
FIRST_SEED = 1000
SHORT, LONG = 1_000_000, 5_000_000
EPISODES, LONGEST = 20, 10_000
EPSILONS = (0.0, 0.01)

PUBLISHED = {
    SHORT: {
        "DQN, replay buffer (2507.09523, 30 seeds)": (24.7, 16.4, 55.5, 18.0, 79.6),
        "RDQ, replay buffer (2507.09523, 30 seeds)": (25.7, 20.1, 59.3, 25.4, 109.7),
    },
    LONG: {
        "DQN, replay buffer (2507.09523, 30 seeds)": (32.3, 35.7, 59.6, 68.6, 131.8),
        "RDQ, replay buffer (2507.09523, 30 seeds)": (38.3, 51.3, 62.3, 70.3, 155.9),
        "DQN, replay buffer (Young and Tian 2019)": (17.0, 10.0, 50.0, 20.0, 44.0),
        "AC(λ) (Young and Tian 2019)": (19.0, 17.5, 47.0, 15.5, 186.0),
        "DQN, no replay buffer (Young and Tian 2019)": (5.5, 4.3, 8.5, 0.4, 13.5),
    },
}
"""Returns after so many frames, in the order of :data:`GAMES`. The scores that come with arXiv
2507.09523 are at ε 0.01; those of 2019 are returns while training, read off the plot in the
repository of arXiv 1903.03176."""


def id_of(game: str) -> str:
    """Name a game as Gymnasium does, with sticky actions and ramping difficulty."""
    return f"MinAtar/{game}-v1"


def play(model: StreamQ, game: str, epsilon: float, seed: int) -> tuple[list[float], int]:
    """
    Play episodes side by side.

    :return: Their returns, and how many were cut after :data:`LONGEST` steps.
    """
    rng = np.random.default_rng(seed)
    envs = [gym.make(id_of(game)) for _ in range(EPISODES)]
    obs = np.stack([env.reset(seed=seed + index)[0] for index, env in enumerate(envs)])
    returns, running = np.zeros(EPISODES), list(range(EPISODES))
    for _ in range(LONGEST):
        actions, _ = model.predict(obs[running], deterministic=True)
        explores = rng.random(len(running)) < epsilon
        actions = np.where(explores, rng.integers(model.action_space.n, size=len(running)), actions)
        ended = []
        for index, action in zip(running, actions.tolist(), strict=True):
            obs[index], reward, terminated, truncated, _ = envs[index].step(action)
            returns[index] += float(reward)
            if terminated or truncated:
                ended.append(index)
        running = [index for index in running if index not in ended]
        if not running:
            break
    return returns.tolist(), len(running)


def played(cell: Cell) -> dict[str, list[float] | int]:
    """Look up what a finished run's model plays, or let it play."""
    path = cell.folder / "minatar.json"
    if not path.is_file():
        model, game = StreamQ.load(cell.folder / "model.zip"), cell.environment[8:-3]
        facts: dict[str, list[float] | int] = {"cut": 0}
        for epsilon in EPSILONS:
            returns, cut = play(model, game, epsilon, 1_000_000 + 1_000 * cell.seed)
            facts[str(epsilon)] = returns
            facts["cut"] += cut
        write_json(path, facts)
    return read_json(path)


def table(cells: list[Cell], frames: int) -> pd.DataFrame:
    """Put all returns into one table, the published ones below those measured here."""
    rows = []
    for index, game in enumerate(GAMES):
        of_game = [cell for cell in cells if cell.environment == id_of(game)]
        if not of_game:
            continue
        plays = [played(cell) for cell in of_game]
        greedy, usual = ([np.mean(each[str(epsilon)]) for each in plays] for epsilon in EPSILONS)
        seconds = np.median([cell.timings["training_cpu_seconds"] for cell in of_game])
        rows.append(
            {
                "game": game,
                "algorithm": "StreamQ",
                "greedy": number(float(trim_mean(greedy, 0.25))),
                "ε 0.01": number(float(trim_mean(usual, 0.25))),
                "worst … best seed": f"{number(min(usual))} … {number(max(usual))}",
                "seeds": str(len(of_game)),
                "cut": str(sum(each["cut"] for each in plays)),
                "frames per CPU second": number(frames / seconds),
            }
        )
        rows += [
            {"game": game, "algorithm": name, "ε 0.01": number(values[index])}
            for name, values in PUBLISHED[frames].items()
        ]
    return pd.DataFrame(rows).fillna("")


def write_results(study: StudyResults, frames: int) -> Path:
    """Write the table and the picture."""
    name = "minatar" if frames == SHORT else f"minatar_{frames // 1000}k"
    results = table([cell for cell in study.cells if cell.status == "finished"], frames)
    results.to_csv(RESULTS / f"{name}.csv", index=False)
    (RESULTS / f"{name}.png").write_bytes(curves_files(summarise(study))["curves.png"])
    rows = [list(results), ["---"] * len(results.columns), *results.to_numpy().tolist()]
    long = "" if frames == SHORT else f' MINATAR="--frames {frames}"'
    text = [
        f"# MinAtar, from images: {frames:,} frames",
        "",
        f"Made by `make bench-minatar{long}`. `StreamQ` has its defaults: 16 filters of 3×3 and a",
        f"layer of 128 units. Seeds begin at {FIRST_SEED} and are held out. Each plays",
        f"{EPISODES} episodes greedily and {EPISODES} with ε 0.01, with sticky actions and ramping",
        "difficulty; a return is the mean of one seed's episodes, in the table the interquartile",
        "mean over the seeds, and worst and best are those with ε 0.01. Episodes are cut after",
        f"{LONGEST:,} steps; how many were, greedy and not, the table says.",
        "",
        "Not run here: arXiv 2507.09523, the same games, ε 0.01; Young and Tian (2019), arXiv",
        "1903.03176, returns while training, read off their plot.",
        "",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
        f"![Return on the games against frames and against CPU seconds]({name}.png)",
    ]
    path = RESULTS / f"{name}.md"
    path.write_text("\n".join(text) + "\n")
    return path


def draw_games(study: StudyResults, path: Path, steps: int = 150) -> None:
    """Play each game greedily with the first seed's model, side by side in one picture."""
    cells = {cell.environment: cell for cell in reversed(study.cells) if cell.status == "finished"}
    strips = []
    for game in GAMES:
        if id_of(game) not in cells:
            continue
        env = EnlargeFrames(gym.make(id_of(game), render_mode="rgb_array"), side=130)
        model = StreamQ.load(cells[id_of(game)].folder / "model.zip")
        obs, frames = env.reset(seed=0)[0], []
        for _ in range(steps):
            label = Image.new("RGB", (130, 16), "white")
            ImageDraw.Draw(label).text((4, 2), game, "black")
            frames.append(np.concatenate([np.asarray(label), env.render()]))
            action, _ = model.predict(obs, deterministic=True)
            obs, _, terminated, truncated, _ = env.step(int(action))
            if terminated or truncated:
                obs, _ = env.reset()
        strips.append([np.pad(frame, ((0, 4), (2, 2), (0, 0))) for frame in frames])
    pictures = [
        Image.fromarray(np.concatenate(frames, axis=1)) for frames in zip(*strips, strict=True)
    ]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, loop=0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--frames", type=int, default=SHORT, choices=(SHORT, LONG), help=f"{LONG}: the long form"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES)
    parser.add_argument("--evaluations", type=int, default=10, help="during a run")
    parser.add_argument("--out", type=Path, default=Path("runs/minatar"), help="work in progress")
    parser.add_argument("--gif", type=Path, help="record all games into this picture too")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    arguments = parser.parse_args()
    settings = ComparisonSettings(
        algo=("stream_q",),
        variants={"stream_q": {"algorithm": "stream_q", "policy": "CnnPolicy"}},
        env=tuple(map(id_of, arguments.games)),
        seeds=arguments.seeds,
        first_seed=FIRST_SEED,
        timesteps=arguments.frames,
        evaluations=arguments.evaluations,
        evaluation_episodes=5,
        videos=False,
        jobs=arguments.jobs,
        out=arguments.out / f"{arguments.frames // 1000}k" / "stream_q",
    )
    failed = run_comparison(settings, command="make bench-minatar").failed
    for game in GAMES:
        register_plugin(id_of(game))
    study = read_study(settings.out)
    print(write_results(study, arguments.frames).read_text())
    if arguments.gif is not None:
        draw_games(study, arguments.gif)
    for cell, error in failed.items():
        print(f"{cell}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
