"""The runs of one benchmark: each way gets a database of its own while it runs, and a number of messages."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import faststream_ways
from benchmarks.work import Place, run_async

if TYPE_CHECKING:
    from benchmarks.scale import Scale
    from benchmarks.servers import Servers
    from benchmarks.work import Ready, Way

_LONGEST = 30.0  # seconds for one run of one way


class Runs:
    """What makes ways ready to run, again and again."""

    def __init__(self, servers: Servers, scale: Scale) -> None:
        self._servers = servers
        self._scale = scale

    def way(self, full: int, way: Way) -> Ready:
        """A way on so many messages."""
        return partial(self._run, self._scale.of(full), way)

    def best(self, outbox: str, full: int) -> int:
        """The concurrency at which a peer is fastest. Raises Unavailable when it is not there."""
        choices = faststream_ways.AT_ONCE if self._scale.share >= 1 else faststream_ways.AT_ONCE[2:3]
        rates = {}
        for at_once in choices:
            way = partial(faststream_ways.effects, outbox=outbox, at_once=at_once)
            rates[at_once] = run_async(self._run(self._scale.of(full), way))
        best = max(rates, key=lambda at_once: rates[at_once])
        note(f"{outbox}: {best} at once is the best of { ({number: round(rate) for number, rate in rates.items()}) }")
        return best

    async def _run(self, count: int, way: Way) -> float:
        postgres = self._servers.postgres
        dsn = await postgres.make_database()
        try:
            async with asyncio.timeout(_LONGEST):
                return await way(Place(self._servers.nats.url, dsn, count))
        finally:
            await postgres.drop_database(dsn)


def note(line: str) -> None:
    """Tells how it goes on, beside the results."""
    print(line, file=sys.stderr, flush=True)
