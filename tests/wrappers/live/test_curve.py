"""The curve in bounded memory, and what is encoded how."""

from __future__ import annotations

import asyncio
import contextlib
import io
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import numpy as np
import pytest
from PIL import Image

from dqn_plugins.wrappers.live.protocol import HEADER, WANTED
from dqn_plugins.wrappers.live.server.browser import Browser
from dqn_plugins.wrappers.live.server.curve import MOST_POINTS, MOST_RECENT, Curve
from dqn_plugins.wrappers.live.server.feed import WIDEST, Feed, encoded


def episode(number: int, interventions: str = "") -> list[object]:
    return [10 * number, float(number), 2.0 * number, 10, interventions]


def test_few_episodes_stay_as_they_are() -> None:
    curve = Curve()
    assert not curve.add([episode(0), episode(1, "reset")])
    assert curve.points == [[0, 0.0, 0.0, 10, ""], [10, 1.0, 2.0, 10, "reset"]]


def test_many_episodes_become_their_means() -> None:
    curve = Curve()
    marked = 7
    n = 5 * MOST_POINTS
    thinned = [curve.add([episode(i, "reset" if i == marked else "")]) for i in range(n)]
    assert thinned.count(True) == 3
    assert curve.count == n
    assert curve.episodes_per_point == 8
    assert MOST_POINTS / 2 <= len(curve.points) < MOST_POINTS
    # Eight episodes: the place of the last, the mean of all, and what was changed in any
    assert curve.points[0] == [70, 7.0, 7.0, 10, "reset"]
    assert curve.points[1] == [150, 15.0, 2.0 * 11.5, 10, ""]
    assert list(curve.recent) == [episode(i) for i in range(n - MOST_RECENT, n)]


@pytest.mark.parametrize("name", ["points", "spread"])
def test_a_browser_that_follows_has_the_same_curve_as_one_that_comes_late(name: str) -> None:
    points: list[object] = []

    def take(event: dict[str, Any]) -> None:
        if "snapshot" in event:
            points[:] = event["snapshot"][name]
        else:
            points.extend(event[name])

    page: Any = SimpleNamespace(tell=take)
    feed = Feed(0, {}, [page])
    for number in range(0, 3 * MOST_POINTS, 3):
        if name == "points":
            feed._take({"episodes": [episode(number + each) for each in range(3)]})
            continue
        for each in range(number, number + 3):
            feed._state = {"steps": each, "seconds": each}
            for _ in range(2):  # the second one in a pause
                feed._values = [(each, -each)]
                feed.measure_spread()
    assert len(points) > MOST_POINTS / 2
    assert points == feed.snapshot()[name]
    assert len({steps for steps, *_ in points}) == len(points)


def test_an_answer_without_a_frame_leaves_the_frame_before_it() -> None:
    feed = Feed(0, {}, [])
    feed._memory[WANTED] = 1
    for frame in ([40, 60], None):
        feed._take({"state": {}, "frame": frame})
    assert feed._size == (40, 60)


async def a_frame_while_the_pump_sleeps() -> list[tuple[int, bool]]:
    """Answer the page's request without a frame, and give the frame before it asks again."""
    told: asyncio.Queue[tuple[int, bool]] = asyncio.Queue()
    browser: Any = SimpleNamespace(
        wants_pictures=True, tell_newest=lambda kind, picture: told.put_nowait(kind)
    )
    feed, is_looked_at = Feed(0, {}, [browser]), asyncio.Event()
    feed._memory = bytearray(HEADER + 3 * 2 * 2)
    is_looked_at.set()
    pump = asyncio.create_task(feed.pump(is_looked_at))
    await asyncio.sleep(0)  # it asks
    kinds = []
    for message in ({"state": {}}, {"state": {}, "frame": [2, 2]}):
        feed._take(message)
        kinds.append(await asyncio.wait_for(told.get(), 60))
    pump.cancel()
    return kinds


def test_a_frame_after_the_answer_to_a_command_needs_no_further_step() -> None:
    assert asyncio.run(a_frame_while_the_pump_sleeps()) == [(0, False), (0, True)]


def test_a_state_without_a_picture_leaves_the_picture_before_it() -> None:
    sent: list[bytes] = []
    socket: Any = SimpleNamespace(send_bytes=AsyncMock(side_effect=sent.append))

    async def send() -> None:
        browser = Browser(socket, list)
        for picture, message in ((1, b"P1"), (0, b"S1"), (1, b"P2"), (0, b"S2"), (0, b"S3")):
            browser.tell_newest((0, bool(picture)), message)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(browser.send(), 0.1)

    asyncio.run(send())
    assert sent == [b"P2", b"S3"]


def test_small_frames_keep_every_pixel_and_large_ones_are_made_smaller() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (10, 12, 3), np.uint8)
    file = Image.open(io.BytesIO(encoded(small.tobytes(), 10, 12)))
    assert file.format == "PNG"
    np.testing.assert_array_equal(np.asarray(file), small)
    large = np.full((1_000, 3 * WIDEST, 3), 99, np.uint8)
    file = Image.open(io.BytesIO(encoded(large.tobytes(), *large.shape[:2])))
    assert file.format == "JPEG"
    assert file.size == (WIDEST, 334)
