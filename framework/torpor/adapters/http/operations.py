"""The routes under `/-/`: what the platform, Prometheus and people ask of a running deployment."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from torpor.runtime.host import Host


class Operations:
    """Answers for the health, the numbers and the shape of the services."""

    def __init__(
        self,
        hosts: Sequence[Host],
        *,
        asyncapi: Callable[[], dict[str, Any]],
        metrics: Callable[[], tuple[bytes, str]],
        topology: Callable[[], dict[str, Any]],
    ) -> None:
        self._hosts = hosts
        self._asyncapi = asyncapi
        self._metrics = metrics
        self._topology = topology
        self._document: bytes | None = None

    def router(self) -> Router:
        """The routes, to be mounted."""
        answers = (self.live, self.ready, self.metrics, self.topology, self.asyncapi)
        return Router([Route(f"/{answer.__name__}", answer) for answer in answers])

    async def live(self, _: Request) -> Response:
        """Says that the process's loop turns, and nothing more: a broken database is no reason for a restart."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Says whether every service works, and which part does not."""
        is_ready = all(host.is_ready for host in self._hosts)
        services = {host.name: host.status() for host in self._hosts}
        return JSONResponse({"ready": is_ready, "services": services}, 200 if is_ready else 503)

    async def metrics(self, _: Request) -> Response:
        """The numbers, in Prometheus's format."""
        body, content_type = self._metrics()
        return Response(body, headers={"content-type": content_type})

    async def topology(self, _: Request) -> Response:
        """Who publishes and who listens to what."""
        return JSONResponse(self._topology())

    async def asyncapi(self, _: Request) -> Response:
        """The AsyncAPI document, made on the first request: in a thread, as its maker takes long to import."""
        if self._document is None:
            try:
                document = await asyncio.to_thread(self._asyncapi)
            except ConfigurationError as error:
                return JSONResponse({"detail": str(error)}, 501)
            self._document = json.dumps(document, ensure_ascii=False).encode()
        return Response(self._document, media_type="application/json")
