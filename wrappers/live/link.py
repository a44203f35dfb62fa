"""What connects a training to its page, without ever waiting for it."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import socket
import sys
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dqn_plugins.wrappers.live.live_page import PageAddress
from dqn_plugins.wrappers.live.protocol import CAPACITY, HEADER, LOOPBACK, REQUEST, WANTED

__all__ = ["Link"]

# What waits for a page that does not read. More than this is not kept: the page is dead or stopped.
LARGEST_BACKLOG = 4 << 20
CONNECT_SECONDS = 10.0
FAREWELL_SECONDS = 1.0


class Link:
    """
    A connection to the page's process.

    The page asks by counting up one byte of memory that both share, which costs the training a look
    at that byte per step; it has no thread of its own. Frames go through the same memory, one at a
    time: the page asks for the next when it has taken the last. Everything else is lines of JSON
    over a socket that is never waited for.
    """

    def __init__(self, address: PageAddress, hello: Mapping[str, Any]):
        descriptor, path = tempfile.mkstemp(prefix="dqn-plugins-live-")
        try:
            os.ftruncate(descriptor, CAPACITY)
            self.memory = mmap.mmap(descriptor, CAPACITY)
        finally:
            os.close(descriptor)
        self.answered = 0
        self._backlog = bytearray()
        self._received = bytearray()
        self.is_lost = False
        try:
            self._socket = socket.create_connection((LOOPBACK, address.feed_port), CONNECT_SECONDS)
            self._finalizer = weakref.finalize(self, _shut, self._socket, self._backlog)
            first = {"secret": address.secret, "memory": path, "process": os.getpid(), **hello}
            self._socket.sendall(_line(first))
            # The page has opened the memory when it answers, so that its name can go.
            if not self._socket.recv(1):
                raise ConnectionError("the page refused the training")
        except OSError as error:
            raise OSError(
                f"page: the page at {address.url} cannot be reached ({error})."
            ) from error
        finally:
            with contextlib.suppress(OSError):  # Windows keeps files that are in use
                os.unlink(path)
        self._socket.setblocking(False)

    @property
    def is_asked(self) -> bool:
        """Whether the page wants something that was not given yet."""
        return self.memory[REQUEST] != self.answered

    def wants_frame(self) -> bool:
        """Take note of the page's request; tell whether it wants a frame beside the numbers."""
        self.answered = self.memory[REQUEST]
        return bool(self.memory[WANTED])

    def put_frame(self, frame: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """Put a frame, thinned out if need be, where the page takes it; tell height and width."""
        stride = 1
        while HEADER + frame[::stride, ::stride].size > CAPACITY:
            stride += 1
        frame = frame[::stride, ::stride]
        shared = np.ndarray(frame.shape, np.uint8, self.memory, HEADER)
        shared[:] = frame
        return frame.shape[0], frame.shape[1]

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message, now or when the page reads again."""
        if self.is_lost or len(self._backlog) >= LARGEST_BACKLOG:
            return
        self._backlog += _line(message)
        try:
            while self._backlog:
                sent = self._socket.send(self._backlog)
                del self._backlog[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._lose()

    def commands(self) -> list[dict[str, Any]]:
        """Take the commands that have come, without waiting for one."""
        if self.is_lost:
            return []
        try:
            while received := self._socket.recv(65536):
                self._received += received
            self._lose()
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
        *lines, rest = self._received.split(b"\n")
        self._received = bytearray(rest)
        return [json.loads(line) for line in lines]

    def wait(self, seconds: float) -> None:
        """Wait until a command comes, but no longer than some time."""
        if seconds > 0 and not self.is_lost:
            select.select([self._socket], [], [], seconds)

    def _lose(self) -> None:
        """Go on without the page."""
        self.is_lost = True
        self.answered = self.memory[REQUEST]
        self._backlog.clear()

    def close(self, farewell: Mapping[str, Any]) -> None:
        """Say good-bye."""
        if self._finalizer.alive:
            self._backlog += _line(farewell)
            self._finalizer()
            self._lose()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":"), default=_plain).encode() + b"\n"


def _plain(value: Any) -> Any:
    """Make something that JSON can hold of a NumPy number, or describe what it is."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)


def _shut(connection: socket.socket, backlog: bytearray) -> None:
    """End a connection, also one that was not closed: the interpreter ends, or the view is gone."""
    error = getattr(sys, "last_value", None)  # what ended the interpreter, if something did
    with contextlib.suppress(OSError):
        connection.settimeout(FAREWELL_SECONDS)
        if b'"ended"' not in backlog:
            words = "The program that trained is over."
            if error is not None:
                words = f"{type(error).__name__}: {error}"
            backlog += _line({"ended": words, "failed": error is not None})
        connection.sendall(backlog)
        # A connection that is closed with commands unread may lose what was sent.
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    connection.close()
