"""The push endpoint beside a FastAPI route on uvicorn: the same body, the same model, the same handler."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import uvloop

from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from torpor.cli.coldstart import free_port, get, is_answered, processor_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.scale import Scale

REQUESTS = 5_000
ROUNDS = 31
AT_ONCE = 32  # so that neither server waits for its client
OURS, PEER = "push endpoint", "FastAPI on uvicorn"
MODEL = """
    id: str
    customer: str
    amount: int
    lines: list[str]
    note: str
"""
SERVICE = f"""
from torpor import Event, Service

class Placed(Event, topic="placed", key="id"):
{MODEL}
orders = Service("orders")
total = 0

@orders.on(Placed)
async def record(event: Placed) -> None:
    global total
    total += event.amount
"""
ROUTE = f"""
import sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Placed(BaseModel):
{MODEL}
app = FastAPI()
total = 0

@app.get("/-/ready")
async def ready() -> bool:
    return True

@app.post("/-/events/orders.record", status_code=204)
async def record(event: Placed) -> None:
    global total
    total += event.amount

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
BODY = (
    b'{"id": "0193d6a0-0000-7000-8000-000000000001", "customer": "ada@example.com", "amount": 1999, '
    b'"lines": ["a blue one", "a green one", "two red ones"], "note": "' + b"x" * 130 + b'"}'
)
_PATIENCE = 30.0


class Turn(NamedTuple):
    """One run: requests a second, and the server's microseconds of CPU for each."""

    rate: float
    processor: float


def run(scale: Scale = FULL) -> Report:
    """Both servers run all the time, and are asked in turn. Each round is compared by itself: what disturbs the
    machine disturbs both alike."""
    requests = scale.of(REQUESTS, 200)
    turns: dict[str, list[Turn]] = {OURS: [], PEER: []}
    with tempfile.TemporaryDirectory() as folder:
        servers = {name: start(Path(folder)) for name, start in ((OURS, start_ours), (PEER, start_peer))}
        try:
            for server in servers.values():
                server.warm(requests // 4)
            for number in range(max(1, ROUNDS * scale.rounds // FULL.rounds)):
                for name, server in list(servers.items())[:: 1 if number % 2 else -1]:
                    turns[name].append(server.ask(requests))
        finally:
            for server in servers.values():
                server.stop()
    found = {name: Turn(*(median(column) for column in zip(*taken, strict=True))) for name, taken in turns.items()}
    rows = [
        (name, f"{turn.rate:,.0f}", f"{turn.processor:.0f}", f"{turn.rate / found[PEER].rate:.2f}")
        for name, turn in found.items()
    ]
    return Report(
        table((f"{AT_ONCE} at once, {len(BODY)} bytes", "requests/s", "CPU us each", "rate of the peer's"), rows),
        [
            Bar("CPU of a push, of FastAPI's", of_peer(turns, lambda turn: turn.processor), most=0.25),
            Bar("rate of pushes, of FastAPI's", of_peer(turns, lambda turn: turn.rate), least=3.0),
        ],
    )


def of_peer(turns: Mapping[str, Sequence[Turn]], figure: Callable[[Turn], float]) -> float:
    """The median of what a figure is of the peer's in the same round."""
    return median(figure(ours) / figure(peer) for ours, peer in zip(turns[OURS], turns[PEER], strict=True))


class Server:
    """A process that serves."""

    def __init__(self, command: Sequence[str], port: int, environ: Mapping[str, str]) -> None:
        self._port = port
        self._process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        last = time.monotonic() + _PATIENCE
        while not is_answered(port, get("/-/ready")):
            if time.monotonic() > last or self._process.poll() is not None:
                raise RuntimeError(f"{command} does not serve.")
            time.sleep(0.01)

    def warm(self, requests: int) -> None:
        """Has some requests answered before any is counted."""
        self.ask(requests)

    def ask(self, requests: int) -> Turn:
        """Sends so many requests, and waits for all answers."""
        used, began = processor_seconds(self._process.pid), time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_ask(self._port, requests))
        seconds = time.perf_counter() - began
        return Turn(requests / seconds, (processor_seconds(self._process.pid) - used) / requests * 1e6)

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


def start_ours(folder: Path) -> Server:
    """A service without routes."""
    (folder / "pushed.py").write_text(SERVICE)
    port = free_port()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TORPOR_")}
    environ = {**ours, "TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": "memory://"}
    words = ("run", "pushed:orders", "--app-dir", str(folder), "--port", str(port))
    return Server([sys.executable, "-m", "torpor.cli", *words], port, environ)


def start_peer(folder: Path) -> Server:
    """A route with the same model."""
    (folder / "routed.py").write_text(ROUTE)
    port = free_port()
    return Server([sys.executable, str(folder / "routed.py"), str(port)], port, os.environ)


async def _ask(port: int, requests: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    numbers = iter(range(requests))
    left = count(requests - 1, -1)

    def answered() -> None:
        if next(left) == 0:
            done.set_result(None)

    clients = [(await loop.create_connection(lambda: _Client(numbers, answered), "127.0.0.1", port))[0]
               for _ in range(AT_ONCE)]  # fmt: skip
    await asyncio.wait_for(done, _PATIENCE)
    for client in clients:
        client.close()


class _Client(asyncio.Protocol):
    """Sends a request when the one before is answered."""

    def __init__(self, numbers: Any, answered: Callable[[], None]) -> None:
        self._numbers = numbers
        self._answered = answered
        self._run = os.urandom(8).hex().encode()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 204"):
            raise RuntimeError(data[:200].decode())
        self._answered()
        self._send()

    def _send(self) -> None:
        number = next(self._numbers, None)
        if number is not None:
            self._transport.write(
                b"POST /-/events/orders.record HTTP/1.1\r\nhost: 127.0.0.1\r\nce-specversion: 1.0\r\nce-id: %s-%d\r\n"
                b"ce-source: /bench\r\nce-type: placed\r\nce-time: 2026-01-31T12:00:00Z\r\n"
                b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (self._run, number, len(BODY), BODY)
            )
