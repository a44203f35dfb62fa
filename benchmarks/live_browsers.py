"""
Browsers without a screen, which read a live page as fast as it comes: for ``live.py``.

    python benchmarks/live_browsers.py URL NUMBER

prints each second how many pictures they have had, until it is killed. From three on, one of them
never reads, and one comes back every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys

from websockets.asyncio.client import connect


def socket_url(url: str) -> tuple[str, str]:
    return url.replace("http", "ws", 1) + "socket", url.rstrip("/")


async def browse(url: str, received: list[int]) -> None:
    """Read everything, as fast as it comes."""
    address, origin = socket_url(url)
    while True:
        with contextlib.suppress(OSError):
            async with connect(address, origin=origin, max_size=None, compression=None) as page:  # type: ignore[arg-type]
                async for message in page:
                    received[0] += isinstance(message, bytes)


async def reconnect(url: str) -> None:
    """Come back every second."""
    address, origin = socket_url(url)
    while True:
        with contextlib.suppress(OSError):
            async with connect(address, origin=origin, max_size=None, compression=None) as page:  # type: ignore[arg-type]
                with contextlib.suppress(asyncio.TimeoutError):
                    async with asyncio.timeout(1.0):
                        async for _ in page:
                            pass


def stall(url: str) -> socket.socket:
    """Connect, and never read."""
    host = url.removeprefix("http://").rstrip("/")
    name, port = host.split(":")
    stalled = socket.create_connection((name, int(port)))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.sendall(
        f"GET /socket HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return stalled


def main(url: str, number: int) -> None:
    """So many browsers, until the program is killed: from 3 on, one stalls and one reconnects."""
    os.nice(10)  # other machines would be theirs

    async def browse_all() -> None:
        received = [0]
        tasks = []
        if number >= 3:
            stalled = [stall(url)]
            tasks.append(reconnect(url))
            number_reading = number - 2

            async def stall_again() -> None:  # the page lets go of who does not answer
                while True:
                    await asyncio.sleep(20)
                    stalled.append(stall(url))
                    stalled.pop(0).close()

            tasks.append(stall_again())
        else:
            number_reading = number
        counts = [[0] for _ in range(number_reading)]
        tasks += [browse(url, count) for count in counts]

        async def report() -> None:
            while True:
                await asyncio.sleep(1.0)
                received[0] = sum(count[0] for count in counts)
                print(received[0], flush=True)

        await asyncio.gather(*tasks, report())

    asyncio.run(browse_all())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
