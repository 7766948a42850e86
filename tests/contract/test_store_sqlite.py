"""The SQLite store keeps the port's contract, in a file and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.testing.conformance.store import InboxConformance, OutboxConformance
from torpor.testing.conformance.store_insert import InsertConformance
from torpor.testing.conformance.store_outbox import HintsConformance, ReadAheadConformance, ReplayConformance
from torpor.testing.conformance.store_parking import ParkedQueryConformance, ParkingConformance
from torpor.testing.conformance.store_requests import RequestsConformance
from torpor.testing.conformance.store_sql import (
    LifeConformance,
    MigrationConformance,
    SessionConformance,
    StatementConformance,
)
from torpor.testing.conformance.store_tables import LeaseConformance
from torpor.testing.conformance.store_timers import TimersConformance

if TYPE_CHECKING:
    from pathlib import Path


class SqliteBackend:
    def __init__(self, path: str) -> None:
        self.path = path

    def store(self) -> SqliteStore:
        return SqliteStore(self.path, SystemClock())


@pytest.fixture(params=["file", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> SqliteBackend:
    """Stores on one file, or each in memory."""
    return SqliteBackend(":memory:" if request.param == "memory" else str(tmp_path / "data" / "store.db"))


class TestInbox(InboxConformance): ...


class TestOutbox(OutboxConformance): ...


class TestReplays(ReplayConformance): ...


class TestReadingAhead(ReadAheadConformance): ...


class TestHints(HintsConformance): ...


class TestParking(ParkingConformance): ...


class TestParkedQueries(ParkedQueryConformance): ...


class TestLeases(LeaseConformance): ...


class TestLife(LifeConformance): ...


class TestMigrations(MigrationConformance): ...


class TestStatements(StatementConformance): ...


class TestInserts(InsertConformance): ...


class TestSessions(SessionConformance): ...


class TestTimers(TimersConformance): ...


class TestRequests(RequestsConformance): ...
