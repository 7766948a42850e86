"""The store of a service without a database promises little; what it does promise it keeps."""

from __future__ import annotations

import pytest

from torpor.adapters.direct.store import DirectStore
from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.testing.conformance.store import InboxConformance, OutboxConformance
from torpor.testing.conformance.store_sql import LifeConformance, StatementConformance
from torpor.testing.conformance.store_tables import LeaseConformance, ParkingConformance
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


class TestParking(ParkingConformance): ...


class TestLeases(LeaseConformance): ...


class TestLife(LifeConformance): ...


class TestStatements(StatementConformance): ...


class TestTimers(TimersConformance): ...
