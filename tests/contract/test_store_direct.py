"""The store of a service without a database promises little; what it does promise it keeps."""

from __future__ import annotations

import pytest

from torpor.adapters.direct.store import DirectStore
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.testing.conformance.store import InboxConformance, OutboxConformance
from torpor.testing.conformance.store_insert import InsertConformance
from torpor.testing.conformance.store_outbox import HintsConformance, ReadAheadConformance, ReplayConformance
from torpor.testing.conformance.store_parking import ParkedQueryConformance, ParkingConformance
from torpor.testing.conformance.store_requests import RequestsConformance
from torpor.testing.conformance.store_sql import LifeConformance, StatementConformance
from torpor.testing.conformance.store_tables import LeaseConformance
from torpor.testing.conformance.store_timers import TimersConformance


class DirectBackend:
    def store(self) -> DirectStore:
        return DirectStore(MemoryBroker(MemoryHub()), "orders")


@pytest.fixture
def backend() -> DirectBackend:
    """Stores that publish to a broker."""
    return DirectBackend()


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


class TestTimers(TimersConformance): ...


class TestRequests(RequestsConformance): ...
