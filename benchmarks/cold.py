"""Cold starts: from exec to the first event handled and committed, beside peers, in interleaved rounds.

Each side is started in an environment of its own, as it would be deployed: functions-framework installs a hook that
runs at every start of its interpreter. What our services import is packed by `torpor compile`, as when an image is
built; they are started without that too.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.report import Bar, Report, table
from benchmarks.scale import FULL
from benchmarks.servers import Unavailable
from torpor.cli.coldstart import ColdService, Request, free_port, get, medians, start
from torpor.cli.packed import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.scale import Scale
    from torpor.cli.coldstart import Sample

ROUNDS = 24
MODULES = 310
MEGABYTES = 42
COMPILED = "orders", "structs"  # by `torpor compile`
LOOSE = "loose_orders", "loose_structs"
ROOT = Path(__file__).parents[1]
OURS = ROOT / ".tools" / "service"  # Torpor with all its extras, without what its tests and benchmarks need
PEER = ROOT / ".tools" / "functions"

PYDANTIC = """
from torpor import Event, Service, Tx

class Placed(Event, topic="placed", key="id"):
    id: str
    amount: int

orders = Service("orders", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT PRIMARY KEY, amount INTEGER);"})

@orders.on(Placed)
async def record(event: Placed, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen (id, amount) VALUES ($1, $2)", event.id, event.amount)
"""
STRUCT = """
import msgspec
from torpor import Service, Tx, event

@event(topic="placed", key="id")
class Placed(msgspec.Struct):
    id: str
    amount: int

orders = Service("orders", migrations={"0001_seen.sql": "CREATE TABLE seen (id TEXT PRIMARY KEY, amount INTEGER);"})

@orders.on(Placed)
async def record(event: Placed, tx: Tx) -> None:
    await tx.execute("INSERT INTO seen (id, amount) VALUES ($1, $2)", event.id, event.amount)
"""
ROUTES = """
from torpor import Service

web = Service("web")

@web.get("/", public=True)
async def hello() -> dict[str, str]:
    return {"hello": "world"}
"""
FASTAPI = """
import sys
import uvicorn
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def hello() -> dict[str, str]:
    return {"hello": "world"}

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""
FUNCTION = """
import functions_framework

@functions_framework.http
def hello(request):
    return "Hello world!"
"""
BARE = """
import asyncio
import sys

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\nok")
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""
EVERYTHING = """
import os
import sys

import faststream.kafka
import faststream.nats
import uvicorn
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from sqlmodel import Field, Session, SQLModel, create_engine

provider = TracerProvider()

class Placed(SQLModel, table=True):
    id: str = Field(primary_key=True)
    amount: int

engine = create_engine(f"sqlite:///{os.environ['DATABASE']}")
app = FastAPI()

@app.post("/", status_code=204)
def record(placed: Placed) -> None:
    with Session(engine) as session:
        session.add(placed)
        session.commit()

SQLModel.metadata.create_all(engine)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def run(scale: Scale = FULL) -> Report:
    """Interleaves the starts, so that a noisy moment falls on all of them."""
    environments()
    with tempfile.TemporaryDirectory() as folder:
        starts = starters(Path(folder))
        samples: dict[str, list[Sample]] = {name: [] for name in starts}
        with compiled(Path(folder)):
            for once in starts.values():
                once()  # writes the bytecode, warms the file cache
            for number in range(scale.of(ROUNDS, 1)):
                for name in list(starts)[:: -1 if number % 2 else 1]:  # who follows a large one finds colder caches
                    samples[name].append(starts[name]())
        modules = len(cold(Path(folder), "orders", "counted").imports())
    found = {name: medians(taken) for name, taken in samples.items()}
    return Report(text(found), bars(samples, modules))


def environments() -> None:
    """Makes the environments, from uv.lock. Raises Unavailable."""
    uv = next(ROOT.glob(".tools/uv-*"), Path("uv"))  # scripts/bench has got it
    chosen = {OURS: ("--all-extras", "--no-default-groups"), PEER: ("--only-group", "cold")}
    for place, words in chosen.items():
        command = [str(uv), "sync", "--frozen", *words, "--compile-bytecode", "--quiet"]
        environ = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(place), "UV_PYTHON_DOWNLOADS": "never"}
        try:
            subprocess.run(command, cwd=ROOT, env=environ, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"the environment {place.name!r} cannot be made: {error}") from error


def python() -> str:
    """The interpreter of all that needs what Torpor needs."""
    return str(OURS / "bin" / "python")


def cold(folder: Path, module: str, database: str) -> ColdService:
    """A service of ours, migrated."""
    service = ColdService(f"{module}:orders", folder, folder / database, b'{"id": "1", "amount": 5}', python=python())
    service.migrate()
    return service


@contextmanager
def compiled(folder: Path) -> Iterator[None]:
    """Has what the compiled services import packed, as when an image is built, while it lasts."""
    settings = {"TORPOR_DELIVERY": "push", "TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "sqlite:///a.db"}
    words = [f"{module}:orders" for module in COMPILED]
    try:
        for word in words:
            command = [python(), "-m", "torpor.cli", "compile", word, "--app-dir", str(folder)]
            subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True)
        yield
    finally:
        for word in words:
            Path(place_of([word])).unlink(missing_ok=True)


def starters(folder: Path) -> Mapping[str, Callable[[], Sample]]:
    """How each is started once."""
    programs = {
        "orders": PYDANTIC, "structs": STRUCT, "loose_orders": PYDANTIC, "loose_structs": STRUCT,
        "web": ROUTES, "main": FUNCTION, "plain": FASTAPI, "bare": BARE, "everything": EVERYTHING,
    }  # fmt: skip
    for name, program in programs.items():
        (folder / f"{name}.py").write_text(program)
    ours, structs, loose, loose_structs = (cold(folder, name, name) for name in (*COMPILED, *LOOSE))
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("TORPOR_", "PYTHON"))}
    environ["DATABASE"] = str(folder / "everything.db")

    def peer(name: str, request: Request) -> Callable[[], Sample]:
        def once() -> Sample:
            (folder / "everything.db").unlink(missing_ok=True)
            port = free_port()
            return start([python(), str(folder / f"{name}.py"), str(port)], port, environ, request)

        return once

    def function() -> Sample:
        port = free_port()
        words = ("--target", "hello", "--source", str(folder / "main.py"), "--host", "127.0.0.1", "--port", str(port))
        return start([str(PEER / "bin" / "functions-framework"), *words], port, environ, get("/"))

    def routes() -> Sample:
        port = free_port()
        words = ("run", "web:web", "--app-dir", str(folder), "--port", str(port))
        return start([python(), "-m", "torpor.cli", *words], port, environ, get("/"))

    body = b'{"id": "1", "amount": 5}'
    head = b"POST / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-type: application/json\r\n"
    post = Request(lambda: head + b"content-length: %d\r\n\r\n%s" % (len(body), body), 204)
    return {
        "push service, pydantic event": lambda: ours.start("/-/live"),
        "functions-framework hello": function,
        "push service, msgspec event": lambda: structs.start("/-/live"),
        "bare asyncio server": peer("bare", get("/")),
        "push service, pydantic event, not compiled": lambda: loose.start("/-/live"),
        "push service, msgspec event, not compiled": lambda: loose_structs.start("/-/live"),
        "our FastAPI service": routes,
        "uvicorn and FastAPI": peer("plain", get("/")),
        "all imported": peer("everything", post),
    }


def text(found: Mapping[str, list[float]]) -> str:
    """The medians, as a table."""
    rows = []
    for name, (port, *steps, processor, resident) in found.items():
        first, last = steps[0], steps[-1]
        rows.append((name, f"{port:.0f}", f"{first:.0f}", f"{last:.0f}", f"{processor:.0f}", f"{resident:.1f}"))
    return table((f"medians of {ROUNDS}", "port open ms", "first answer ms", "served ms", "CPU ms", "RSS MB"), rows)


def bars(samples: Mapping[str, Sequence[Sample]], modules: int) -> list[Bar]:
    """What is held to: CPU where work is compared, the clock where somebody waits for a first sign of life. Each round
    is compared by itself: what disturbs the machine disturbs all alike."""
    ours, structs = samples["push service, pydantic event"], samples["push service, msgspec event"]
    bare, function = samples["bare asyncio server"], samples["functions-framework hello"]

    def cpu(some: Sequence[Sample], others: Sequence[Sample]) -> float:
        return median(one.processor / other.processor for one, other in zip(some, others, strict=True))

    def wall(step: int, of: int) -> float:
        return median(one.steps[step] / other.steps[of] for one, other in zip(ours, bare, strict=True))

    return [
        Bar("pydantic event committed, CPU of functions-framework's hello", cpu(ours, function), most=0.85),
        Bar("msgspec event committed, CPU of functions-framework's hello", cpu(structs, function), most=0.45),
        Bar("pydantic event committed, CPU of all imported", cpu(ours, samples["all imported"]), most=0.22),
        Bar("our FastAPI service, CPU of uvicorn and FastAPI",
            cpu(samples["our FastAPI service"], samples["uvicorn and FastAPI"]), most=1.15),
        Bar("port open, wall of a bare asyncio server's", wall(0, 0), most=0.4),
        Bar("first answer, wall of a bare asyncio server's", wall(1, 1), most=1.2),
        Bar("able to serve, wall of a bare asyncio server's first answer", wall(2, 1), most=2.8),
        Bar("resident memory of the push service", median(one.resident for one in ours), most=MEGABYTES, unit="MB"),
        Bar("modules of the push service", float(modules), most=MODULES, unit=""),
    ]  # fmt: skip
