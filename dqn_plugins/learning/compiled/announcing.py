"""What is said while code is compiled, which takes seconds and would look like a hang."""

import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from numba.core import event

from dqn_plugins.learning.compiled.compilation import not_kept

__all__ = ["CompilationObserver", "announced", "compilation_observers"]


class CompilationObserver(Protocol):
    """Who wants to know of compilation."""

    def on_compilation(self, is_compiling: bool) -> None:
        """Take note that it begins, or that it is over."""


compilation_observers: weakref.WeakSet[CompilationObserver] = weakref.WeakSet()
"""Who is told when code is compiled, besides whoever reads standard error."""


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
                watch.tell(False)
    watch.raise_if_interrupted()


class _Watch(event.Listener):
    """Tells of the first of the functions that are compiled, and ends it all on Ctrl-C."""

    has_begun = is_interrupted = False

    def interrupt(self, _number: int, _frame: FrameType | None) -> None:
        # Raised here, it might be discarded, with a traceback, in a callback from LLVM. The next
        # function that is compiled raises it.
        self.is_interrupted = True

    def tell(self, is_compiling: bool) -> None:
        for observer in list(compilation_observers):
            observer.on_compilation(is_compiling)

    def raise_if_interrupted(self) -> None:
        if self.is_interrupted:
            raise KeyboardInterrupt

    def on_start(self, event: event.Event) -> None:
        self.raise_if_interrupted()
        if not self.has_begun:
            self.has_begun = True
            words = "Compiling the learner for this machine, which takes about ten seconds, once..."
            if not_kept:
                words = (
                    "Compiling the learner, which takes about ten seconds, as the next process "
                    "will: set NUMBA_CACHE_DIR to a folder that can be written to keep it there."
                )
            print(words, file=sys.stderr, flush=True)
            self.tell(True)

    def on_end(self, event: event.Event) -> None:
        self.raise_if_interrupted()
