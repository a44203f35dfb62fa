"""Ctrl-C and SIGTERM, held back until a transition has been learned from completely."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

__all__ = ["Interruption"]

Result = TypeVar("Result")


class Interruption:
    """
    Context that holds back SIGINT (Ctrl-C) and SIGTERM, and raises KeyboardInterrupt at its end.

    Without it, Python would raise KeyboardInterrupt between any two instructions, also when half of
    the weights have been changed. A second signal is not held back, since the first may be waiting
    for an environment that never answers.

    It does so only in the main thread, where Python handles signals, and only for signals that are
    handled in the default way: handlers of the user's own, and ignored signals, are left alone.
    """

    def __init__(self) -> None:
        self.requested = False
        """Whether a signal came, so that the work should end as soon as it can."""
        self._at_once = False
        self._replaced: dict[int, Any] = {}
        self._process_id = os.getpid()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number, default in (
                (signal.SIGINT, signal.default_int_handler),
                (signal.SIGTERM, signal.SIG_DFL),
            ):
                current = signal.getsignal(number)
                # A callback may itself call `learn`; the innermost is then the one to ask.
                if current == default or isinstance(
                    getattr(current, "__self__", None), Interruption
                ):
                    self._replaced[number] = current
                    signal.signal(number, self._hold_back)
        return self

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        for number, handler in self._replaced.items():
            signal.signal(number, handler)
        # Ctrl-C reaches the environments' processes too: what they then raise is its consequence.
        if self.requested and (error is None or isinstance(error, Exception)):
            raise KeyboardInterrupt("Learning was interrupted by a signal.") from error

    def at_once(self, work: Callable[[], Result]) -> Result:
        """Hold back nothing during work that may take long and can be interrupted anywhere."""
        self._at_once = True
        try:
            return work()
        finally:
            self._at_once = False

    def _hold_back(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process_id:
            # A process that the environment forked: the signal means that one, not this work.
            signal.signal(number, self._replaced[number])
            os.kill(os.getpid(), number)
            return
        interrupt_now = self._at_once or self.requested
        self.requested = True
        if interrupt_now:
            raise KeyboardInterrupt("Learning was interrupted by a signal.")
