import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


class Child:
    """
    A process that :mod:`tests.faults.children` has forked.

    :param process: The process that forks.
    :param scenario: What the child does.
    :param folder: Where it does so.
    """

    def __init__(self, process: "subprocess.Popen[str]", scenario: str, folder: Path) -> None:
        assert process.stdin is not None
        self.process = process
        process.stdin.write(f"{scenario} {folder}\n")
        process.stdin.flush()
        word, pid = self.answer().split()
        assert word == "ready"
        self.pid = int(pid)

    def answer(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def send(self, number: int) -> None:
        """Send a signal to the child alone."""
        os.kill(self.pid, number)

    def send_to_all(self, number: int) -> None:
        """Send a signal to the child and its children, as a terminal does."""
        os.killpg(self.pid, number)


def _default_signals() -> None:
    # A shell that runs this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.fixture(scope="session")
def begin() -> Iterator[Callable[[str, Path], Child]]:
    """Begin a scenario of :mod:`tests.faults.children` in a process of its own."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.children"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=_default_signals,
    )
    yield lambda scenario, folder: Child(process, scenario, folder)
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
