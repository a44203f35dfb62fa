"""One browser that shows the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket

__all__ = ["Browser"]

MOST_EVENTS = 500
# Events of which nobody needs the one before.
NEWEST_ONLY = ("td_error", "vitals")


class Browser:
    """
    What is still to be sent to one browser: the events in their order, and of what is outdated by
    the next of its kind, as pictures are, the newest only. A browser that does not keep up misses
    pictures; one that is far behind misses events too, and gets a snapshot of everything instead.
    """

    def __init__(self, socket: WebSocket, snapshot: Callable[[], list[dict[str, Any]]]):
        self._socket = socket
        self._snapshot = snapshot
        self._events: list[dict[str, Any]] | None = None  # None: so many that all is told anew
        self._newest: dict[Any, dict[str, Any] | bytes] = {}
        self.wants_pictures = True
        self._something = asyncio.Event()
        self._something.set()

    def tell(self, event: dict[str, Any]) -> None:
        """Have an event sent."""
        newest = next((kind for kind in NEWEST_ONLY if kind in event), None)
        if newest is not None:
            self.tell_newest((event["run"], newest), event)
        elif self._events is not None:
            self._events.append(event)
            if len(self._events) > MOST_EVENTS:
                self._events = None
        self._something.set()

    def tell_newest(self, kind: Any, message: dict[str, Any] | bytes) -> None:
        """Have an event or a picture sent, unless the next of its kind is there before its turn."""
        self._newest.pop(kind, None)  # or else it would keep the place of the one before
        self._newest[kind] = message
        self._something.set()

    async def send(self) -> None:
        """Send what there is, for as long as the browser is there."""
        while True:
            await self._something.wait()
            self._something.clear()
            events = self._snapshot() if self._events is None else self._events
            newest, self._events, self._newest = self._newest.values(), [], {}
            events += [each for each in newest if isinstance(each, dict)]
            if events:
                await self._socket.send_text(json.dumps(events, separators=(",", ":")))
            for picture in newest:
                if isinstance(picture, bytes):
                    await self._socket.send_bytes(picture)
