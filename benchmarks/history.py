"""A history of ten million published rows: does it slow the relay, or the cleanup of a fixed number of rows?

Two databases, one empty and one with the history. In each round each publishes a backlog that was committed hours ago,
and then cleans up what that left: the published rows and as many ids of the inbox. Rounds of the two are neighbours, in
turn the one and the other first, and a ratio is the median of theirs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.probes import ShiftedClock
from benchmarks.relay import backlog, host_of, publisher, rows
from benchmarks.report import Bar, Report, table
from benchmarks.runs import note
from benchmarks.scale import FULL
from benchmarks.servers import running
from benchmarks.work import Place, run_async, until
from torpor.adapters.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.scale import Scale
    from benchmarks.servers import Servers
    from torpor.ports.store import Store

ROUNDS = 15
HISTORY = 10_000_000
ROWS = 20_000
_GIB = 1024**3
_DISK = 12 * _GIB  # what the history takes at its largest, with its log
_HOUR = 3600.0
_LATE = 5 * _HOUR  # the age of what is cleaned up
_KEPT = 3 * _HOUR  # what is older goes
_AGE = 2 * _HOUR  # the age of the history, which stays
_FILL = """
INSERT INTO torpor_outbox (shard, pos, key, topic, type, id, headers, payload, at)
SELECT number % 8, nextval('torpor_position'), (number % 1000)::text, 'bench.booked', 'bench.booked',
    'history-' || number, '{"source":"bench"}', '{"account":"1","cents":1}', $1
FROM generate_series(1, $2) AS number
"""
_PUBLISHED = "UPDATE torpor_cursor SET pos = (SELECT last_value FROM torpor_position)"
_STEP = 1_000_000


async def fill(dsn: str, count: int, at: float) -> None:
    """Rows that were published some time ago."""
    import asyncpg

    connection = await asyncpg.connect(dsn)
    await connection.execute("SET synchronous_commit = off")
    for start in range(0, count, _STEP):
        await connection.execute(_FILL, at, min(_STEP, count - start))
        note(f"history: {min(count, start + _STEP):,} rows")
    await connection.execute(_PUBLISHED)
    await connection.execute("VACUUM (ANALYZE) torpor_outbox")
    await connection.execute("CHECKPOINT")
    await connection.close()


class Log:
    """One of the two databases: what is published and cleaned up in it, and how fast."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.clock = ShiftedClock()
        self.rates: list[float] = []
        self.seconds: list[float] = []

    def store(self) -> PostgresStore:
        """A store on it, with the clock that can be late."""
        return PostgresStore(self.place.dsn, self.clock)

    async def make(self, history: int) -> None:
        """Its tables, with so many rows of history in a part of the log whose turn is over."""
        store = self.store()
        await store.migrate({})
        if not history:
            return
        await fill(self.place.dsn, history, time.time() - _AGE)
        await store.start()
        await store.outbox.trim(published=time.time() - 2 * _AGE + _HOUR, admitted=0.0)
        await store.stop()

    async def go(self) -> None:
        """One round."""
        store = self.store()
        host = host_of(publisher(), self.place, store)
        await host.start()
        await until(lambda: host.is_ready and host.is_idle)
        self.clock.late = _LATE
        await admit(store, rows(self.place.count))
        self.rates.append(await backlog(host, self.place.count))
        self.clock.late = 0.0
        await host.stop()
        self.seconds.append(await self._clean())

    async def _clean(self) -> float:
        store = self.store()
        await store.start()
        before = time.time() - _KEPT
        began = time.perf_counter()
        await store.outbox.trim(published=before, admitted=before)
        seconds = time.perf_counter() - began
        await store.stop()
        return seconds


async def admit(store: Store, messages: Any) -> None:
    """Enters ids into an inbox."""
    async with store.unit() as unit:
        await unit.admit("bench", messages)
        await unit.commit()


def run(scale: Scale = FULL) -> Report:
    """The medians with and without the history, and the bars."""
    count = scale.of(HISTORY)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _DISK * scale.share:
        return Report(f"Left out: {free // _GIB} GiB of disk are free, and it needs {_DISK // _GIB}.")
    with running() as servers:
        empty, full = _log(servers, scale), _log(servers, scale)
        run_async(empty.make(0))
        run_async(full.make(count))
        rounds = max(1, ROUNDS * scale.rounds // FULL.rounds)
        for number in range(rounds + 1):
            for log in (empty, full) if number % 2 else (full, empty):
                run_async(log.go())
            note(f"{number}/{rounds} rows/s {empty.rates[-1]:,.0f} {full.rates[-1]:,.0f}, "
                 f"cleanup s {empty.seconds[-1]:.3f} {full.seconds[-1]:.3f}")  # fmt: skip
    return _report(empty, full, count, rounds)


def _log(servers: Servers, scale: Scale) -> Log:
    dsn = run_async(servers.postgres.make_database())
    return Log(Place(servers.nats.url, dsn, scale.of(ROWS)))


def _report(empty: Log, full: Log, count: int, rounds: int) -> Report:
    """The first round of each warms up."""
    head = (f"medians of {rounds}, {ROWS:,} rows each", "relay rows/s", "cleanup ms")
    lines = [
        (name, f"{median(log.rates[1:]):,.0f}", f"{median(log.seconds[1:]) * 1000:,.0f}")
        for log, name in ((empty, "empty"), (full, f"{count:,} rows of history"))
    ]
    rate = _median_ratio(full.rates[1:], empty.rates[1:])
    seconds = _median_ratio(full.seconds[1:], empty.seconds[1:])
    bars = [
        Bar("relay with the history ÷ empty", rate, least=0.9),
        Bar("time of a cleanup with the history ÷ empty", seconds, most=1.1),
    ]
    return Report(table(head, lines), bars)


def _median_ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    return median(one / other for one, other in zip(ones, others, strict=True))
