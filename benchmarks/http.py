"""A GET and a POST route of Torpor's beside bare FastAPI's, on the same server: the processor's time for each request.

Torpor's has a limit for each client, numbers, problems and a trace id; the peer is FastAPI and nothing else. Each
server is a process of its own, which is asked in turn; the time is what the kernel says that its threads ran. The
turns are short, and each is compared with the one beside it: both had the same machine then.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from benchmarks.servers import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.scale import Scale

REQUESTS = 320
ROUNDS = 41
CONNECTIONS = 8
LEAST = 0.9
WAYS = ("FastAPI", "Torpor")
_TRACE = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
_BODY = '{"sku":"tea","quantity":3,"note":"with care"}'
ASKED = {
    "GET": f"GET /orders/17?limit=5 HTTP/1.1\r\nhost: x\r\n{_TRACE}\r\n".encode(),
    "POST": (
        f"POST /orders HTTP/1.1\r\nhost: x\r\n{_TRACE}content-type: application/json\r\n"
        f"content-length: {len(_BODY)}\r\n\r\n{_BODY}"
    ).encode(),
}


class NewOrder(BaseModel):
    """What is posted."""

    sku: str
    quantity: int
    note: str | None = None


class Order(BaseModel):
    """What is answered."""

    id: int
    sku: str
    quantity: int
    limit: int = 10


async def show(order_id: int, limit: int = 10) -> Order:
    """The handler of the GET route, of both."""
    return Order(id=order_id, sku="tea", quantity=3, limit=limit)


async def place(order: NewOrder) -> Order:
    """The handler of the POST route, of both."""
    return Order(id=1, sku=order.sku, quantity=order.quantity)


def bare() -> Any:
    """FastAPI as it is."""
    from fastapi import FastAPI

    app = FastAPI()
    app.get("/orders/{order_id}")(show)
    app.post("/orders", status_code=201)(place)
    return app


async def ours() -> Any:
    """Torpor's application, its service running on memory."""
    from torpor import Limit, Service
    from torpor.assembly import assemble
    from torpor.runtime.settings import Settings

    orders = Service("orders", rules=[Limit(1_000_000)])
    orders.get("/orders/{order_id}")(show)
    orders.post("/orders", status_code=201)(place)
    deployment = assemble([orders], Settings.read({"TORPOR_BROKER_URL": "memory://"}))
    await deployment.start()
    return deployment.app


async def serve(way: str) -> None:
    """Serves one way on a port that it prints, until its input ends."""
    from torpor.adapters.http.server import HttpServer

    server = HttpServer(bare() if way == "FastAPI" else await ours(), port=0)
    await server.start()
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(1)


class Served:
    """One way, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port
        self._streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @classmethod
    async def started(cls, way: str) -> Served:
        """Starts the process, and connects."""
        command = (sys.executable, "-m", "benchmarks.http", way)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        if process.stdout is None:
            raise Unavailable("the server's output cannot be read")
        served = cls(process, int(await process.stdout.readline()))
        for _ in range(CONNECTIONS):
            served._streams.append(await asyncio.open_connection("127.0.0.1", served._port))
        return served

    async def stop(self) -> None:
        """Ends the process."""
        for _, writer in self._streams:
            writer.close()
        await self._process.communicate(b"")  # and closes its input

    async def microseconds(self, asked: bytes, count: int) -> float:
        """The processor's time for each of so many requests."""
        before = self._ran()
        await asyncio.gather(*(self._ask(stream, asked, count // CONNECTIONS) for stream in self._streams))
        return (self._ran() - before) / 1000 / (count // CONNECTIONS * CONNECTIONS)

    async def _ask(self, stream: Any, asked: bytes, count: int) -> None:
        reader, writer = stream
        for _ in range(count):
            writer.write(asked)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 20"):
                raise RuntimeError(f"The server answered {head!r}.")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))

    def _ran(self) -> int:
        """Nanoseconds that the threads of the process have run."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks)


async def measured(scale: Scale) -> dict[tuple[str, str], list[float]]:
    """Rounds that are interleaved, by method and way."""
    rounds, count = max(1, ROUNDS * scale.rounds // FULL.rounds), scale.of(REQUESTS, CONNECTIONS * 5)
    samples: dict[tuple[str, str], list[float]] = {(method, way): [] for method in ASKED for way in WAYS}
    async for servers in _running():
        for method, way in samples:
            await servers[way].microseconds(ASKED[method], count)  # warms up
        for number in range(rounds):
            for method, asked in ASKED.items():
                for way in WAYS if number % 2 else reversed(WAYS):
                    samples[method, way].append(await servers[way].microseconds(asked, count))
    return samples


async def _running() -> AsyncIterator[dict[str, Served]]:
    servers = {way: await Served.started(way) for way in WAYS}
    try:
        yield servers
    finally:
        for server in servers.values():
            await server.stop()


def run(scale: Scale = FULL) -> Report:
    """Measures both ways of both routes."""
    if not Path("/proc/self/schedstat").exists():
        raise Unavailable("the kernel does not tell how long a process ran")
    import uvloop

    taken = uvloop.run(measured(scale))
    rows, bars = [], []
    for method in ASKED:
        peers, owns = (taken[method, way] for way in WAYS)
        ratio = median(peer / own for peer, own in zip(peers, owns, strict=True))
        more = median(own - peer for peer, own in zip(peers, owns, strict=True))
        rows.append((method, f"{median(peers):.0f}", f"{median(owns):.0f}", f"{more:+.1f}", f"{ratio:.2f}"))
        bars.append(Bar(f"{method}: bare FastAPI's CPU for a request ÷ ours", ratio, least=LEAST))
    columns = ("CPU µs for a request", "FastAPI", "Torpor", "more", "FastAPI ÷ Torpor")
    return Report(table(columns, rows), bars)


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(sys.argv[1]))
