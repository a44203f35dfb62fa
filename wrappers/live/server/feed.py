"""One training, as its page's process knows it."""

from __future__ import annotations

import asyncio
import io
import json
import mmap
import time
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import psutil
from PIL import Image

from dqn_plugins.wrappers.live.protocol import CAPACITY, HEADER, REQUEST, WANTED
from dqn_plugins.wrappers.live.server.browser import Browser
from dqn_plugins.wrappers.live.server.curve import Curve

__all__ = ["Feed"]

FRAMES_PER_SECOND = 30.0
WIDEST = 1280
# Up to this many pixels PNG is small enough, and keeps the edges of what is made of a few of them.
FEW_PIXELS = 160 * 210
QUALITY = 85


class Feed:
    """A training: what it told, and how to ask it for more."""

    def __init__(self, number: int, known: dict[str, Any], browsers: Iterable[Browser]):
        self.number = number
        self.curve = Curve()
        self._browsers = browsers
        self._known: dict[str, Any] = {"is_connected": False, **known}
        self._memory: Any = bytearray(HEADER)
        self._process_id = 0
        self._process: psutil.Process | None = None
        self._state: dict[str, Any] = {}
        self._picture = b""
        self._answered = asyncio.Event()
        #: Of the frame that is to be taken; the training gives none twice.
        self._size: tuple[int, int] | None = None
        self._heard = time.monotonic()
        self._measured = (time.monotonic(), 0)
        self._spread = Curve()
        self._values: list[tuple[float, float]] = []

    def connect(self, hello: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        """Take in the training itself."""
        self._writer = writer
        with open(hello.pop("memory"), "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), CAPACITY)
        self._process_id = int(hello.pop("process"))
        self._heard = time.monotonic()
        self._known |= {**hello, "is_connected": True}

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or will not come."""
        return "ended" in self._known

    def is_expected_as(self, name: Any) -> bool:
        """Tell whether it is a training that has not come yet."""
        return not self._known["is_connected"] and self._known["name"] == name

    def give_up(self) -> None:
        """Say that it will not come, unless it has."""
        if not self._known["is_connected"] and not self.is_over:
            self._learn({"ended": "The program ended before this training began.", "failed": True})

    # To the training

    def ask(self) -> None:
        """Make the training look up before its next step."""
        self._memory[REQUEST] = (self._memory[REQUEST] + 1) % 256

    def command(self, control: str, value: Any = None) -> None:
        """Have a control do its work."""
        if self._known["is_connected"] and not self.is_over:
            line = json.dumps({"control": control, "value": value}) + "\n"
            self._writer.write(line.encode())
            self.ask()

    async def pump(self, is_looked_at: asyncio.Event) -> None:
        """Ask for one frame after the other while somebody watches."""
        due = time.monotonic()
        while True:
            if not is_looked_at.is_set():
                self.ask()
                await is_looked_at.wait()
            # An answer to a command may have come first, and the frame itself while this slept.
            if self._size is None:
                self._answered.clear()
                self._memory[WANTED] = 1
                self.ask()
                await self._answered.wait()
                self._memory[WANTED] = 0
            picture, has_picture = b"", self._size is not None
            if has_picture:
                frame, self._size = self._frame(), None
                picture = self._picture = await asyncio.to_thread(encoded, *frame)
            # A state without a picture must not take the place of one that has it.
            for browser in self._browsers:
                if browser.wants_pictures:
                    browser.tell_newest((self.number, has_picture), self._packed(picture))
            due = max(due + 1 / FRAMES_PER_SECOND, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def _frame(self) -> tuple[bytes, int, int]:
        assert self._size is not None
        height, width = self._size
        return self._memory[HEADER : HEADER + 3 * height * width], height, width

    # From the training

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Take in what the training tells, until it ends."""
        try:
            async for line in reader:
                self._heard = time.monotonic()
                self._take(json.loads(line))
        except (ConnectionError, ValueError):
            pass
        if not self.is_over:
            self._learn(
                {
                    "ended": "The training's process ended without a word: it was killed, or the "
                    "machine ran out of memory.",
                    "failed": True,
                }
            )

    def _take(self, message: dict[str, Any]) -> None:
        if "state" in message:
            self._state = message["state"]
            if (size := message.get("frame")) is not None:
                self._size = (size[0], size[1])  # until it is taken, whatever comes after it
            if "raised" in self._known:  # it goes on all the same
                del self._known["raised"]
                self.publish({"raised": None})
            if self._size is not None and not self._memory[WANTED]:  # shown before anybody asked
                self._picture = encoded(*self._frame())
            self._take_values()
            self._answered.set()
        elif "td_error" in message or "notice" in message:
            self.publish(message)
        elif "episodes" in message:
            count = self.curve.count + len(message["episodes"])
            self._extend(self.curve, message["episodes"], "points", **message, count=count)
        else:
            self._learn(message)

    def _learn(self, message: dict[str, Any]) -> None:
        self._known |= message
        self.publish(message)

    def _extend(self, curve: Curve, added: Sequence[Sequence[Any]], name: str, **more: Any) -> None:
        n_points = len(curve.points)
        if curve.add(added):
            self.publish({"snapshot": self.snapshot()})
        else:
            self.publish({name: curve.points[n_points:], **more})

    def _take_values(self) -> None:
        values = [each for each in self._state.get("values", ()) if each is not None]
        if values and self._state["kind"] == "Q":
            self._values.append((max(values), min(values)))

    # To the browsers

    def publish(self, event: dict[str, Any]) -> None:
        """Tell all browsers something about this training."""
        for browser in self._browsers:
            browser.tell({"run": self.number, **event})

    def snapshot(self) -> dict[str, Any]:
        """Tell all there is to know."""
        return {
            **self._known,
            "points": self.curve.points,
            "recent": list(self.curve.recent),
            "count": self.curve.count,
            "per_point": self.curve.episodes_per_point,
            "spread": self._spread.points,
        }

    def last_picture(self) -> bytes | None:
        """Show a browser that has just come what the others see."""
        return self._packed(self._picture) if self._state else None

    def _packed(self, picture: bytes) -> bytes:
        header = json.dumps({"run": self.number, "state": self._state}).encode()
        return len(header).to_bytes(4, "little") + header + picture

    def vitals(self) -> dict[str, Any]:
        """Measure its steps per second, its memory in MiB, and for how long it was not heard of."""
        now, steps = time.monotonic(), self._state.get("steps", 0)
        then, before = self._measured
        self._measured = now, steps
        memory = None
        try:
            self._process = self._process or psutil.Process(self._process_id)
            memory = self._process.memory_info().rss / 2**20
        except psutil.Error:
            pass
        return {
            "speed": max(steps - before, 0) / max(now - then, 1e-3),
            "memory": memory,
            "quiet": round(now - self._heard, 1),
        }

    def measure_spread(self) -> None:
        """Put the largest and the smallest Q-values since the last time, on average, on a curve."""
        values, self._values = self._values, []
        last = self._spread.recent[-1][0] if self._spread.recent else 0
        # A pause and a greedy look take no steps: their point would be on top of the one before.
        if values and self._state["steps"] != last:
            highest, lowest = map(fmean, zip(*values, strict=True))
            point = [self._state["steps"], self._state["seconds"], highest, lowest, ""]
            self._extend(self._spread, [point], "spread")


def encoded(pixels: bytes, height: int, width: int) -> bytes:
    """Encode a frame: small ones as PNG, others as JPEG."""
    image = Image.frombuffer("RGB", (width, height), pixels, "raw", "RGB", 0, 1)
    if width > WIDEST:
        image = image.reduce(-(-width // WIDEST))
    file = io.BytesIO()
    if height * width <= FEW_PIXELS:
        image.save(file, "PNG", compress_level=1)
    else:
        image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
