"""The door: the port is open, and liveness answered, before the server is there."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from torpor.cli.coldstart import free_port
from torpor.cli.door import Door, open_door

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PATIENCE = 10.0


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A door sets what SIGTERM does; it is set back."""
    import signal

    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def opened(port: int) -> Door:
    door = open_door(["a:b", "--port", str(port)], {})
    assert door is not None
    return door


def left(door: Door) -> tuple[socket.socket, list[socket.socket]]:
    listener, early = door.leave()
    return socket.socket(fileno=listener), [socket.socket(fileno=number) for number in early]


def test_liveness_is_answered_at_the_door() -> None:
    """However often it is asked; no such connection is handed on."""
    port = free_port()
    door = opened(port)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET /-/live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(65_536).endswith(b'{"live": true}')
    listener, early = left(door)
    assert early == []
    listener.close()


def test_others_are_held_with_their_requests_unread() -> None:
    """So is one that has sent nothing yet; the listener goes on listening."""
    port = free_port()
    door = opened(port)
    asking = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    asking.sendall(b"POST / HTTP/1.1\r\n")
    silent = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as last:  # the door has seen the others
        last.sendall(b"GET /-/live HTTP/1.1\r\n\r\n")
        last.recv(65_536)
    listener, early = left(door)
    try:
        assert len(early) == 2
        readable = [client for client in early if _has_come(client)]
        assert [client.recv(65_536) for client in readable] == [b"POST / HTTP/1.1\r\n"]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            pass
    finally:
        for one in (listener, asking, silent, *early):
            one.close()


def _has_come(client: socket.socket) -> bool:
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_one_who_has_gone_harms_nobody() -> None:
    """A connection that is reset before the door looks at it is dropped or handed on, and the next is answered."""
    port = free_port()
    door = opened(port)
    for _ in range(20):
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close with a reset
        client.sendall(b"GET /-/live HTTP/1.1\r\n\r\n")
        client.close()
    test = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    test.sendall(b"GET /-/live HTTP/1.1\r\n\r\n")
    assert test.recv(65_536).endswith(b"}")
    listener, early = left(door)
    for one in (test, listener, *early):
        one.close()


@pytest.mark.parametrize(
    ("argv", "environ"),
    [
        (["a:b", "--port={port}"], {}),
        (["a:b", "--port", "{port}", "--host", "127.0.0.1"], {"PORT": "1"}),
        (["a:b"], {"TORPOR_HTTP_PORT": "{port}", "PORT": "1"}),
        (["a:b"], {"PORT": "{port}"}),
    ],
)
def test_the_port_is_read_by_hand(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """The command line goes before Torpor's own variable, and that before the platform's."""
    port = free_port()
    words = [word.format(port=port) for word in argv]
    door = open_door(words, {name: value.format(port=port) for name, value in environ.items()})
    assert door is not None
    listener, _ = left(door)
    assert listener.getsockname() == ("127.0.0.1", port)
    listener.close()


@pytest.mark.parametrize(
    "argv", [["--host", "localhost"], ["--host", "::1"], ["--port", "many"], ["--port", "99999"], ["--host", "9.9.9.9"]]
)
def test_what_is_not_plain_is_left_to_the_server(argv: Sequence[str]) -> None:
    """It knows names and other families, and tells mistakes."""
    assert open_door(["a:b", *argv], {"PORT": str(free_port())}) is None


def test_a_port_that_is_taken_is_left_to_the_server() -> None:
    """Which then tells that it is."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert open_door(["a:b", "--port", str(other.getsockname()[1])], {}) is None
