"""The page's server: a process of its own, which training starts and tells where it got to."""

from __future__ import annotations

import contextlib
import html
import json
import secrets
import subprocess
import sys
import threading
import weakref
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dqn_plugins.extras import require_extra
from dqn_plugins.wrappers.live.protocol import LOOPBACK

__all__ = ["LivePage", "PageAddress"]

FIRST_PORT = 8700
PATIENCE_SECONDS = 20.0

# -I keeps the user's folder and PYTHON* variables out; the path of this process comes by the pipe,
# so that the same packages are found.
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from dqn_plugins.wrappers.live.server.main import main; main()"
)


@dataclass(frozen=True)
class PageAddress:
    """Where a page is, and where trainings report to it. It can be handed to another process."""

    url: str
    feed_port: int
    secret: str


def _let_go(process: subprocess.Popen[str]) -> None:
    # The server ends by itself when no training is left and nobody looks at the page any more.
    # Until then it has no parent, on purpose: the curve stays after training.
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    process.returncode = process.poll() or 0  # or else Popen complains of a child still running


class LivePage:
    """
    A page on which one or several trainings are shown side by side.

    :class:`dqn_plugins.wrappers.LiveView` makes one by itself. Make one yourself to show several
    trainings on one page, in threads or processes: pass ``page=page`` or ``page=page.address``.

    The server is a process of its own and outlives the training: the curve stays on the page,
    whatever ended the training, until the last browser has left.

    :param host: Address to listen on. None for the loopback interface, which only this machine
        reaches. On any other the page asks for a token, which :attr:`url` carries.
    :param port: The first port to try, from 1; the next free one is taken. 0 lets the system
        choose.
    :param open_browser: Whether to open the page in a browser.
    :param quiet: Whether not to print the URL.
    :param expected: Trainings that will appear, each a name and an environment. The page shows them
        as starting until then, in this order, whichever comes first.
    :raises DependencyNotInstalled: If the extra ``live`` is not installed.
    :raises ValueError: If ``port`` is no port.
    :raises OSError: If ``host`` is no address of this machine, or no port is free.

    Example::

        import gymnasium as gym
        from dqn_plugins.wrappers import LivePage, LiveView

        page = LivePage()
        for seed in range(2):
            env = LiveView(gym.make("CartPole-v1", render_mode="rgb_array"), page=page)
            env.reset(seed=seed)
            env.step(0)
            env.close()
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = FIRST_PORT,
        *,
        open_browser: bool = False,
        quiet: bool = False,
        expected: Sequence[tuple[str, str]] = (),
    ):
        require_extra("live", "LiveView", "starlette", "uvicorn", "websockets")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ValueError(f"port: received {port!r}, it must be a port from 0 to 65535. Try 0.")
        token = None if host in {None, LOOPBACK, "localhost", "::1"} else secrets.token_urlsafe(24)
        secret = secrets.token_urlsafe(24)
        settings = {
            "host": host or LOOPBACK,
            "port": port,
            "token": token,
            "secret": secret,
            "expected": [list(each) for each in expected],
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C ends training, not the page
        )
        answer = self._ask(settings)
        if "error" in answer:
            self._process.wait(PATIENCE_SECONDS)
            raise OSError(
                f"host, port: received {settings['host']!r}, {port}, where no page can be served "
                f"({answer['error']}). Pass host=None for this machine only, or another port."
            )
        self.address = PageAddress(answer["url"], answer["feed_port"], secret)
        self._finalizer = weakref.finalize(self, _let_go, self._process)
        if port and answer["port"] != port and not quiet:
            print(f"Port {port} is taken, so the page is on {answer['port']}.")
        if not quiet:
            print(f"Watch at {self.url}", flush=True)
        if open_browser:
            webbrowser.open(self.url)

    def _ask(self, settings: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        # A server that hangs must not hang training: without an answer it is killed.
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(sys.path) + "\n" + json.dumps(settings) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
            process.stdout.close()
        if not line:
            process.kill()
            return {"error": f"the server ended with status {process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def url(self) -> str:
        """What to open in a browser. It carries the token, if there is one."""
        return self.address.url

    def close(self) -> None:
        """Let go of the page. It stays until its trainings are over and no browser shows it."""
        self._finalizer()

    def _repr_html_(self) -> str:
        return embedded(self.url)


def embedded(url: str) -> str:
    """Write the HTML that shows a page inside a notebook."""
    return (
        f'<iframe src="{html.escape(url)}" width="100%" height="760" '
        'style="border:0;border-radius:12px" title="Training, live"></iframe>'
    )
