"""Videos inside Jupyter."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from dqn_plugins.wrappers.drawing.lettering import signed
from dqn_plugins.wrappers.video.video_reader import existing_video

__all__ = ["show_video", "show_videos"]


def in_jupyter() -> bool:
    """Find out whether the program runs in a Jupyter kernel."""
    # A kernel has imported IPython long before; a script need not pay for the import.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def video_tag(file: Path, width: int) -> str:
    """Write an HTML tag that holds a whole video."""
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return (
        f'<video width="{width:d}" controls loop playsinline '
        f'src="data:video/mp4;base64,{content}"></video>'
    )


def _show(files: Sequence[Path], width: int, captions: Sequence[str]) -> None:
    """Show videos in the notebook, or print where they are."""
    if not in_jupyter():
        print(*files, sep="\n")
        return
    from IPython.display import HTML, display

    figures = "".join(
        f'<figure style="margin:0">{video_tag(file, width)}'
        f'<figcaption style="text-align:center">{html.escape(caption)}</figcaption></figure>'
        for file, caption in zip(files, captions, strict=True)
    )
    content = f'<div style="display:flex;flex-wrap:wrap;gap:12px">{figures}</div>'
    with warnings.catch_warnings():
        # IPython advises IFrame for players that are not self-contained; this one is.
        warnings.simplefilter("ignore", UserWarning)
        display(HTML(content))  # type: ignore[no-untyped-call, unused-ignore]


def show_video(path: str | os.PathLike[str], width: int = 360) -> None:
    """
    Play a video inside a Jupyter notebook. The video is stored in the notebook itself, so it still
    plays when the notebook is moved or the file deleted. Outside Jupyter its path is printed.

    :param path: An MP4 file.
    :param width: On the page, in CSS pixels; the height follows.
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If the file is empty.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import RecordVideo, show_video

        env = RecordVideo(gym.make("CartPole-v1", render_mode="rgb_array"), "videos")
        env.reset(seed=0)
        for _ in range(5):
            env.step(env.action_space.sample())
        env.close()
        show_video(env.video_path)
    """
    _show([existing_video(path, "path")], width, [""])


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Order file names the way people count: episode 2 before episode 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def caption_of(file: Path) -> str:
    """Describe a video in a few words, from the ``.json`` file beside it if there is one."""
    try:
        sidecar = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        episodes = sidecar["episodes"]
        if len(episodes) == 1:
            episode = episodes[0]
            return (
                f"episode {episode['episode']}: return {signed(episode['return'], 1)}, "
                f"{episode['length']} steps"
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return file.stem


def show_videos(
    folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], width: int = 360
) -> None:
    """
    Play several videos side by side inside a Jupyter notebook, each with a caption: episode,
    return and length where :class:`dqn_plugins.wrappers.RecordVideo` has written them beside the
    video, the file's name otherwise. Outside Jupyter the paths are printed.

    :param folder: A folder, whose MP4 files are shown in the order of their names, or a list of
        MP4 files.
    :param width: Of each video on the page, in CSS pixels.
    :raises FileNotFoundError: If there is no such folder or file, or no video in the folder.
    :raises ValueError: If a listed file is empty; in a folder empty files are left out.

    Example::

        from dqn_plugins.wrappers import show_videos

        show_videos("videos")
    """
    if isinstance(folder, str | os.PathLike):
        files = sorted(
            (file for file in Path(folder).glob("*.mp4") if file.stat().st_size), key=natural_order
        )
        if not files:
            raise FileNotFoundError(
                f"folder: received {os.fspath(folder)!r}, which holds no .mp4 file. Pass the "
                "video_folder of a recorder that has recorded something."
            )
    else:
        files = [existing_video(path, "folder") for path in folder]
    _show(files, width, [caption_of(file) for file in files])
