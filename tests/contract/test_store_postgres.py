"""The PostgreSQL store keeps the port's contract, each test in a schema of its own."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
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
    from tests.integration.postgres_server import PostgresServer

_schemas = count(1)


class PostgresBackend:
    def __init__(self, url: str) -> None:
        self.url = url
        self.schema = f"conformance {next(_schemas)}"

    def store(self) -> PostgresStore:
        return PostgresStore(self.url, SystemClock(), PostgresOptions(schema=self.schema))


@pytest.fixture
def backend(postgres: PostgresServer) -> PostgresBackend:
    """Stores on one schema."""
    return PostgresBackend(postgres.url())


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
