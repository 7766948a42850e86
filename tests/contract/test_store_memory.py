"""The memory store keeps the port's contract."""

from __future__ import annotations

import pytest

from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.testing.conformance.store import InboxConformance, OutboxConformance, admitted, committed, message
from torpor.testing.conformance.store_insert import InsertConformance
from torpor.testing.conformance.store_outbox import HintsConformance, ReadAheadConformance, ReplayConformance
from torpor.testing.conformance.store_parking import ParkedQueryConformance, ParkingConformance
from torpor.testing.conformance.store_requests import RequestsConformance
from torpor.testing.conformance.store_sql import LifeConformance, StatementConformance
from torpor.testing.conformance.store_tables import LeaseConformance
from torpor.testing.conformance.store_timers import TimersConformance


class MemoryBackend:
    def store(self) -> MemoryStore:
        return MemoryStore(VirtualClock())


@pytest.fixture
def backend() -> MemoryBackend:
    """Stores in memory."""
    return MemoryBackend()


class TestInbox(InboxConformance): ...


class TestOutbox(OutboxConformance): ...


class TestReplays(ReplayConformance): ...


class TestReadingAhead(ReadAheadConformance): ...


class TestHints(HintsConformance): ...


class TestParking(ParkingConformance): ...


class TestParkedQueries(ParkedQueryConformance): ...


class TestLeases(LeaseConformance): ...


class TestLife(LifeConformance): ...


class TestStatements(StatementConformance): ...


class TestInserts(InsertConformance): ...


async def test_a_stopped_store_keeps_what_was_committed() -> None:
    """A simulation can end a service and start another on the same store."""
    store = MemoryStore(VirtualClock())
    await store.start()
    await admitted(store, "b", ["1"])
    await committed(store, message("2"))

    await store.stop()
    await store.start()

    assert await admitted(store, "b", ["1", "3"]) == {"3"}
    assert repr(store) == "<MemoryStore outbox=1 parked=0>"


async def test_leases_expire_by_the_clock() -> None:
    """A lease is its holder's until its time is over on the store's clock."""
    clock = VirtualClock()
    store = MemoryStore(clock)
    await store.start()
    assert await store.leases.acquire("keeper", "one", 30) == 1

    await clock.advance(29)
    assert await store.leases.acquire("keeper", "another", 30) is None
    await clock.advance(1)
    assert await store.leases.acquire("keeper", "another", 30) == 2


class TestTimers(TimersConformance): ...


class TestRequests(RequestsConformance): ...
