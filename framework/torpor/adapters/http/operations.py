"""What is under `/-/`: what the platform, Prometheus and people ask of a running deployment."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from torpor.adapters.http.answer import JSON, Answer, as_json, problem
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.runtime.host import Host

HELD_SECONDS = 0.5
_ROOT = "/-/"


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
        self._answers = {
            answer.__name__: answer for answer in (self.live, self.ready, self.metrics, self.topology, self.asyncapi)
        }

    async def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:  # an Answerer
        """Answers a request for one of the pages."""
        page = self._answers.get(path.removeprefix(_ROOT))
        if page is None:
            return problem(404, "Not Found")
        if method not in {"GET", "HEAD"}:
            return problem(405, "Method Not Allowed", [("allow", "GET, HEAD")])
        return await page()

    async def live(self) -> Answer:
        """Says that the process's loop turns, and nothing more: a broken database is no reason for a restart."""
        return as_json({"live": True})

    async def ready(self) -> Answer:
        """Says whether every service works, and which part does not."""
        for host in self._hosts:  # a probe that comes early is held, and need not come again
            if not host.health.known.is_set():
                await host.clock.wait(host.health.known, HELD_SECONDS)
        is_ready = all(host.is_ready for host in self._hosts)
        services = {host.name: host.status() for host in self._hosts}
        return as_json({"ready": is_ready, "services": services}, 200 if is_ready else 503)

    async def metrics(self) -> Answer:
        """The numbers, in Prometheus's format."""
        return Answer(200, *self._metrics())

    async def topology(self) -> Answer:
        """Who publishes and who listens to what."""
        return as_json(self._topology())

    async def asyncapi(self) -> Answer:
        """The AsyncAPI document, made on the first request: in a thread, as its maker takes long to import."""
        if self._document is None:
            try:
                document = await asyncio.to_thread(self._asyncapi)
            except ConfigurationError as error:
                return problem(501, str(error))
            self._document = as_json(document).body
        return Answer(200, self._document, JSON)
