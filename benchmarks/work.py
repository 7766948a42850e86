"""The work that every way does with a message: one inbox row, one UPDATE, one outbox row."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import time
from collections.abc import Callable, Coroutine
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from torpor import Event, new_id
from torpor.adapters.nats.broker import JetStreamBroker
from torpor.adapters.nats.options import JetStreamOptions
from torpor.contract.codec import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

KEYS = 1000
STREAM = "bench_paid"  # as Torpor names the stream of the topic
TOPIC = "bench.paid"
UPDATE = "UPDATE account SET cents = cents + $1 WHERE id = $2"
SET_WISE = """
UPDATE account SET cents = account.cents + paid.cents
FROM (SELECT id, sum(cents)::bigint AS cents FROM unnest($1::text [], $2::bigint []) AS one (id, cents) GROUP BY id)
AS paid WHERE account.id = paid.id
"""
ACCOUNTS = "CREATE TABLE account (id TEXT PRIMARY KEY, cents BIGINT NOT NULL) WITH (fillfactor = 50)"
FILL_ACCOUNTS = "INSERT INTO account SELECT generate_series(0, $1 - 1)::text, 0"
OWN_TABLES = """
CREATE TABLE inbox (id TEXT PRIMARY KEY, at TIMESTAMPTZ NOT NULL DEFAULT now());
CREATE TABLE outbox (
    pos BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id TEXT NOT NULL, topic TEXT NOT NULL, key TEXT,
    payload BYTEA NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now()
);
"""


class Paid(Event, topic=TOPIC, key="account"):
    """What is consumed: about 300 bytes with its envelope."""

    account: str
    cents: int
    note: str = "x" * 180


class Booked(Event, topic="bench.booked", key="account"):
    """What is published."""

    account: str
    cents: int


class Meter:
    """Counts the seconds from the first message in hand to the end of the last, and what is done meanwhile."""

    __slots__ = ("_began", "_finished", "count", "done")

    def __init__(self, count: int) -> None:
        self.count = count
        self.done = 0
        self._began: float | None = None
        self._finished = asyncio.Event()

    def first(self) -> None:
        """Starts the clock, once."""
        if self._began is None:
            self._began = time.perf_counter()

    def add(self, number: int) -> None:
        """Notes that so many are through."""
        self.done += number
        if self.done >= self.count:
            self._finished.set()

    async def finished(self) -> None:
        """Waits for the last."""
        await self._finished.wait()

    def rate(self) -> float:
        """Messages a second, from the first until now."""
        return self.count / (time.perf_counter() - (self._began or 0.0))


class Place:
    """Where one way runs once: the broker, a database of its own, and how many messages it is to handle."""

    __slots__ = ("count", "dsn", "meter", "nats")

    def __init__(self, nats: str, dsn: str, count: int) -> None:
        self.nats = nats
        self.dsn = dsn
        self.count = count
        self.meter = Meter(count)


Way = Callable[[Place], Coroutine[Any, Any, float]]
Ready = Callable[[], Coroutine[Any, Any, float]]


def accounts(count: int) -> list[str]:
    """The keys of the messages in their order."""
    chance = random.Random(1)  # noqa: S311  # the same messages each time
    return [str(chance.randrange(KEYS)) for _ in range(count)]


async def fill_stream(url: str, count: int) -> None:
    """Publishes what is consumed: keys in random order, the same for every way."""
    events = [Paid(account=account, cents=number) for number, account in enumerate(accounts(count))]
    broker = JetStreamBroker(JetStreamOptions(servers=url))
    await broker.start()
    await broker.declare([TOPIC, "bench.booked"], ())
    await broker.publish([encode(event, id=new_id(), key=None, attributes={"source": "bench"}) for event in events])
    await broker.stop()


async def make_tables(dsn: str, *, are_own: bool) -> None:
    """The accounts, and an inbox and an outbox for those who bring none."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute(f"{ACCOUNTS}; {OWN_TABLES if are_own else ''}")
    await connection.execute(FILL_ACCOUNTS, KEYS)
    await connection.execute("ANALYZE account")
    await connection.close()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs something on uvloop, as `torpor run` does: every way and every peer alike."""
    gc.collect()
    gc.freeze()
    _write_logs_to_nowhere()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    finally:
        gc.unfreeze()


def _write_logs_to_nowhere() -> None:
    """Logs are formatted and written as in service, but nobody reads them."""
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.FileHandler(os.devnull)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)


def medians(ways: Mapping[str, Ready], rounds: int, told: Callable[[str], None]) -> dict[str, float]:
    """Runs every way in each round, so that a noisy moment falls on all of them; returns the medians."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            try:
                taken[name].append(run_async(way()))
            except TimeoutError:
                told(f"{number + 1}/{rounds} {name}: took too long, and does not count")
            else:
                told(f"{number + 1}/{rounds} {name}: {taken[name][-1]:,.1f}")
    return {name: median(figures) for name, figures in taken.items()}


def neighbours(ways: Mapping[str, Ready], rounds: int, told: Callable[[str], None]) -> dict[str, list[float]]:
    """Runs two ways next to each other in each round, in turn the one and the other first; returns what each took."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in sorted(ways.items(), reverse=number % 2 == 1):
            taken[name].append(run_async(way()))
        told(f"{number + 1}/{rounds} " + ", ".join(f"{name}: {figures[-1]:,.1f}" for name, figures in taken.items()))
    return taken


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits for a fact, looking often."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # a number tells no event
            await asyncio.sleep(0.001)
