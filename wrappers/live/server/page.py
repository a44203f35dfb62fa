"""The page: its files, its trainings, and the browsers that show it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from dqn_plugins.wrappers.live.protocol import CONTROLS
from dqn_plugins.wrappers.live.server.browser import Browser
from dqn_plugins.wrappers.live.server.feed import Feed

__all__ = ["Page"]

FILES = Path(__file__).parents[1] / "page"
KINDS = {
    "index.html": "text/html",
    "live.css": "text/css",
    "live.js": "text/javascript",
    "uplot.css": "text/css",
    "uplot.js": "text/javascript",
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        # Notebooks on this machine may show the page; no other site may, or it could have clicks
        # on its own buttons land on ours.
        "frame-ancestors 'self' http://localhost:* http://127.0.0.1:* vscode-webview:"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# How long the trainings that are paused or slowed down wait for a browser that was reloaded.
GRACE_SECONDS = 3.0
LARGEST_COMMAND = 1_000
CONTROL_OF = {control.name: control for control in CONTROLS}


class Page:
    """Everything that the page's process knows."""

    def __init__(self, secret: str, expected: Sequence[Sequence[str]]):
        self.feeds: list[Feed] = []
        self.browsers: set[Browser] = set()
        self.is_watched = False
        self.is_looked_at = asyncio.Event()
        self._secret = secret
        self._leaving: asyncio.TimerHandle | None = None
        self._was_seen = False
        for name, environment in expected:
            self._new_feed({"name": name, "environment": environment})

    # Trainings

    async def take_training(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one training from its first word to its end."""
        with contextlib.suppress(ConnectionError):
            try:
                hello = json.loads(await asyncio.wait_for(reader.readline(), 10.0))
                secret = hello.pop("secret")
            except (ValueError, KeyError, TypeError, AttributeError, asyncio.TimeoutError):
                writer.close()
                return
            if not secrets.compare_digest(str(secret).encode(), self._secret.encode()):
                writer.close()
                return
            name = hello.get("name")
            feed = next((each for each in self.feeds if each.is_expected_as(name)), None)
            feed = feed or self._new_feed({})
            feed.connect(hello, writer)
            writer.write(b"\n")
            feed.publish({"snapshot": feed.snapshot()})
            if self.browsers:
                feed.command("watched", True)
            pump = asyncio.create_task(feed.pump(self.is_looked_at))
            try:
                await feed.listen(reader)
            finally:
                pump.cancel()
                writer.close()

    def _new_feed(self, known: dict[str, Any]) -> Feed:
        feed = Feed(len(self.feeds), known, self.browsers)
        self.feeds.append(feed)
        return feed

    @property
    def is_over(self) -> bool:
        """Whether no training goes on."""
        return all(feed.is_over for feed in self.feeds)

    @property
    def has_news(self) -> bool:
        """Whether there is a curve that nobody has seen."""
        return not self._was_seen and any(feed.curve.count for feed in self.feeds)

    def give_up(self) -> None:
        """Say that what was expected and has not come will not come any more."""
        for feed in self.feeds:
            feed.give_up()

    async def measure(self) -> None:
        """Tell the browsers each second how the trainings are."""
        while True:
            await asyncio.sleep(1.0)
            for feed in self.feeds:
                if self.browsers and not feed.is_over:
                    feed.publish({"vitals": await asyncio.to_thread(feed.vitals)})
                    feed.measure_spread()

    # Browsers

    async def take_browser(self, socket: WebSocket) -> None:
        """Serve one browser for as long as it is there."""
        await socket.accept()
        browser = Browser(socket, self._everything)
        for feed in self.feeds:
            if (picture := feed.last_picture()) is not None:
                browser.tell_newest((feed.number, True), picture)
        self._come(browser)
        sender = asyncio.create_task(browser.send())
        try:
            while True:
                self._obey(await socket.receive_text(), browser)
        except (WebSocketDisconnect, KeyError, RuntimeError):
            pass
        finally:
            self._leave(browser)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sender

    def _everything(self) -> list[dict[str, Any]]:
        snapshots = [{"run": feed.number, "snapshot": feed.snapshot()} for feed in self.feeds]
        return [{"table": [asdict(control) for control in CONTROLS]}, *snapshots]

    def _come(self, browser: Browser) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if not self.is_watched:
            for feed in self.feeds:
                feed.command("watched", True)
        self.browsers.add(browser)
        self._was_seen = self.is_watched = True
        self._count_eyes()

    def _count_eyes(self) -> None:
        """Find out whether anybody needs pictures: a tab behind others does not."""
        if any(browser.wants_pictures for browser in self.browsers):
            self.is_looked_at.set()
        else:
            self.is_looked_at.clear()

    def _leave(self, browser: Browser) -> None:
        self.browsers.discard(browser)
        self._count_eyes()
        if not self.browsers:
            loop = asyncio.get_running_loop()
            self._leaving = loop.call_later(GRACE_SECONDS, self._say_nobody_watches)

    def _say_nobody_watches(self) -> None:
        self._leaving = None
        self.is_watched = False
        for feed in self.feeds:
            feed.command("watched", False)

    def _obey(self, text: str, browser: Browser) -> None:
        """Pass a control on, if it is one and its value makes sense."""
        if len(text) > LARGEST_COMMAND:
            return
        try:
            command = json.loads(text)
            control, value, run = command["control"], command.get("value"), command.get("run")
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        known = CONTROL_OF.get(control) if isinstance(control, str) else None
        if known is None or not known.takes(value):
            return
        if control == "pictures":
            browser.wants_pictures = value
            self._count_eyes()
            return
        for feed in self.feeds:
            if run is None or run == feed.number:
                feed.command(control, value)

    # Files

    def app(self) -> Starlette:
        """Put the page together."""
        socket = WebSocketRoute("/socket", self.take_browser)
        return Starlette(routes=[Route("/", _file), Route("/{name}", _file), socket])


async def _file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in KINDS:
        raise HTTPException(404)
    return FileResponse(FILES / name, media_type=KINDS[name], headers=HEADERS)
