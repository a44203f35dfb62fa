"""The examples in the docstrings run as they stand, each by itself."""

from __future__ import annotations

import inspect
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

import dqn_plugins.wrappers as wrappers
from dqn_plugins.wrappers import RecordVideo
from tests.wrappers.scripted import Scripted, play

PUBLIC = [getattr(wrappers, name) for name in wrappers.__all__]


def example(thing: Any) -> str | None:
    found = re.search(r"Example::\n\n((?:    .*\n|\n)+)", inspect.getdoc(thing) + "\n")
    return None if found is None else textwrap.dedent(found[1])


def test_everything_public_that_is_called_has_an_example() -> None:
    described_elsewhere = {"EpisodeRecord", "FrameDetails"}
    missing = {thing.__name__ for thing in PUBLIC if example(thing) is None}
    assert missing == described_elsewhere


@pytest.mark.parametrize(
    "thing",
    [thing for thing in PUBLIC if example(thing)],
    ids=lambda thing: thing.__name__,
)
def test_example_runs(
    thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if thing.__name__ in {"show_videos", "side_by_side", "read_frames", "to_gif"}:
        env = RecordVideo(Scripted(), "videos")
        play(env, 1)
        env.close()
        for name in ("naive", "dqn"):
            shutil.copy("videos/rl-video-episode-0.mp4", f"videos/{name}.mp4")
    code = example(thing)
    assert code is not None
    if "import minatar" in code:
        pytest.importorskip("minatar")
    exec(compile(code, thing.__name__, "exec"), {})


def test_every_parameter_is_described() -> None:
    for thing in PUBLIC:
        documented = set(re.findall(r":param (\w+):", inspect.getdoc(thing) or ""))
        assert documented == set(inspect.signature(thing).parameters), thing.__name__
