"""Serving the application: uvicorn, inside a loop that already runs."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import uvicorn

from torpor.adapters.http.edge import TOLD
from torpor.kernel.errors import ConfigurationError, NotRunning

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_BACKLOG = 2048
_KEEP_ALIVE_SECONDS = 65  # longer than the minute that load balancers keep an idle connection


class HttpServer:
    """Serves an application on one address, from `start` to the end of `stop`.

    It installs no signal handler and starts no service: whoever runs it does. Port 0 takes a free one, which `port`
    tells; a `listener` that already listens is served in place of the address.
    """

    def __init__(
        self, app: ASGIApp, host: str = "127.0.0.1", port: int = 8000, *, listener: socket.socket | None = None
    ) -> None:
        self._app = app
        self._address = (host, port)
        self._listener = listener
        self._port = None if listener is None else _port_of(listener)
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is None:
            raise NotRunning("The HTTP server has no port before it has started. Await start() first.")
        return self._port

    async def start(self) -> None:
        """Listens and serves. Raises ConfigurationError for an address that cannot be had."""
        if self._listener is None:
            self._listener = _listening(*self._address)
            self._port = _port_of(self._listener)
        config = uvicorn.Config(
            _told_once(self._app),
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            workers=1,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        server = uvicorn.Server(config)
        # The parts of Server.serve, which would take the process's signals.
        server.lifespan = config.lifespan_class(config)
        await server.startup([self._listener])
        self._server = server
        self._ticking = asyncio.create_task(server.main_loop(), name="http")

    async def stop(self, seconds: float = 25.0) -> None:
        """Takes no new connection, waits so many seconds for the requests under way, then cancels them."""
        server, ticking, listener = self._server, self._ticking, self._listener
        if server is None or ticking is None or listener is None:
            return
        self._server = self._ticking = None
        ticking.cancel()
        server.config.timeout_graceful_shutdown = seconds  # type: ignore[assignment]  # wait_for takes a float
        await server.shutdown([listener])
        await asyncio.gather(ticking, *server.server_state.tasks, return_exceptions=True)


def _told_once(app: ASGIApp) -> ASGIApp:
    """The application, without the failures that it has told and answered: uvicorn would tell them again."""

    async def told_once(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            if TOLD not in scope:
                raise

    return told_once


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # localhost is 127.0.0.1
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError([_refused(host, port, error)]) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError([_refused(host, port, error)]) from error
    listener.settimeout(0)  # the loop waits, the socket does not
    return listener


def _port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _refused(host: str, port: int, error: OSError | UnicodeError) -> str:
    other = "choose another with --port or TORPOR_HTTP_PORT"
    number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, "no host has such a name")
    if number == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Stop what listens there, or {other}."
    if number == errno.EACCES:
        return f"Port {port} on {host} is not this user's to take. Ports up to 1023 are root's: {other}."
    return (
        f"{host!r} is no address of this machine ({reason}). "
        "Set --host or TORPOR_HTTP_HOST, for example to 127.0.0.1, or to 0.0.0.0 for all."
    )
