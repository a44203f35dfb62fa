"""One browser that shows the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket

__all__ = ["Browser"]

MOST_EVENTS = 500


class Browser:
    """
    What is still to be sent to one browser: the events in their order, and of each training the
    newest picture only. A browser that does not keep up misses pictures; one that is far behind
    misses events too, and gets a snapshot of everything instead.

    :param socket: The connection, accepted.
    :param snapshot: Tells everything, as events.
    """

    def __init__(self, socket: WebSocket, snapshot: Callable[[], list[dict[str, Any]]]):
        self._socket = socket
        self._snapshot = snapshot
        self._events = snapshot()
        self._pictures: dict[int, bytes] = {}
        self._newest: dict[tuple[int, str], dict[str, Any]] = {}
        self._is_behind = False
        self.wants_pictures = True
        self._something = asyncio.Event()
        self._something.set()

    def tell(self, event: dict[str, Any]) -> None:
        """
        Have an event sent.

        :param event: What JSON can hold.
        """
        if len(self._events) >= MOST_EVENTS:
            self._is_behind = True
            self._events.clear()
        if not self._is_behind:
            self._events.append(event)
        self._something.set()

    def tell_newest(self, event: dict[str, Any], kind: str) -> None:
        """
        Have an event sent, unless the next of its kind is there before this one's turn.

        :param event: What JSON can hold.
        :param kind: Its kind.
        """
        self._newest[event["run"], kind] = event
        self._something.set()

    def show(self, run: int, picture: bytes) -> None:
        """
        Have a picture sent, unless the next is there before this one's turn.

        :param run: Number of the training.
        :param picture: State and picture.
        """
        self._pictures[run] = picture
        self._something.set()

    async def send(self) -> None:
        """Send what there is, for as long as the browser is there."""
        while True:
            await self._something.wait()
            self._something.clear()
            if self._is_behind:
                self._is_behind, self._events = False, self._snapshot()
            events, self._events = [*self._events, *self._newest.values()], []
            self._newest.clear()
            pictures, self._pictures = self._pictures, {}
            if events:
                await self._socket.send_text(json.dumps(events, separators=(",", ":")))
            for picture in pictures.values():
                await self._socket.send_bytes(picture)
