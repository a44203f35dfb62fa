"""What the best seeds did on the same episode, side by side, for a page."""

import base64
import io
import itertools
import os
import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dqn_plugins.comparison.summary import Summary, number
from dqn_plugins.experiments.names import folder_name
from dqn_plugins.wrappers import VideoWriter, read_frames, side_by_side
from dqn_plugins.wrappers.video.video_reader import VideoReader

__all__ = ["record_together", "shrunk_to"]

SMALLEST_FACTOR = 4
POSTER_FRAME = 40


def record_together(summary: Summary, environment: str, most_bytes: int) -> dict[str, Any] | str:
    """
    Put the recordings of the best seeds side by side into ``videos/<environment>.mp4``, and return
    what the page shows of it, or why there is none. They were made on the first episode of the
    final evaluation, so that nobody chose the episode. Nothing is run but the video decoder.
    """
    rows = [row.finished for row in summary.of(environment)]
    cells = [max(row, key=lambda cell: cell.final_return) for row in rows if row]
    if not cells:
        return "No run is finished."
    recorded = [cell for cell in cells if cell.video]
    if not recorded:
        reasons = (cell.video_facts.get("error") for cell in cells)
        nothing = "The best seeds are not recorded. Run the comparison again with --videos."
        return next((str(reason) for reason in reasons if reason), nothing)
    folder = summary.study.folder / "videos"
    path = folder / f"{folder_name(environment)}.mp4"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".recording-") as temporary:
        files = [cell.video for cell in recorded if cell.video]
        labels = [
            f"{cell.algorithm}, seed {cell.seed}: return "
            f"{number(cell.video_facts.get('episode_return'))}"
            for cell in recorded
        ]
        os.replace(side_by_side(files, labels, Path(temporary) / "side_by_side.mp4"), path)
    # A picture from a second into it, until it is played
    (frame,) = deque(itertools.islice(read_frames(path), POSTER_FRAME), maxlen=1)
    picture, poster = Image.fromarray(frame), io.BytesIO()
    picture.thumbnail((1200, 1200))
    picture.save(poster, "JPEG", quality=80)
    content = shrunk_to(path, most_bytes)
    return {
        "environment": environment,
        "path": path,
        "cells": recorded,
        "ratio": frame.shape[0] / frame.shape[1],
        "poster": _data_address("image/jpeg", poster.getvalue()),
        "address": None if content is None else _data_address("video/mp4", content),
    }


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


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
