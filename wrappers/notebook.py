"""Videos inside Jupyter."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

__all__ = ["show_video"]


def in_jupyter() -> bool:
    """
    Find out whether the program runs in a Jupyter kernel.

    :return: True in a notebook; False in a script, a terminal and IPython's own shell.
    """
    # A kernel has imported IPython long before; a script need not pay for the import.
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def existing_video(path: str | os.PathLike[str], argument: str) -> Path:
    """
    Check that a video file is there.

    :param path: the file.
    :param argument: name of the user's argument, for the message.
    :return: the same path.
    :raises FileNotFoundError: if it is not a file.
    :raises ValueError: if it is empty.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{argument}={os.fspath(path)!r} is not a file. Fix: pass the path of a video, such "
            "as RecordVideo's video_path."
        )
    if file.stat().st_size == 0:
        raise ValueError(
            f"{argument}={os.fspath(path)!r} is empty. Fix: close the environment that records it "
            "first."
        )
    return file


def video_tag(file: Path, width: int) -> str:
    """
    Write an HTML tag that holds a whole video.

    :param file: an MP4 file.
    :param width: on the page, in CSS pixels.
    :return: the tag; it needs no other file.
    """
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return (
        f'<video width="{width:d}" controls loop playsinline '
        f'src="data:video/mp4;base64,{content}"></video>'
    )


def show_video(path: str | os.PathLike[str], width: int = 360) -> None:
    """
    Play a video inside a Jupyter notebook. The video is stored in the notebook itself, so it still
    plays when the notebook is moved or the file deleted. Outside Jupyter its path is printed.

    :param path: an MP4 file.
    :param width: on the page, in CSS pixels; the height follows.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if the file is empty.

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
    file = existing_video(path, "path")
    if not in_jupyter():
        print(file)
        return
    from IPython.display import HTML, display

    display(HTML(video_tag(file, width)))  # type: ignore[no-untyped-call, unused-ignore]
