"""What is said while code is compiled, which takes seconds and would look like a hang."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

from numba.core import event

__all__ = ["CompilationListener", "announced", "telling_of_compilation"]

CompilationListener: TypeAlias = Callable[[bool], object]
"""Called with True when compiling begins, and with False when it is over."""


def _print(is_compiling: bool) -> None:
    if is_compiling:
        print(
            "Compiling the learner for this machine, which takes about ten seconds, once...",
            file=sys.stderr,
            flush=True,
        )


_listener: CompilationListener = _print


@contextmanager
def telling_of_compilation(listener: CompilationListener) -> Iterator[None]:
    """
    Tell somebody else than the terminal when code is compiled.

    :param listener: Whom to tell. An error that it raises ends the work that needs the code.
    """
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


@contextmanager
def announced() -> Iterator[None]:
    """
    Say so if code is compiled meanwhile. What is loaded from disk takes no time worth a word.

    :raises KeyboardInterrupt: On Ctrl-C, within a second or two.
    """
    watch = _Watch()
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    catches = is_default and threading.current_thread() is threading.main_thread()
    with event.install_listener("numba:compile", watch):
        if catches:
            signal.signal(signal.SIGINT, watch.interrupt)
        try:
            yield
        finally:
            if catches:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if watch.has_begun:
                _listener(False)
    watch.raise_if_interrupted()


class _Watch(event.Listener):
    """Tells of the first of the functions that are compiled, and ends it all on Ctrl-C."""

    has_begun = is_interrupted = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # Where Python discards the exception, as in a finaliser of LLVM's objects, the next
        # function that is compiled raises it again.
        self.is_interrupted = True
        raise KeyboardInterrupt

    def raise_if_interrupted(self) -> None:
        if self.is_interrupted:
            raise KeyboardInterrupt

    def on_start(self, event: event.Event) -> None:
        self.raise_if_interrupted()
        if not self.has_begun:
            self.has_begun = True
            _listener(True)

    def on_end(self, event: event.Event) -> None:
        self.raise_if_interrupted()
