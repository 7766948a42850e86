"""A service on a real broker and a real database, to which a test makes trouble, and what must hold of it after.

A request is an `Asked` in the outbox; its handler makes an entry and returns an `Entered`, whose handler tells. Nothing
may be lost or doubled: each accepted request has one entry and was told once, or is parked.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from torpor import Event, Retry, Service, Tx
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.system.clock import SystemClock
from torpor.assembly import Deployment, duties_of, plans_of
from torpor.kernel.errors import TorporError
from torpor.kernel.message import Message, ParkedMessage
from torpor.ports.clock import Clock
from torpor.ports.store import Store
from torpor.runtime.host import Host
from torpor.runtime.settings import Settings

TABLES = """
CREATE TABLE accepted (id TEXT NOT NULL);
CREATE TABLE entry (id TEXT NOT NULL, owner TEXT, text TEXT);
CREATE TABLE told (id TEXT NOT NULL)
"""
PATIENCE = 30.0
Hook = Callable[[Any, Tx], Awaitable[None]]


async def _nothing(event: Any, tx: Tx) -> None:
    """Makes no trouble."""


class JumpingClock(SystemClock):
    """The system's time, moved by as much as a test says."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def time(self) -> float:
        """Seconds since the epoch, jumps included."""
        return super().time() + self.offset


class Ledger:
    """The service, running. `between` is awaited by the handler of `Asked`, between its two statements, and
    `during` by the route, inside its transaction."""

    def __init__(self, broker_url: str, store: Callable[[Clock], Store], folder: Path) -> None:
        self.topic = f"trouble.{uuid4().hex}"
        self.clock = JumpingClock()
        self.between: Hook = _nothing
        self.during: Hook = _nothing
        self.log: list[str] = []
        (folder / "migrations").mkdir(exist_ok=True)
        (folder / "migrations" / "0001_tables.sql").write_text(TABLES)
        self.service = self._service(str(folder / "migrations"))
        self.broker = JetStreamBroker(JetStreamOptions(servers=broker_url))
        self.store = store(self.clock)
        (self.plan,) = plans_of([self.service])
        self.host = self._host()
        self.client = self._client()

    def _host(self) -> Host:
        return Host(self.plan, broker=self.broker, store=self.store, clock=self.clock, duties=duties_of(self.plan))

    def _client(self) -> httpx.AsyncClient:
        settings = Settings.read({"TORPOR_BROKER_URL": "memory://", "TORPOR_DATABASE_URL": "memory://"})
        app = Deployment([self.plan], settings, hosts=[self.host]).app
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://trouble.test")

    def _service(self, migrations: str) -> Service:
        class Asked(Event, topic=f"{self.topic}.asked", key="owner"):
            id: str
            owner: str
            text: str = ""
            after: float = 0

        class Entered(Event, topic=f"{self.topic}.entered", key="owner"):
            id: str
            owner: str

        self.asked = Asked
        service = Service("ledger", migrations=migrations)

        @service.post("/ask", status_code=202)
        async def ask(asked: Asked, tx: Tx) -> str:
            await tx.execute("INSERT INTO accepted (id) VALUES ($1)", asked.id)
            await self.during(asked, tx)
            tx.publish(asked, after=asked.after or None)
            return "accepted"

        @service.on(Asked, retry=Retry(attempts=2))
        async def enter(event: Asked, tx: Tx) -> Entered:
            await tx.execute("INSERT INTO entry (id, owner) VALUES ($1, $2)", event.id, event.owner)
            await self.between(event, tx)
            await tx.execute("UPDATE entry SET text = $1 WHERE id = $2", event.text, event.id)
            return Entered(id=event.id, owner=event.owner)

        @service.on(Entered)
        async def tell(event: Entered, tx: Tx) -> None:
            tx.write("INSERT INTO told (id) VALUES ($1)", event.id)

        return service

    async def ask(self, id: str, owner: str = "ada", text: str = "", *, after: float = 0) -> int:
        """Asks by the route; the status of its answer."""
        body = {"id": id, "owner": owner, "text": text, "after": after}
        return (await self.client.post("/ask", json=body)).status_code

    async def publish(self, message: Message) -> None:
        """Publishes past the service."""
        assert not await self.broker.publish([message])

    def message(self, data: bytes = b"", **more: Any) -> Message:
        """A message for the handler of `Asked`."""
        given = {"id": uuid4().hex, "type": f"{self.topic}.asked", "attributes": {"source": "/trouble"}, **more}
        return Message(f"{self.topic}.asked", data, **given)

    async def ids(self, table: str) -> list[str]:
        """The ids in a table, in order."""
        async with self.store.unit() as unit:
            return sorted(row["id"] for row in await unit.statements.fetch(f"SELECT id FROM {table}", ()))

    async def parked(self) -> list[ParkedMessage]:
        """What is parked."""
        return list(await self.store.parking.list(limit=1000))

    async def ready(self) -> None:
        """Waits until every part works."""
        await until(lambda: self.host.is_ready, self.host.status)

    async def settled(self, parked: int = 0) -> None:
        """Waits until every accepted request is entered once and told once, but for those that are parked."""
        state: dict[str, Any] = {}

        async def is_done() -> bool:
            try:
                state.update({table: await self.ids(table) for table in ("accepted", "entry", "told")})
                state["parked"] = len(await self.parked())
            except TorporError:
                return False
            return (
                len(state["told"]) >= len(state["accepted"]) - parked
                and len(state["entry"]) >= len(state["told"])
                and state["parked"] == parked
            )

        await until(is_done, lambda: (state, self.host.status(), self.log[-5:]))
        accepted = set(state["accepted"])
        assert state["entry"] == sorted(set(state["entry"])), "doubled"
        assert state["told"] == sorted(set(state["told"])), "told twice"
        assert set(state["told"]) == set(state["entry"]) <= accepted
        assert len(accepted) - len(state["told"]) == parked

    async def restart(self) -> None:
        """Stops the service and starts another on the same broker and database."""
        await self.host.stop(5)
        await self.client.aclose()
        self.host = self._host()
        self.client = self._client()
        await self.host.start()
        await self.ready()


@asynccontextmanager
async def running(ledger: Ledger, *, is_migrated: bool = True) -> AsyncIterator[Ledger]:
    """Migrates and starts a service, and stops it after; its log is kept."""
    handler = _Kept(ledger.log)
    logger = logging.getLogger("torpor")
    logger.addHandler(handler)
    try:
        if is_migrated:
            await ledger.store.migrate(ledger.service.migrations())
        await ledger.host.start()
        if is_migrated:
            await ledger.ready()
        yield ledger
    finally:
        await ledger.client.aclose()
        await ledger.host.stop(5)
        logger.removeHandler(handler)


async def until(is_so: Callable[[], Any], told: Callable[[], Any] = lambda: "", seconds: float = PATIENCE) -> None:
    """Waits for a fact. Fails with what is told instead."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = is_so()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        if loop.time() > deadline:
            raise AssertionError(f"it never came to be: {told()}")
        await asyncio.sleep(0.02)


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
