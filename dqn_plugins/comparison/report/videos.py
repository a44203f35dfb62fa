"""The best seed of each algorithm on the same episode, side by side."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dqn_plugins.comparison.results import Cell, StudyResults
from dqn_plugins.comparison.summary import Summary, number
from dqn_plugins.experiments.algorithms import ALGORITHMS
from dqn_plugins.experiments.environments import make_environment
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.experiments.rollout import rollout
from dqn_plugins.wrappers import FrameDetails, VideoWriter, read_frames, side_by_side
from dqn_plugins.wrappers.drawing.overlay import Overlay
from dqn_plugins.wrappers.video.video_reader import VideoReader
from dqn_plugins.wrappers.video.video_writer import Frame, find_encoder

__all__ = [
    "EpisodeShown",
    "ReportVideo",
    "check_encoder",
    "poster_of",
    "record_comparison",
    "shrunk_to",
]

# An episode that never ends would fill the disk and tire its viewer.
MOST_SECONDS = 40.0
DEFAULT_FPS = 30.0
SMALLEST_FACTOR = 4
POSTER_FRAME = 40


@dataclass(frozen=True)
class EpisodeShown:
    """
    One algorithm in the video.

    :param algorithm: Name of the variant.
    :param training_seed: Of the model, the best by its final return.
    :param episode_return: Sum of the rewards of the episode shown.
    :param length: Its steps.
    :param is_cut: Whether the video stops before the episode ends.
    """

    algorithm: str
    training_seed: int
    episode_return: float
    length: int
    is_cut: bool


@dataclass(frozen=True)
class ReportVideo:
    """
    The algorithms of a study next to each other, on one episode of one environment.

    :param environment: Its id.
    :param path: The MP4 file.
    :param episode_seed: What the environment was reset with.
    :param episodes: Who is shown, row by row.
    """

    environment: str
    path: Path
    episode_seed: int
    episodes: tuple[EpisodeShown, ...]


def check_encoder() -> None:
    """
    Check that videos can be written.

    :raises DependencyNotInstalled: If no ffmpeg with H.264 is found.
    """
    find_encoder()


def record_comparison(summary: Summary, environment: str, folder: Path) -> ReportVideo | None:
    """
    Record the best finished seed of each algorithm on the first episode of the final evaluation,
    so that nobody chose the episode, and put them side by side.

    :param summary: Figures of the study.
    :param environment: Its id.
    :param folder: Where ``<environment>.mp4`` is put, replacing one that is there.
    :return: The video; None if no run is finished.
    :raises DependencyNotInstalled: If no ffmpeg is found, or the environment cannot draw.
    """
    cells = [cell for row in summary.of(environment) if (cell := row.best_cell) is not None]
    if not cells:
        return None
    models = {cell.algorithm: _load_model(summary.study, cell) for cell in cells}
    # Only where every algorithm has Q-values: panels of different content invite no comparison.
    with_q_values = all(_has_q_values(model) for model in models.values())
    episodes = cells[0].final_episodes
    assert episodes is not None
    seed = int(episodes["seed"].iloc[0])
    path = folder / f"{folder_name(environment)}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".recording-") as temporary:
        files, shown = [], []
        for index, cell in enumerate(cells):
            file = Path(temporary) / f"{index}.mp4"
            shown.append(_record(cell, models[cell.algorithm], seed, file, with_q_values))
            files.append(file)
        labels = [_label(episode) for episode in shown]
        together = side_by_side(files, labels, Path(temporary) / "side_by_side.mp4")
        os.replace(together, path)
    return ReportVideo(environment, path, seed, tuple(shown))


def _label(episode: EpisodeShown) -> str:
    outcome = "cut" if episode.is_cut else f"return {number(episode.episode_return)}"
    return f"{episode.algorithm}, seed {episode.training_seed}: {outcome}"


def _load_model(study: StudyResults, cell: Cell) -> Any:
    algorithms: Mapping[str, Mapping[str, Any]] = study.settings["algorithms"]
    algorithm = ALGORITHMS[algorithms[cell.algorithm]["algorithm"]]
    if not cell.model_file.is_file():
        if algorithm.class_name == "RandomPolicy":
            env = make_environment(cell.environment)
            return algorithm.load_class()("MlpPolicy", env, seed=cell.seed)
        raise FileNotFoundError(f"{cell.name}: its model.zip is missing")
    return algorithm.load_class().load(cell.model_file, device="cpu")


def _has_q_values(model: Any) -> bool:
    return getattr(getattr(model, "policy", None), "q_net", None) is not None


def _caption(details: FrameDetails) -> Mapping[str, str]:
    return {"step": f"{details.step:,}", "return": number(details.episode_return)}


def _record(cell: Cell, model: Any, seed: int, path: Path, with_q_values: bool) -> EpisodeShown:
    """
    Record one greedy episode.

    :param cell: Whose model it is.
    :param model: With Stable-Baselines3's ``predict``.
    :param seed: For the environment's reset.
    :param path: Of the video.
    :param with_q_values: Whether to draw them under the frames.
    :return: What happened.
    """
    env = make_environment(cell.environment, render_mode="rgb_array")
    fps = float(env.metadata.get("render_fps") or DEFAULT_FPS)
    overlay = Overlay(caption=_caption, model=model if with_q_values else None)
    try:
        with VideoWriter(path, fps) as writer:
            for (episode,) in rollout(model, [env], [seed]):
                details = FrameDetails(
                    0, episode.length, episode.reward, episode.episode_return, episode.observation
                )
                frame: Any = env.render()
                writer.write(overlay.draw(frame, details))
                if episode.length >= MOST_SECONDS * fps:
                    break
    finally:
        env.close()
    return EpisodeShown(
        cell.algorithm, cell.seed, episode.episode_return, episode.length, not episode.is_over
    )


def shrunk_to(path: Path, most_bytes: int) -> bytes | None:
    """
    Bring a video to a size that a page can hold, with fewer pixels if need be.

    :param path: An MP4 file.
    :param most_bytes: How large it may be.
    :return: The content of the file, or of a smaller copy; None if a quarter of its width is still
        too large.
    """
    if path.stat().st_size <= most_bytes:
        return path.read_bytes()
    fps = _frame_rate(path)
    for factor in range(2, SMALLEST_FACTOR + 1):
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "copy.mp4"
            with VideoWriter(copy, fps) as writer:
                for frame in _smaller(read_frames(path), factor):
                    writer.write(frame)
            if copy.stat().st_size <= most_bytes:
                return copy.read_bytes()
    return None


def poster_of(path: Path) -> bytes:
    """
    Take a picture from a second into a video: what stands there before it is played, and on paper.

    :param path: An MP4 file.
    :return: A JPEG picture.
    """
    from PIL import Image

    for frame in itertools.islice(read_frames(path), POSTER_FRAME):  # noqa: B007 - the last is kept
        pass
    picture = Image.fromarray(frame)
    picture.thumbnail((1200, 1200))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()


def _frame_rate(path: Path) -> float:
    reader = VideoReader(path)
    reader.frames.close()
    return float(reader.fps)


def _smaller(frames: Iterator[Frame], factor: int) -> Iterator[Frame]:
    for frame in frames:
        height, width = (length - length % factor for length in frame.shape[:2])
        blocks = frame[:height, :width].reshape(
            height // factor, factor, width // factor, factor, 3
        )
        yield blocks.mean(axis=(1, 3)).astype(np.uint8)
