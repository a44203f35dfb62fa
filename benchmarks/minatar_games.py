"""
Measure what StreamQ learns of MinAtar's five games from their images, beside SB3's DQN.

Two studies, one per algorithm, each as ``dqn-plugins compare`` would run it, resumable: interrupt
it anywhere and run it again, with more seeds too. Both have the network of MinAtar's authors.
Writes ``results/minatar.md``, ``results/minatar.csv`` and ``results/minatar.png`` beside this file;
those of ``--frames 5000000``, the long form, are called ``minatar_5000k``.

MinAtar is GPL-3 and an extra of its own: ``pip install 'dqn-plugins[minatar]'``.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from dqn_plugins.comparison import ComparisonSettings, run_comparison
from dqn_plugins.comparison.report.charts import curves_files
from dqn_plugins.comparison.results import StudyResults, read_study
from dqn_plugins.comparison.summary import AlgorithmSummary, interval, number, summarise

RESULTS = Path(__file__).parent / "results"
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
FIRST_SEED = 1000
SHORT, LONG = 1_000_000, 5_000_000

VARIANTS: dict[str, dict[str, Any]] = {
    "stream_q": {"algorithm": "stream_q", "policy": "CnnPolicy"},
    # RL Zoo's settings for Atari, but for what MinAtar's short games need: the update of the target
    # network and the beginning of learning as MinAtar's authors have them.
    "dqn": {
        "algorithm": "dqn",
        "policy": "CnnPolicy",
        "learning_rate": 1e-4,
        "buffer_size": 100_000,
        "batch_size": 32,
        "learning_starts": 5_000,
        "train_freq": 4,
        "gradient_steps": 1,
        "target_update_interval": 1_000,
        "exploration_fraction": 0.1,
        "exploration_final_eps": 0.01,
        "policy_kwargs": {
            "features_extractor_class": "dqn_plugins.policies.ImageExtractor",
            "net_arch": [128],
        },
    },
}

PUBLISHED = {
    "DQN with a replay buffer": (17.0, 10.0, 50.0, 20.0, 44.0),
    "AC(λ)": (19.0, 17.5, 47.0, 15.5, 186.0),
    "DQN without a replay buffer": (5.5, 4.3, 8.5, 0.4, 13.5),
}
"""Returns while training, at 5 million frames, in the order of :data:`GAMES`: read off the plot in
the repository of Young and Tian (2019), "MinAtar: An Atari-Inspired Testbed for Thorough and
Reproducible Reinforcement Learning Experiments", arXiv 1903.03176."""


def table(studies: list[StudyResults], frames: int) -> pd.DataFrame:
    """Put all final returns into one table, the published ones below those measured here."""
    rows, measured = [], {}
    for study in studies:
        for row in summarise(study).rows:
            measured[row.environment, row.algorithm] = row
    for game, *published in zip(GAMES, *PUBLISHED.values(), strict=True):
        rows += [
            _measured(game, algorithm, measured.get((id_of(game), algorithm)), frames)
            for algorithm in VARIANTS
        ]
        rows += [
            {
                "game": game,
                "algorithm": f"{name} (published)",
                "frames": f"{LONG:,}",
                "return": f"≈ {value:g}",
            }
            for name, value in zip(PUBLISHED, published, strict=True)
        ]
    return pd.DataFrame(rows).fillna("")


def _measured(
    game: str, algorithm: str, row: AlgorithmSummary | None, frames: int
) -> dict[str, str]:
    if row is None or not row.returns:
        return {"game": game, "algorithm": algorithm, "frames": f"{frames:,}", "return": "not run"}
    seconds = row.timing("training_cpu_seconds")
    return {
        "game": game,
        "algorithm": algorithm,
        "frames": f"{frames:,}",
        "return": number(row.final.value if row.final else None),
        "95 % interval": interval(row.final),
        "worst … best seed": f"{number(min(row.returns))} … {number(max(row.returns))}",
        "seeds": row.seeds_label,
        "frames per CPU second": number(frames / seconds) if seconds else "",
    }


def id_of(game: str) -> str:
    """Name a game as Gymnasium does, with sticky actions and ramping difficulty."""
    return f"MinAtar/{game}-v1"


def write_results(studies: list[StudyResults], frames: int) -> Path:
    """Write the table and the picture."""
    name = "minatar" if frames == SHORT else f"minatar_{frames // 1000}k"
    results = table(studies, frames)
    results.to_csv(RESULTS / f"{name}.csv", index=False)
    cells = tuple(cell for study in studies for cell in study.cells)
    names = tuple(dict.fromkeys(cell.algorithm for cell in cells))
    seeds = tuple(sorted({cell.seed for cell in cells}))
    games = tuple(id_of(game) for game in GAMES if id_of(game) in {c.environment for c in cells})
    together = StudyResults(RESULTS, {}, games, names, seeds, cells, names[0])
    (RESULTS / f"{name}.png").write_bytes(curves_files(summarise(together))["curves.png"])
    rows = [list(results), ["---"] * len(results.columns), *results.to_numpy().tolist()]
    long = "" if frames == SHORT else f' MINATAR="--frames {frames}"'
    text = [
        f"# MinAtar, from images: {frames:,} frames",
        "",
        f"Made by `make bench-minatar{long}`.",
        f"Seeds begin at {FIRST_SEED} and are held out. Return: mean of 20 greedy episodes of",
        "each seed, with sticky actions and ramping difficulty; of",
        "several seeds the interquartile mean, with a 95 % bootstrap interval. Both algorithms",
        "have 16 filters of 3×3 and a layer of 128 units. `stream_q` has its defaults, `dqn` is",
        "Stable-Baselines3's with RL Zoo's settings for Atari.",
        "",
        "What is marked as published was not run here: returns while training at 5 million frames,",
        "read off the plot of Young and Tian (2019), arXiv 1903.03176.",
        "",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
        "",
        f"![Return on the games against frames and against CPU seconds]({name}.png)",
    ]
    path = RESULTS / f"{name}.md"
    path.write_text("\n".join(text) + "\n")
    return path


def draw_games(studies: list[StudyResults], path: Path, steps: int = 150) -> None:
    """Play each game greedily with the first seed's model, side by side in one picture."""
    import gymnasium as gym
    import numpy as np
    from PIL import Image, ImageDraw

    from dqn_plugins import StreamQ
    from dqn_plugins.environments import register_plugin
    from dqn_plugins.wrappers import EnlargeFrames

    cells = {
        cell.environment: cell
        for study in studies
        for cell in reversed(study.cells)
        if cell.algorithm == "stream_q" and (cell.folder / "model.zip").is_file()
    }
    strips = []
    for game in GAMES:
        if id_of(game) not in cells:
            continue
        register_plugin(id_of(game))
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
    parser.add_argument("--frames", type=int, default=SHORT, help=f"{LONG} for the long form")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--games", nargs="+", default=GAMES, choices=GAMES)
    parser.add_argument("--algo", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--evaluations", type=int, default=10, help="during a run")
    parser.add_argument("--out", type=Path, default=Path("runs/minatar"), help="work in progress")
    parser.add_argument("--gif", type=Path, help="record all games into this picture too")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    arguments = parser.parse_args()
    out = arguments.out / f"{arguments.frames // 1000}k"
    settings = ComparisonSettings(
        env=tuple(map(id_of, arguments.games)),
        seeds=arguments.seeds,
        first_seed=FIRST_SEED,
        timesteps=arguments.frames,
        evaluations=arguments.evaluations,
        evaluation_episodes=5,
        videos=False,
        jobs=arguments.jobs,
    )
    failed: dict[str, str] = {}
    for name in arguments.algo:
        study = replace(settings, algo=(name,), variants={name: VARIANTS[name]}, out=out / name)
        failed |= run_comparison(study, command="make bench-minatar").failed
        done = [read_study(out / each) for each in VARIANTS if (out / each).is_dir()]
        path = write_results(done, arguments.frames)
    if arguments.gif is not None:
        draw_games(done, arguments.gif)
    print(path.read_text())
    for cell, error in failed.items():
        print(f"{cell}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
