"""Who may see the page and use its controls."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from dqn_plugins.wrappers import LivePage, LiveView
from dqn_plugins.wrappers.live.link import Link
from dqn_plugins.wrappers.live.live_page import PageAddress
from tests.wrappers.live.helpers import Client, Counting, Steps, port_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def page() -> Iterator[LivePage]:
    page = LivePage(port=0, quiet=True)
    yield page
    page.close()


@pytest.fixture(scope="module")
def open_page() -> Iterator[LivePage]:
    """On all addresses, so that it asks for its token."""
    page = LivePage("0.0.0.0", port=0, quiet=True)
    yield page
    page.close()


def token_of(page: LivePage) -> str:
    return page.url.partition("?token=")[2]


def get(port: int, path: str = "/", **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    content = response.read().decode()
    connection.close()
    return response.status, content, dict(response.headers)


def test_only_this_machine_reaches_it(page: LivePage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in own - {"127.0.0.1"}:
        with socket.socket() as probe:
            assert probe.connect_ex((address, port_of(page.url))) != 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
def test_this_machine_s_names_are_let_in(page: LivePage, host: str) -> None:
    port = port_of(page.url)
    status, content, headers = get(port, Host=f"{host}:{port}")
    assert status == 200
    assert "<title>Training, live</title>" in content
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "[", ""]
)
def test_other_hosts_are_refused(page: LivePage, host: str) -> None:
    """A name that its owner points at this machine (DNS rebinding)."""
    for path in ("/", "/live.js", "/nothing"):
        status, content, _ = get(port_of(page.url), path, Host=host)
        assert status == 403
        assert content.startswith("Host: received") or host in {"[", ""}


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", ""])
def test_other_origins_are_refused(page: LivePage, origin: str) -> None:
    port = port_of(page.url)
    status, content, _ = get(port, Origin=origin)
    assert status == 403
    assert content.startswith("Origin: received")
    with pytest.raises(InvalidStatus, match="403"), Client(page.url, origin=origin or "x"):
        pass


def test_another_port_of_this_machine_is_another_site(page: LivePage) -> None:
    with pytest.raises(InvalidStatus, match="403"), Client(page.url, "http://127.0.0.1:1"):
        pass


def test_a_socket_without_an_origin_is_refused(page: LivePage) -> None:
    port = port_of(page.url)
    status, _, _ = get(
        port,
        "/socket",
        Upgrade="websocket",
        Connection="Upgrade",
        **{"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
    )
    assert status == 403


def test_other_machines_need_the_token(open_page: LivePage) -> None:
    port, token = port_of(open_page.url), token_of(open_page)
    assert len(token) >= 32
    for path in ("/", "/?token=", f"/?token={token[:-1]}", "/?token=%C3%A9", "/nothing"):
        status, content, _ = get(port, path)
        assert status == 403
        assert content.startswith("token: received none or a wrong one.")
        assert token not in content
    assert get(port, f"/?token={token}")[0] == 200
    assert get(port, f"/nothing?token={token}")[0] == 404
    assert get(port, "/live.js")[0] == 200
    url = f"http://127.0.0.1:{port}/"
    with pytest.raises(InvalidStatus, match="403"), Client(url):
        pass
    with pytest.raises(InvalidStatus, match="403"), Client(f"{url}?token=wrong"):
        pass
    env = LiveView(Counting(), page=open_page)
    with Client(f"{url}?token={token}") as client, Steps(env):
        client.until(lambda: client.pictures)


def test_names_that_are_not_this_machine_s_are_refused_with_the_token_too(
    open_page: LivePage,
) -> None:
    port, token = port_of(open_page.url), token_of(open_page)
    assert get(port, f"/?token={token}", Host=f"evil.example:{port}")[0] == 403
    for host in ("192.0.2.7", "[2001:db8::7]", socket.gethostname()):
        assert get(port, f"/?token={token}", Host=f"{host}:{port}")[0] == 200


def test_a_training_without_the_secret_is_refused(page: LivePage) -> None:
    wrong = PageAddress(page.url, page.address.feed_port, "guessed")
    with pytest.raises(OSError, match="refused"):
        Link(wrong, {"name": "intruder"})
    with socket.create_connection(("127.0.0.1", page.address.feed_port), 30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1) == b""


def test_no_file_but_the_page_s_is_served(page: LivePage) -> None:
    for path in ("/uplot.LICENSE", "/../link.py", "/%2e%2e/link.py", "/server/main.py"):
        assert get(port_of(page.url), path)[0] == 404


def test_no_pickle_crosses_the_wire() -> None:
    for file in (ROOT / "wrappers" / "live").rglob("*.py"):
        assert not re.search(r"\b(pickle|cloudpickle|marshal|shelve)\b", file.read_text()), file
