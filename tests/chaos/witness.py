"""Watches the database during a run: triggers tell who took which lease and who moved which cursor."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from torpor.testing.simulation.ledger import NEVER_BACK, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.replica import Replica

PUBLISHERS = ("source", "sink")
FENCING = ["relay", "keeper"]  # the lease that fences the cursors has one of these names
_EVERY = 0.5
_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
_AUDIT = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.taken (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, service TEXT, lease TEXT, epoch BIGINT, port INTEGER,
    at DOUBLE PRECISION
);
CREATE TABLE chaos.moved (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, service TEXT, epoch BIGINT, port INTEGER, is_back BOOLEAN,
    at DOUBLE PRECISION
);
CREATE FUNCTION chaos.note_lease() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.epoch <> OLD.epoch OR NEW.holder IS DISTINCT FROM OLD.holder THEN
        INSERT INTO chaos.taken (service, lease, epoch, port, at)
        VALUES (TG_TABLE_SCHEMA, NEW.name, NEW.epoch, inet_client_port(), extract(epoch FROM clock_timestamp()));
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION chaos.note_cursor() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    current BIGINT;
BEGIN
    IF EXISTS (SELECT FROM new_rows) THEN
        EXECUTE format(
            'SELECT epoch FROM %I.torpor_lease WHERE name = ANY($1) ORDER BY array_position($1, name) LIMIT 1',
            TG_TABLE_SCHEMA
        ) INTO current USING ARRAY['relay', 'keeper'];
        INSERT INTO chaos.moved (service, epoch, port, is_back, at)
        SELECT TG_TABLE_SCHEMA, current, inet_client_port(), coalesce(bool_or(old_rows.pos > new_rows.pos), false),
            extract(epoch FROM clock_timestamp())
        FROM old_rows JOIN new_rows USING (shard);
    END IF;
    RETURN NULL;
END
$$;
"""
_TRIGGERS = """
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON {service}.torpor_lease FOR EACH ROW EXECUTE FUNCTION chaos.note_lease();
CREATE TRIGGER chaos AFTER UPDATE ON {service}.torpor_cursor REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_cursor();
"""


class Witness:
    """A connection past all gates, which comes back when the database does."""

    def __init__(self, url: str, replicas: Sequence[Replica]) -> None:
        self.violations: list[Violation] = []
        self._url = url
        self._replicas = replicas
        self._connection: asyncpg.Connection | None = None
        self._busy = asyncio.Lock()
        self._most: dict[tuple[str, str], int] = {}

    async def install(self) -> None:
        """Makes the triggers."""
        await self.ask(_AUDIT + "".join(_TRIGGERS.format(service=service) for service in PUBLISHERS))

    async def ask(self, statement: str, *parameters: object, seconds: float = 60.0) -> list[Any]:
        """The rows of a statement. Raises what asyncpg raises when the database is away."""
        async with self._busy, asyncio.timeout(seconds):
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url)
            if parameters or statement.lstrip()[:6].upper() == "SELECT":
                rows: list[Any] = await self._connection.fetch(statement, *parameters)
                return rows
            await self._connection.execute(statement)
            return []

    async def patiently(self, statement: str, *parameters: object) -> list[Any]:
        """The same, tried until the database answers."""
        while True:
            try:
                return await self.ask(statement, *parameters)
            except _AWAY:
                await asyncio.sleep(_EVERY)

    async def sample(self) -> None:
        """Looks at the cursors and epochs again and again, until cancelled."""
        while True:
            await asyncio.sleep(_EVERY)
            with suppress(*_AWAY):
                await self._look()

    async def holder(self, service: str) -> str | None:
        """The name of the replica that has taken a service's relay last; None when nobody knows."""
        with suppress(*_AWAY):
            rows = await self.ask(
                "SELECT port, at FROM chaos.taken WHERE service = $1 AND lease = ANY($2) ORDER BY id DESC LIMIT 1",
                service,
                FENCING,
                seconds=1.0,
            )
            return next((self.owner(port, at).partition("/")[0] for port, at in rows), None)
        return None

    async def active(self, service: str) -> str | None:
        """The name of the replica that has handled a service's last message; None when nobody knows."""
        with suppress(*_AWAY):
            rows = await self.ask(f"SELECT replica FROM {service}.effect ORDER BY seq DESC LIMIT 1", seconds=1.0)
            return next((str(row[0]) for row in rows), None)
        return None

    def owner(self, port: int, at: float) -> str:
        """The process whose connection the server saw under a port."""
        known = [(since, who) for replica in self._replicas for since, who in replica.gate.passages.get(port, ())]
        earlier = [passage for passage in known if passage[0] <= at + _EVERY]
        return max(earlier, default=(0.0, f"port {port}"))[1]

    async def close(self) -> None:
        """Takes leave."""
        if self._connection is not None:
            self._connection.terminate()

    async def _look(self) -> None:
        for service in PUBLISHERS:
            cursors = await self.ask(f"SELECT 'shard ' || shard, pos FROM {service}.torpor_cursor")
            epochs = await self.ask(f"SELECT 'the epoch of ' || name, epoch FROM {service}.torpor_lease")
            for name, value in (*cursors, *epochs):
                most = self._most.get((service, name), value)
                if value < most:
                    self.violations.append(Violation(NEVER_BACK, f"{service}: {name} went from {most} to {value}."))
                self._most[service, name] = max(most, value)
