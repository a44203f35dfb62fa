"""How fast a training goes: paused, step by step, in multiples of real time, or at full speed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from dqn_plugins.arguments import is_number

__all__ = ["LOOK_SECONDS", "Attend", "Pace"]

LOOK_SECONDS = 0.02

#: Waits for so many seconds at most, and does what the page asks for meanwhile.
Attend: TypeAlias = Callable[[float], None]


class Pace:
    """The pace of a training, whose environment has ``fps`` frames per second."""

    def __init__(self, fps: float, speed: float):
        if not (is_number(speed) and 0 <= speed < math.inf):
            raise ValueError(
                f"speed: received {speed!r}, it must be 0 for full speed, or a multiple of real "
                "time. Pass 1 for real time."
            )
        self.fps = fps
        self.speed = self._usual_speed = speed
        self.is_paused = False
        self.steps_allowed = 0
        self._began = time.perf_counter()
        self._seconds_waited = self._due = 0.0
        self._is_waiting = False

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without those it waited for the page."""
        return time.perf_counter() - self._began - self._seconds_waited

    @property
    def is_slow(self) -> bool:
        """Whether every step can be seen."""
        return self.is_paused or self.speed > 0

    def set_speed(self, speed: float) -> None:
        """Go at a multiple of real time from now on; 0 is full speed."""
        self.speed, self._due = speed, 0.0

    def release(self) -> None:
        """Go on as at the beginning, since nobody is left who could end a pause."""
        self.is_paused = False
        self.set_speed(self._usual_speed)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Take the time of what is done meanwhile out of the training's seconds, once."""
        if self._is_waiting:
            yield
            return
        self._is_waiting, began = True, time.perf_counter()
        try:
            yield
        finally:
            self._is_waiting = False
            self._seconds_waited += time.perf_counter() - began

    def hold_step(self, attend: Attend) -> None:
        """Wait until the next step may be taken."""
        with self.waiting():
            while self.is_paused and not self.steps_allowed:
                attend(LOOK_SECONDS)
            self.steps_allowed = max(self.steps_allowed - 1, 0)
            self.wait_until(self._due, attend)
            if self.speed:
                # What was missed is not made up for, or else a long update would be followed by a
                # rush.
                now = time.perf_counter()
                self._due = max(self._due, now) + 1 / (self.fps * self.speed)

    def wait_until(self, moment: float, attend: Attend) -> None:
        """Wait until a moment on the clock of ``time.perf_counter``."""
        while (left := moment - time.perf_counter()) > 0:
            attend(min(left, LOOK_SECONDS))
