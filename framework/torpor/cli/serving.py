"""Serving a deployment over HTTP, from listening to the end of the drain."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from torpor.adapters.http.lean import LeanServer
    from torpor.adapters.http.server import HttpServer
    from torpor.assembly import Deployment
    from torpor.cli.door import Door
    from torpor.runtime.settings import Settings

    Announce = Callable[[Deployment, int], None]

_CHECK_EVERY = 0.02
_LOADING = 5.0  # seconds after which a service that is not up yet is no longer taken for loading
_LAST_WORDS = 0.2  # seconds that each step of a drain has, even when the time is over


def serve(deployment: Deployment, settings: Settings, door: Door | None = None) -> None:
    """Serves until SIGTERM or SIGINT, then drains. A second signal ends the process at once. Whoever waits at a door
    is served first."""

    def announce(deployment: Deployment, port: int) -> None:
        names = ", ".join(plan.name for plan in deployment.plans)
        logging.getLogger("torpor").info("ready on %s, port %d: %s", settings.http_host, port, names)

    serving = _Serving(deployment, settings, door=door, announce=announce)
    _run(deployment, serving.run([signal.SIGTERM, signal.SIGINT]))


def serve_in_development(
    deployment: Deployment, settings: Settings, *, listener: socket.socket, announce: Announce
) -> bool:
    """Migrates, and serves on a given socket until SIGTERM; returns whether every service had been ready.

    `announce` is called once they are, with the port.
    """
    if has_routes(deployment):
        from torpor.adapters.http.app import open_to_developers

        open_to_developers(deployment.app)
    serving = _Serving(deployment, settings, listener=listener, announce=announce)
    _run(deployment, serving.run([signal.SIGTERM], is_migrating=True))
    return serving.was_ready


class _Serving:
    def __init__(
        self,
        deployment: Deployment,
        settings: Settings,
        *,
        listener: socket.socket | None = None,
        door: Door | None = None,
        announce: Announce | None = None,
    ) -> None:
        self.deployment = deployment
        self.settings = settings
        self.listener = listener
        self.door = door
        self.announce = announce
        self.was_ready = False
        self.stopping = asyncio.Event()

    async def run(self, signals: Sequence[signal.Signals], *, is_migrating: bool = False) -> None:
        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, self._stop, number)
        if is_migrating:
            await self.deployment.migrate()
        early = self._early()
        server = server_of(self.deployment, self.settings, self.listener)
        await server.start(early)
        try:
            await self.deployment.start()
            await self._until_stopped(server)
        finally:
            await self._drain(server)

    def _early(self) -> list[socket.socket]:
        """Those who came before the server."""
        if self.door is None:
            return []
        import socket

        listener, early = self.door.leave()
        self.listener = socket.socket(fileno=listener)
        return [socket.socket(fileno=number) for number in early]

    async def _until_stopped(self, server: HttpServer | LeanServer) -> None:
        watching = asyncio.create_task(self._watch(server))
        await self.stopping.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, server: HttpServer | LeanServer) -> None:
        for host in self.deployment.hosts:
            await host.clock.wait(host.health.known, _LOADING)
        gc.freeze()  # what is loaded stays, and need not be looked through
        gc.enable()
        while not all(host.is_ready for host in self.deployment.hosts):  # noqa: ASYNC110  # it may go and come
            await asyncio.sleep(_CHECK_EVERY)
        self.was_ready = True
        if self.announce is not None:
            self.announce(self.deployment, server.port)

    async def _drain(self, server: HttpServer | LeanServer) -> None:
        """Takes no message more, and readiness says so; requests under way are answered; then the services drain."""
        time = asyncio.get_running_loop().time
        deadline = time() + self.settings.drain_seconds
        await self.deployment.retire()
        while self._requests() and time() < deadline:  # noqa: ASYNC110  # a count tells no event; probes are answered
            await asyncio.sleep(_CHECK_EVERY)
        await server.stop(max(_LAST_WORDS, deadline - time()))
        await self.deployment.stop(max(_LAST_WORDS, deadline - time()))

    def _requests(self) -> int:
        """How many requests are under way."""
        hosts = self.deployment.hosts
        return sum(host.metrics.of(route.handled.name).in_flight for host in hosts for route in host.plan.routes)

    def _stop(self, number: int) -> None:
        if self.stopping.is_set():
            os._exit(128 + number)
        self.stopping.set()


def server_of(
    deployment: Deployment, settings: Settings, listener: socket.socket | None = None
) -> HttpServer | LeanServer:
    """FastAPI's server for those who have routes; the others need far less. It is not started."""
    address = settings.http_host, settings.http_port
    if has_routes(deployment):
        from torpor.adapters.http.server import HttpServer

        return HttpServer(deployment.app, *address, listener=listener, sockets=deployment.sockets)
    from torpor.adapters.http.lean import LeanServer
    from torpor.assembly import answerers_of

    answer, take = answerers_of(deployment)
    return LeanServer(answer, *address, body_limit=settings.body_limit, listener=listener, take=take)


def has_routes(deployment: Deployment) -> bool:
    """Whether anything but events and the platform's questions is answered."""
    return any(plan.routes or plan.sockets for plan in deployment.plans)


def _run(deployment: Deployment, main: Coroutine[Any, Any, None]) -> None:
    """Runs; with routes on uvloop, where it is installed."""
    factory = None
    if has_routes(deployment):
        from uvicorn.loops.auto import auto_loop_factory

        factory = auto_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
