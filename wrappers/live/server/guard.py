"""Who may see the page and use its controls."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# They hold nothing of a training.
PUBLIC = (".css", ".js")


class Guard:
    """
    Lets a request through if it is for this server (``Host``), does not come from another site
    (``Origin``), and, where other machines can reach the page, carries the token.

    A page of another site can make a browser send requests to this machine. It cannot choose their
    ``Origin``. A name that its owner points at this machine (DNS rebinding) gives ``Origin`` and
    ``Host`` alike, but not one that belongs to this machine.
    """

    def __init__(self, app: ASGIApp, host: str, token: str | None):
        self.app = app
        self.host = host
        self.token = token
        self.names = set(LOOPBACK_NAMES)
        if token is not None:
            name = socket.gethostname().lower()
            self.names |= {host.lower(), name, f"{name}.local", socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        problem = self._problem(scope)
        if problem is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": problem})
        else:
            await PlainTextResponse(problem + "\n", 403)(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        request = HTTPConnection(scope)
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self._is_mine(host):
            return f"Host: received {host!r}, which is not this machine. Open the printed URL."
        if origin is None and scope["type"] == "websocket":
            return "Origin: received none. Only the page itself may connect."
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return f"Origin: received {origin!r}, which is another site. Open the printed URL."
        if self.token is not None and not scope["path"].endswith(PUBLIC):
            received = request.query_params.get("token", "").encode()
            if not secrets.compare_digest(received, self.token.encode()):
                return "token: received none or a wrong one. Open the whole printed URL."
        return None

    def _is_mine(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self.names or self.token is None:
            return name in self.names
        try:
            # A site's owner can give names to addresses, but an address names itself.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
