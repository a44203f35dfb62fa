"""
Make the pictures of the gallery: every algorithm on every environment, playing one episode.

A study of one seed, as ``dqn-plugins compare`` runs it, leaves a video for each environment, with
all algorithms side by side. Each becomes ``images/gallery/ENVIRONMENT.gif``. ``NaiveDQN`` and
``StreamQ``, both of the study's first seed, become ``images/crash_and_landing.gif``. ``make
gallery``; resumable. With ``--study``, the models and videos of a study that is there are taken.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from dqn_plugins.experiments.record import RecordSettings, record
from dqn_plugins.wrappers import read_frames, side_by_side

PAGES = Path(__file__).parent
CONFIG = PAGES.parent / "examples" / "configs" / "six_algorithms.yaml"
IMAGES = PAGES / "images"
WIDTH = 900  # pixels
SECONDS = 12.0
N_COLORS = 48


def draw_pair(study: Path) -> None:
    """Put the notebook's agent beside StreamQ, on the same episode, with what they expect."""
    with tempfile.TemporaryDirectory() as folder:
        videos = []
        for name in ("naive_dqn", "stream_q"):
            model = min((study / "LunarLander-v3" / name).glob("seed_*"))
            videos += record(RecordSettings(model, episodes=1, out=Path(folder)))
        pair = side_by_side(videos, ["NaiveDQN", "StreamQ"], Path(folder) / "pair.mp4")
        write_gif(pair, IMAGES / "crash_and_landing.gif", 75)


def write_gif(video: Path, path: Path, n_frames: int) -> None:
    """Make a small picture of a video: fewer frames, narrower, with few colours."""
    frames = list(read_frames(video))
    chosen = np.unique(np.linspace(0, len(frames) - 1, n_frames).round().astype(int))
    height = round(frames[0].shape[0] * WIDTH / frames[0].shape[1])
    pictures = [
        Image.fromarray(frames[index]).resize((WIDTH, height), Image.Resampling.LANCZOS)
        for index in chosen
    ]
    # One palette for all, or what stands still would flicker
    palette = pictures[len(pictures) // 2].quantize(N_COLORS)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 * SECONDS / len(pictures)),
        loop=0,
        optimize=True,
    )
    print(f"{path} ({path.stat().st_size / 1000:,.0f} kB)")


def main() -> None:
    """Train if need be, then draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, help="take the videos of this one, and train nothing")
    study = parser.parse_args().study
    if study is None:
        study = Path("runs/gallery")
        command = [sys.executable, "-m", "dqn_plugins", "compare", "--config", str(CONFIG)]
        subprocess.run([*command, "--seeds", "1", "--out", str(study)], check=True)
    for video in sorted((study / "videos").glob("*.mp4")):
        write_gif(video, IMAGES / "gallery" / f"{video.stem}.gif", 150)
    draw_pair(study)


if __name__ == "__main__":
    main()
