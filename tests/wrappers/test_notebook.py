"""Videos inline in Jupyter, paths elsewhere."""

from __future__ import annotations

import base64
import re
import sys
import types
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from dqn_plugins.wrappers import RecordVideo, show_video, show_videos
from tests.wrappers.scripted import Scripted, play


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    env = RecordVideo(Scripted(), str(tmp_path), episode_trigger=lambda episode: episode in {2, 10})
    play(env, 11)
    env.close()
    return tmp_path


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show."""
    import IPython
    import IPython.display

    contents: list[str] = []
    kernel: Any = types.SimpleNamespace(kernel=object())
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)
    monkeypatch.setattr(IPython.display, "display", lambda html: contents.append(html.data))
    return contents


def test_outside_jupyter_the_path_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folder / "rl-video-episode-2.mp4", folder / "rl-video-episode-10.mp4"
    show_video(first)
    assert capsys.readouterr().out == f"{first}\n"
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    show_videos(folder)
    assert capsys.readouterr().out == f"{first}\n{second}\n"
    show_videos([str(second)])
    assert capsys.readouterr().out == f"{second}\n"


def test_one_tag_holds_the_whole_video(folder: Path, shown: list[str]) -> None:
    path = folder / "rl-video-episode-2.mp4"
    show_video(path, width=200)
    (tag,) = shown
    assert tag.count("<video") == 1
    assert 'width="200"' in tag
    content = re.search(r'src="data:video/mp4;base64,([^"]+)"', tag)
    assert content is not None
    assert base64.b64decode(content[1]) == path.read_bytes()


def test_several_side_by_side_with_captions(folder: Path, shown: list[str]) -> None:
    (folder / "rl-video-episode-10.json").unlink()
    show_videos(folder)
    (tag,) = shown
    assert tag.count("<video") == 2
    captions = re.findall(r"<figcaption[^>]*>([^<]*)<", tag)
    assert captions == ["episode 2: return 1.0, 4 steps", "rl-video-episode-10"]


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: received .*is not a file.*video_path"):
        show_video(tmp_path / "nothing.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        show_video(tmp_path / "empty.mp4")
    with pytest.raises(FileNotFoundError, match=r"holds no \.mp4 file"):
        show_videos(tmp_path)


def test_in_a_real_notebook(folder: Path) -> None:
    notebook = nbformat.v4.new_notebook()
    path = folder / "rl-video-episode-2.mp4"
    notebook.cells = [
        nbformat.v4.new_code_cell(
            "from dqn_plugins.wrappers import show_video, show_videos\n"
            f"show_video({str(path)!r})\nshow_videos({str(folder)!r})"
        )
    ]
    NotebookClient(notebook, timeout=120).execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data", "display_data"]
    assert base64.b64encode(path.read_bytes()).decode() in outputs[0].data["text/html"]
