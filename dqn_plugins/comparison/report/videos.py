"""What the best seeds did on the same episode, side by side, for a page."""

from __future__ import annotations

import base64
import io
import itertools
import os
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dqn_plugins.comparison.results import Cell
from dqn_plugins.comparison.summary import Summary, number
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.wrappers import VideoWriter, read_frames, side_by_side
from dqn_plugins.wrappers.video.video_reader import VideoReader

__all__ = ["ReportVideo", "record_together", "shrunk_to"]

SMALLEST_FACTOR = 4
POSTER_FRAME = 40


@dataclass(frozen=True)
class ReportVideo:
    """
    The best seeds of a study's algorithms next to each other, on one episode of one environment.

    :param environment: Its id.
    :param path: The MP4 file.
    :param cells: Who is shown, in the study's order.
    """

    environment: str
    path: Path
    cells: tuple[Cell, ...]

    @property
    def ratio(self) -> float:
        """Height by width."""
        height, width, _ = next(read_frames(self.path)).shape
        return float(height / width)

    @property
    def poster(self) -> str:
        """A picture from a second into it, as a ``data:`` address."""
        (frame,) = deque(itertools.islice(read_frames(self.path), POSTER_FRAME), maxlen=1)
        picture = Image.fromarray(frame)
        picture.thumbnail((1200, 1200))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=80)
        return _data_address("image/jpeg", content.getvalue())

    def address(self, most_bytes: int) -> str | None:
        """Its content as a ``data:`` address, with fewer pixels if need be; None if too large."""
        content = shrunk_to(self.path, most_bytes)
        return None if content is None else _data_address("video/mp4", content)


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def record_together(summary: Summary, environment: str, folder: Path) -> ReportVideo | str:
    """
    Put the recordings of the best seeds side by side. They were made on the first episode of the
    final evaluation, so that nobody chose the episode. Nothing is run but the video decoder.

    :param summary: Figures of the study.
    :param environment: Its id.
    :param folder: Where ``<environment>.mp4`` is put, replacing one that is there.
    :return: The video, or why there is none.
    """
    cells = [cell for row in summary.of(environment) if (cell := row.best_cell) is not None]
    if not cells:
        return "No run is finished."
    recorded = tuple(cell for cell in cells if cell.video)
    if not recorded:
        reasons = (cell.video_facts.get("error") for cell in cells)
        nothing = "The best seeds are not recorded. Run the comparison again with --videos."
        return next((str(reason) for reason in reasons if reason), nothing)
    path = folder / f"{folder_name(environment)}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".recording-") as temporary:
        files = [cell.video for cell in recorded if cell.video]
        labels = [_label(cell) for cell in recorded]
        os.replace(side_by_side(files, labels, Path(temporary) / "side_by_side.mp4"), path)
    return ReportVideo(environment, path, recorded)


def _label(cell: Cell) -> str:
    outcome = number(cell.video_facts.get("episode_return"))
    return f"{cell.algorithm}, seed {cell.seed}: return {outcome}"


def shrunk_to(path: Path, most_bytes: int) -> bytes | None:
    """The content of a video, or of a copy with fewer pixels; None if that is too large, too."""
    if path.stat().st_size <= most_bytes:
        return path.read_bytes()
    reader = VideoReader(path)
    reader.frames.close()
    for factor in range(2, SMALLEST_FACTOR + 1):
        with tempfile.TemporaryDirectory() as temporary:
            copy = Path(temporary) / "copy.mp4"
            with VideoWriter(copy, float(reader.fps)) as writer:
                for frame in read_frames(path):
                    writer.write(np.asarray(Image.fromarray(frame).reduce(factor)))
            if copy.stat().st_size <= most_bytes:
                return copy.read_bytes()
    return None
