"""Files that are whole or not there."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from dqn_plugins.files import read_json, write_json, written_whole


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    path.write_text("old")
    with written_whole(path) as unfinished:
        assert unfinished.suffix == ".zip"
        unfinished.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["model.zip"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_json(path, {"seed": 1})
    with pytest.raises(TypeError):
        write_json(path, {"seed": Path()})
    with contextlib.suppress(KeyboardInterrupt), written_whole(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"seed": 1}
    assert os.listdir(tmp_path) == ["settings.json"]


def test_others_may_read_what_the_user_lets_them(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_json(path, {}, default=str)
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("content", [None, "", "{half", "[1]"])
def test_what_cannot_be_read_is_empty(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "timings.json"
    if content is not None:
        path.write_text(content)
    assert read_json(path) == {}
