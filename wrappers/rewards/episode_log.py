"""Episodes in a CSV file that Stable-Baselines3's ``load_results`` and pandas read."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from gymnasium import logger

from dqn_plugins.files import checked_folder
from dqn_plugins.wrappers.rewards.episode import EpisodeRecord

__all__ = ["EpisodeLog"]

# Stable-Baselines3's load_results reads the files of a folder that end so.
SUFFIX = "monitor.csv"
COLUMNS = (
    "r",
    "l",
    "t",
    "duration",
    "last_reward",
    "terminated",
    "truncated",
    "incomplete",
    "discounted_return",
    "interventions",
)

_open_files: set[Path] = set()


def log_path(log_file: str | os.PathLike[str], index: int | None = None) -> Path:
    """Tell where a log goes; ``index`` is that of one of several environments."""
    text = os.fspath(log_file)
    if os.path.isdir(text) or text.endswith(("/", os.sep)):
        text = os.path.join(text, SUFFIX)
    elif not text.endswith(SUFFIX):
        text = f"{text}.{SUFFIX}"
    path = Path(os.path.abspath(text))
    return path if index is None else _numbered(path, f".{index}")


def _numbered(path: Path, number: str) -> Path:
    stem = path.name.removesuffix(SUFFIX).removesuffix(".")
    return path.with_name(f"{stem}{number}.{SUFFIX}" if stem else f"{number[1:]}.{SUFFIX}")


def _close(descriptor: int, path: Path) -> None:
    _open_files.discard(path)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Claim a file for this process until the descriptor is closed."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


class EpisodeLog:
    """
    A CSV file with one row per episode, in the form of Stable-Baselines3's ``Monitor``: a line of
    JSON, the column names, the rows. An existing log is continued, its times included; each row
    reaches the operating system as its episode ends, so a killed run loses at most the episode it
    was in.

    A copy, by ``copy.deepcopy`` or ``pickle``, writes nothing.

    Columns: ``r`` return, ``l`` length in steps, ``t`` seconds since the log was begun (the first
    run's beginning, if several runs append), ``duration`` seconds of the episode, ``last_reward``,
    ``terminated``, ``truncated``, ``incomplete`` (given up before its end), ``discounted_return``
    (empty without ``gamma``), and ``interventions`` (what the controls of a live page changed).

    :param log_file: Where to. A name that does not end in ``monitor.csv`` has ``.monitor.csv``
        appended, a folder gets ``monitor.csv``. If another environment is writing the file at this
        moment, the next number is taken (``run_1.monitor.csv``): one file per environment.
    :param environment_id: The environment's id, for the first line.
    :param append: False replaces an existing file.
    :raises OSError: If the file cannot be written.
    :raises ValueError: If the file exists and is not such a log.

    Example::

        from dqn_plugins.wrappers import EpisodeLog

        log = EpisodeLog("logs/run", environment_id="CartPole-v1")
        print(log.path)  # .../logs/run.monitor.csv
        log.close()
    """

    def __init__(
        self,
        log_file: str | os.PathLike[str],
        environment_id: str | None = None,
        append: bool = True,
    ):
        wanted = log_path(log_file)
        checked_folder(wanted.parent, "log_file")
        self.path, self._descriptor = self._open_free(wanted)
        self._finalizer: Any = weakref.finalize(self, _close, self._descriptor, self.path)
        try:
            if not append:
                os.ftruncate(self._descriptor, 0)
            self._read_or_begin(environment_id)
        except BaseException:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        # A copy writes nothing: the file stays the original's, as with a video.
        return {**vars(self), "_finalizer": None}

    @staticmethod
    def _open_free(wanted: Path) -> tuple[Path, int]:
        number = -1
        while True:
            number += 1
            path = (_numbered(wanted, f"_{number}") if number else wanted).resolve()
            if path in _open_files:
                continue
            try:
                # Whole rows appended in one call do not mix, whoever else writes.
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
                descriptor = os.open(path, flags, 0o666)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"log_file: cannot be written ({error.strerror}). Pass a path in a "
                    "folder you own, or correct the permissions",
                    str(path),
                ) from error
            if _lock(descriptor):
                _open_files.add(path)
                return path, descriptor
            os.close(descriptor)

    def _read_or_begin(self, environment_id: str | None) -> None:
        now = time.time()
        content = self.path.read_bytes()
        lines = content.splitlines(keepends=True)
        if len(lines) < 2 or not lines[1].endswith(b"\n"):
            self._begin(content, environment_id, now)
            return
        try:
            header = json.loads(lines[0].removeprefix(b"#")) if lines[0][:1] == b"#" else None
            begun = float(header["t_start"])  # type: ignore[index]
        except (ValueError, TypeError, KeyError) as error:
            raise self._foreign() from error
        self.columns = tuple(next(csv.reader([lines[1].decode()])))
        if not {"r", "l", "t"} <= set(self.columns):
            raise self._foreign()
        missing = [column for column in COLUMNS if column not in self.columns]
        if missing:
            logger.warn(
                f"{self.path} was begun with fewer columns, so {', '.join(missing)} will not be "
                "logged. A new log_file has them all."
            )
        self._offset = now - begun
        if not content.endswith(b"\n"):
            # A machine that went down can leave half a row, which would spoil the next one.
            whole = len(next(csv.reader([lines[-1].decode(errors="replace")]))) == len(self.columns)
            if whole:
                os.write(self._descriptor, b"\n")
            else:
                logger.warn(f"{self.path} ended in half a row, which was removed.")
                os.ftruncate(self._descriptor, len(content) - len(lines[-1]))

    def _begin(self, content: bytes, environment_id: str | None, now: float) -> None:
        if content and not content.startswith(b"#"):
            raise self._foreign()
        os.ftruncate(self._descriptor, 0)
        header = json.dumps({"t_start": now, "env_id": str(environment_id)})
        self.columns = COLUMNS
        self._offset = 0.0
        self._write(f"#{header}\n{','.join(COLUMNS)}\n")

    def _foreign(self) -> ValueError:
        return ValueError(
            f"log_file: received {str(self.path)!r}, which is no episode log. Pass another name, "
            "or append=False to replace the file."
        )

    def _write(self, text: str) -> None:
        rest = text.encode()
        size = os.fstat(self._descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            # Half a row, as a full disk leaves it, would spoil the file for its readers.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def write(self, record: EpisodeRecord) -> None:
        """
        Append one episode.

        :param record: The episode.
        :raises ValueError: If the log is closed.
        :raises OSError: If the file cannot be written, for example because the disk is full.
        """
        if self._finalizer is None:
            return
        if not self._finalizer.alive:
            raise ValueError(f"{self.path} is closed. Make a new environment with this log.")
        values: dict[str, Any] = {
            **vars(record),
            **record.info(),
            "t": round(self._offset + record.elapsed, 6),
            "duration": round(record.duration, 6),
            "incomplete": record.incomplete,
        }
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow(
            ["" if values.get(column) is None else values[column] for column in self.columns]
        )
        self._write(row.getvalue())

    def close(self) -> None:
        """Close the file. Doing it twice does no harm."""
        if self._finalizer is not None:
            self._finalizer()
