"""Starts the page's server, and ends it when nobody needs it any more."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from typing import Any

import uvicorn

from dqn_plugins.wrappers.live.server.guard import Guard
from dqn_plugins.wrappers.live.server.page import Page

__all__ = ["main"]

PORTS_TRIED = 100
LOOK_SECONDS = 0.5
# A page that was left open does not keep its server for ever.
LONGEST_AFTER_TRAINING = 3_600.0
# Who opens the page after a short training still finds its curve.
LONGEST_UNSEEN = 60.0


def main() -> None:
    """Read the settings from standard input, write the answer to standard output, and serve."""
    settings = json.loads(sys.stdin.readline())
    with contextlib.suppress(OSError, AttributeError):
        os.nice(5)  # training goes first
    try:
        listener = free_port(settings["host"], settings["port"])
    except OSError as error:
        print(json.dumps({"error": error.strerror or str(error)}), flush=True)
        return
    asyncio.run(_serve(settings, listener))


def free_port(host: str, port: int) -> socket.socket:
    """Listen on a port, or on the next that is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    last = OSError("no port is free")
    for candidate in range(port, min(port + PORTS_TRIED, 65536)) if port else [0]:
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # a port that was left a moment ago is free
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address[0], candidate, *address[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            last = error
        else:
            return listener
    raise last


async def _serve(settings: dict[str, Any], listener: socket.socket) -> None:
    page = Page(settings["secret"], settings["expected"])
    feeds = await asyncio.start_server(page.take_training, "127.0.0.1", 0, limit=1 << 24)
    host, token = settings["host"], settings["token"]
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        Guard(page.app(), host, token),
        ws="websockets-sansio",
        ws_max_size=4_096,
        ws_ping_interval=5.0,
        ws_ping_timeout=10.0,
        ws_per_message_deflate=False,  # pictures are compressed already
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    query = "" if token is None else f"?token={token}"
    answer = {
        "url": f"http://{_shown(host)}:{port}/{query}",
        "port": port,
        "feed_port": feeds.sockets[0].getsockname()[1],
    }
    print(json.dumps(answer), flush=True)
    sys.stdout.close()
    measuring = asyncio.create_task(page.measure())
    serving = asyncio.create_task(server.serve([listener]))
    await _until_nobody_needs(page)
    server.should_exit = True
    measuring.cancel()
    await serving


def _shown(host: str) -> str:
    """Write an address into a URL; of all addresses, the machine's name."""
    if host in {"0.0.0.0", "::", ""}:  # noqa: S104
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


async def _until_nobody_needs(page: Page) -> None:
    await asyncio.to_thread(sys.stdin.read)  # ends when who made the page lets go of it, or is gone
    # Whoever reads what the training printed shall not wait for the page as well.
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    seconds = longest = 0.0
    began = time.monotonic()
    while seconds <= longest:
        await asyncio.sleep(LOOK_SECONDS)
        page.give_up()
        if not page.is_over:
            began = time.monotonic()
        seconds = time.monotonic() - began
        longest = LONGEST_UNSEEN if page.has_news else 0.0
        if page.is_watched or not page.is_over:
            longest = LONGEST_AFTER_TRAINING
