"""The SQLite store keeps the port's contract, in a file and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.adapters.sqlite.store import SqliteStore
from torpor.adapters.system.clock import SystemClock
from torpor.testing.conformance.store import InboxConformance, OutboxConformance
from torpor.testing.conformance.store_sql import (
    LifeConformance,
    MigrationConformance,
    SessionConformance,
    StatementConformance,
)
from torpor.testing.conformance.store_tables import LeaseConformance, ParkingConformance
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


class TestParking(ParkingConformance): ...


class TestLeases(LeaseConformance): ...


class TestLife(LifeConformance): ...


class TestMigrations(MigrationConformance): ...


class TestStatements(StatementConformance): ...


class TestSessions(SessionConformance): ...


class TestTimers(TimersConformance): ...
