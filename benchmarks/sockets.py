"""WebSockets: the memory of ten thousand connections, and a broadcast to all of them while some read nothing.

The server is a process of its own on uvloop; the clients are another. Memory is what the server's resident set has
grown by, after a first hundred connections and a collection, over the connections. FastAPI's own route is given a fifth
of them. Every hundredth client reads nothing, and what the system keeps for it is full, so that the broadcast waits in
the server. A broadcast's time is from its request until the last of the others has it; a plain loop writes the same
frame to the same transports, and is asked for in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import uvloop

from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from benchmarks.socket_ways import LINE
from torpor.kernel.frames import TEXT, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.scale import Scale

CONNECTIONS = 10_000
SLOW = 5
STALLED = 100  # every so many-th
WARM = 100
SPARE = 300  # files that are open for other things
AT_ONCE = 100
ROUNDS = 5
PATIENCE = 60.0
_FRAME = len(frame(TEXT, LINE.encode()))
_HELLO = (
    "GET /ws/{} HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class Crowd:
    """What the clients have received."""

    def __init__(self) -> None:
        self.missing = 0
        self.complete = asyncio.Event()

    def expect(self, count: int) -> None:
        """From now on, so many frames are waited for."""
        self.missing = count
        self.complete.clear()

    def got(self, frames: int) -> None:
        """Some have come."""
        self.missing -= frames
        if self.missing == 0:
            self.complete.set()


class Client(asyncio.Protocol):
    """One client, which counts bytes."""

    def __init__(self, crowd: Crowd, group: str) -> None:
        self._crowd = crowd
        self._group = group
        self._bytes = -1
        self.transport: Any = None
        self.is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Asks for the upgrade."""
        self.transport = transport
        transport.write(_HELLO.format(self._group).encode())

    def data_received(self, data: bytes) -> None:
        """Counts what comes behind the answer."""
        if self._bytes < 0:
            if not data.startswith(b"HTTP/1.1 101") or not data.endswith(b"\r\n\r\n"):
                self.is_open.set_exception(ConnectionError(repr(data[:100])))
                return
            self._bytes = 0
            if self._group == "stalled":
                self.transport.pause_reading()
            self.is_open.set_result(None)
            return
        before = self._bytes // _FRAME
        self._bytes += len(data)
        self._crowd.got(self._bytes // _FRAME - before)


@contextlib.contextmanager
def serving(way: str) -> Iterator[int]:
    """A server, by its port."""
    command = [sys.executable, "-m", "benchmarks.socket_ways", way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline() if process.stdout else "0")
        finally:
            process.kill()


def asked(port: int, path: str, method: str = "GET") -> Any:
    """What the server answers."""
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=PATIENCE) as answer:
        return json.load(answer)


async def connected(port: int, crowd: Crowd, groups: list[str]) -> list[Client]:
    """So many clients more, some at a time."""
    loop, clients = asyncio.get_running_loop(), []
    for at in range(0, len(groups), AT_ONCE):
        calls = [
            loop.create_connection(lambda group=group: Client(crowd, group), "127.0.0.1", port)  # type: ignore[misc]
            for group in groups[at : at + AT_ONCE]
        ]
        made = [client for _, client in await asyncio.gather(*calls)]
        await asyncio.gather(*(client.is_open for client in made))
        clients += made
    return clients


async def grown(port: int, crowd: Crowd, count: int) -> tuple[float, list[Client]]:
    """The bytes that each connection takes, and the clients."""
    clients = await connected(port, crowd, ["warm"] * WARM)
    before = await asyncio.to_thread(asked, port, "/resident")
    clients += await connected(port, crowd, ["stalled" if n % STALLED == 0 else "all" for n in range(count)])
    return (await asyncio.to_thread(asked, port, "/resident") - before) / count, clients


async def timed(port: int, crowd: Crowd, path: str, readers: int) -> float:
    """Seconds from a request until all readers have a frame more."""
    crowd.expect(readers)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.perf_counter()
    writer.write(f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        await crowd.complete.wait()
    took = time.perf_counter() - began
    writer.close()
    return took


async def torpor(port: int, count: int, rounds: int) -> tuple[float, list[float], list[float]]:
    """The memory of each connection, and the seconds of broadcasts and of plain loops, in turn."""
    crowd = Crowd()
    size, clients = await grown(port, crowd, count)
    waiting = await asyncio.to_thread(asked, port, "/stall", "POST")
    if waiting != len(range(0, count, STALLED)):
        raise RuntimeError(f"{waiting} clients are stalled, and not every {STALLED}th of {count}")
    await asyncio.to_thread(asked, port, "/prepare", "POST")
    readers = len(clients) - waiting
    casts, loops = [], []
    for _ in range(rounds):
        casts.append(await timed(port, crowd, "/broadcast", readers))
        loops.append(await timed(port, crowd, "/loop", readers))
    return size, casts, loops


async def fastapi(port: int, count: int) -> float:
    """The memory of each connection."""
    size, _ = await grown(port, Crowd(), count)
    return size


def run(scale: Scale = FULL) -> Report:
    """Measures, and tells the bars."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(scale.of(CONNECTIONS, least=200), most - WARM - SPARE)
    with serving("torpor") as port:
        size, casts, loops = uvloop.run(torpor(port, count, max(ROUNDS, scale.rounds)))
    with serving("fastapi") as port:
        peer = uvloop.run(fastapi(port, count // SLOW))
    cast, loop = statistics.median(casts), statistics.median(loops)
    rows = [
        ("Torpor", f"{count:,}", f"{size / 1024:.1f}", f"{cast:.2f}", f"{cast / loop:.2f}"),
        ("FastAPI's route on uvicorn", f"{count // SLOW:,}", f"{peer / 1024:.1f}", "", ""),
        ("a plain loop of writes", f"{count:,}", "", f"{loop:.2f}", "1.00"),
    ]
    columns = ("way", "connections", "KB each", "broadcast to all, s", "to the plain loop")
    bars = [
        Bar("memory of a connection", size / 1024, most=12.0, unit="KB"),
        Bar("memory of a connection, to FastAPI's route", size / peer, most=0.5),
        Bar(f"broadcast to {count:,} while 1 % read nothing", cast, most=1.0, unit="s"),
        Bar("broadcast, to a plain loop of writes", cast / loop, most=2.0),
    ]
    return Report(table(columns, rows), bars)
