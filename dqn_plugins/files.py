"""Files that are written whole or not at all, and the folders they go to."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from dqn_plugins.errors import SettingsError

__all__ = ["checked_folder", "output_folder", "read_json", "write_json", "written_whole"]


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """
    Have a file written beside its place, and move it there when it is complete: whoever reads it
    sees the whole of it or what was there before.

    :param path: Where to; what is there is replaced.
    :return: Context with the path to write to, hidden and with the same suffix.
    """
    unfinished = path.with_name(f".{path.stem}-{token_hex(4)}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """
    Write a JSON file whole or not at all.

    :param path: The file.
    :param content: What to write.
    :param default: Turns what JSON does not know into what it does; by default it is refused.
    """
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, default=default) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON file that may be missing or damaged.

    :param path: The file.
    :return: The mapping in it; empty if there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def checked_folder(folder: str | os.PathLike[str], argument: str) -> Path:
    """
    Make a folder and prove that files can be written in it.

    :param folder: The folder; missing parents are made too.
    :param argument: Name of the user's argument, for the message.
    :return: Its absolute path.
    :raises OSError: (of the fitting subclass) if it cannot be made or written.
    """
    path = Path(os.path.abspath(os.fspath(folder)))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{argument}: received {os.fspath(folder)!r}, it must be a folder that can be written "
            f"({error.strerror}). Pass one that you own, or correct the permissions",
            str(path),
        ) from error
    return path


def output_folder(folder: Path, argument: str = "out") -> Path:
    """
    Make the folder that an option of a command names.

    :param folder: The folder; missing parents are made too.
    :param argument: The option.
    :return: Its absolute path.
    :raises SettingsError: If it cannot be made or written.
    """
    try:
        return checked_folder(folder, argument)
    except OSError as error:
        raise SettingsError(str(error.strerror)) from error
