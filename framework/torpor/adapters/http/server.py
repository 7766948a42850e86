"""Serving the application: uvicorn, inside a loop that already runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn

from torpor.adapters.http.edge import TOLD
from torpor.adapters.http.listening import BACKLOG, listening, port_of
from torpor.kernel.errors import NotRunning

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from torpor.adapters.http.sockets import SocketDoor

_KEEP_ALIVE_SECONDS = 65  # longer than the minute that load balancers keep an idle connection


class HttpServer:
    """Serves an application on one address, from `start` to the end of `stop`.

    It installs no signal handler and starts no service: whoever runs it does. Port 0 takes a free one, which `port`
    tells; a `listener` that already listens is served in place of the address.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 8000,
        *,
        listener: socket.socket | None = None,
        sockets: SocketDoor | None = None,
    ) -> None:
        self._app = app
        self._sockets = sockets
        self._address = (host, port)
        self._listener = listener
        self._port = None if listener is None else port_of(listener)
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port is None:
            raise NotRunning("The HTTP server has no port before it has started. Await start() first.")
        return self._port

    async def start(self, early: Sequence[socket.socket] = ()) -> None:
        """Listens and serves, and those who have come early. Raises ConfigurationError for an address that cannot be
        had."""
        if self._listener is None:
            self._listener = listening(*self._address)
            self._port = port_of(self._listener)
        config = uvicorn.Config(
            _told_once(self._app),
            interface="asgi3",
            http="httptools",
            ws="none" if self._sockets is None else _protocol(self._sockets),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            workers=1,
            backlog=BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
        config.load()
        server = uvicorn.Server(config)
        # The parts of Server.serve, which would take the process's signals.
        server.lifespan = config.lifespan_class(config)
        await server.startup([self._listener])
        loop = asyncio.get_running_loop()
        protocol: Any = config.http_protocol_class
        connection = partial(protocol, config=config, server_state=server.server_state, app_state={})
        for client in early:
            await loop.connect_accepted_socket(connection, client)
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


def _protocol(door: SocketDoor) -> Any:
    """What uvicorn makes of a connection that asks to be a WebSocket."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    from torpor.adapters.http.upgrade import SocketProtocol

    async def nothing(scope: Scope, receive: Receive, send: Send) -> None: ...

    def protocol(config: uvicorn.Config, **_: Any) -> SocketProtocol:
        return SocketProtocol(door, ProxyHeadersMiddleware(nothing, config.forwarded_allow_ips))  # type: ignore[arg-type]

    return protocol


def _told_once(app: ASGIApp) -> ASGIApp:
    """The application, without the failures that it has told and answered: uvicorn would tell them again."""

    async def told_once(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception:
            if TOLD not in scope:
                raise

    return told_once
