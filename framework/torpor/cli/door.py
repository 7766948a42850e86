"""The door of a service that is still loading: it listens before anything else is imported.

Whoever comes before the server finds the port open and waits for it; only liveness is answered here.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the part of `signal` in C
import _socket
import _thread
import os
import select

TYPE_CHECKING = False  # `typing` comes later
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

_BACKLOG = 2048
_MOST_HELD = 512  # more wait where the system keeps them
_LIVE = b"GET /-/live"
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\nconnection: close\r\n\r\n"
    b'{"live": true}'
)


class Door:
    """Accepts on a socket that listens, in a thread, until the server takes over."""

    __slots__ = ("_held", "_left", "_listener", "_poll", "_undecided", "_wake")

    def __init__(self, listener: _socket.socket) -> None:
        self._listener = listener
        self._undecided: dict[int, _socket.socket] = {}  # they have sent nothing yet
        self._held: list[_socket.socket] = []
        self._poll = select.poll()
        self._wake = os.pipe()
        self._left = _thread.allocate_lock()

    def open(self) -> None:
        """Begins to accept."""
        self._left.acquire()
        self._poll.register(self._listener.fileno(), select.POLLIN)
        self._poll.register(self._wake[0], select.POLLIN)
        _thread.start_new_thread(self._keep, ())

    def leave(self) -> tuple[int, list[int]]:
        """Accepts no more; returns the descriptors of the listener and of those who wait, whose requests are unread."""
        os.write(self._wake[1], b".")
        self._left.acquire()
        for end in self._wake:
            os.close(end)
        return self._listener.detach(), [client.detach() for client in (*self._held, *self._undecided.values())]

    def _keep(self) -> None:
        try:
            while True:
                for number, _ in self._poll.poll():
                    if number == self._wake[0]:
                        return
                    if number == self._listener.fileno():
                        self._admit()
                    else:
                        self._look(number)
        finally:
            self._left.release()

    def _admit(self) -> None:
        try:
            number, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # what socket.accept calls
        except OSError:
            return  # who came is gone already
        client = _socket.socket(fileno=number)
        client.settimeout(0)
        self._undecided[number] = client
        self._poll.register(number, select.POLLIN)
        if len(self._undecided) + len(self._held) >= _MOST_HELD:
            self._poll.unregister(self._listener.fileno())

    def _look(self, number: int) -> None:
        """Answers a question for liveness; holds every other, without reading it."""
        self._poll.unregister(number)
        client = self._undecided.pop(number)
        try:
            if client.recv(len(_LIVE), _socket.MSG_PEEK) != _LIVE:
                self._held.append(client)
                return
            client.recv(65_536)
            client.send(_ANSWER)
        except OSError:
            pass  # who asked is gone
        client.close()


def open_door(argv: Sequence[str], environ: Mapping[str, str]) -> Door | None:
    """Listens on the address of the arguments or the environment, if that can be told from them without more; None
    leaves it, and every mistake, to the server."""
    host = _word("--host", argv) or environ.get("TORPOR_HTTP_HOST") or "127.0.0.1"
    port = _word("--port", argv) or environ.get("TORPOR_HTTP_PORT") or environ.get("PORT") or "8000"
    if not (set(host) <= set("0123456789.") and port.isdecimal()):
        return None
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    try:
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
        listener.settimeout(0)
        door = Door(listener)
    except (OSError, OverflowError):
        listener.close()
        return None
    _signal.signal(_signal.SIGTERM, _go)  # the first process of a container would not hear it otherwise
    door.open()
    return door


def _word(option: str, argv: Sequence[str]) -> str | None:
    """What an option is given, in the words `--option value` or `--option=value`."""
    for word, following in zip(argv, (*argv[1:], ""), strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _go(number: int, _: object) -> NoReturn:
    os._exit(128 + number)
