"""Leases on SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.sqlite.queries import queries
from torpor.ports.leases import Holding

if TYPE_CHECKING:
    import sqlite3

    from torpor.adapters.sqlite.database import Database


_LONGEST = 120.0  # seconds; what ends later was taken while the host's clock was ahead


class SqliteLeases:
    """One holder at a time of a named duty."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        held = await self.find(name)
        if held is not None and held.holder not in (None, holder):
            return None  # the common answer, without the write lock

        def take(connection: sqlite3.Connection) -> int | None:
            now = self._database.clock.time()
            values = (name, holder, now, now + seconds, now + _LONGEST)
            rows = connection.execute(queries()["acquire"], values).fetchall()
            return rows[0][0] if rows else None

        return await self._database.write(take, is_lazy=True)

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        await self._database.write(
            lambda connection: connection.execute(queries()["release"], (name, holder)), is_lazy=True
        )

    async def find(self, name: str) -> Holding | None:
        """Who holds the lease; None when nobody ever has."""
        rows = await self._database.reader.read(queries()["lease"], (name,))
        if not rows:
            return None
        holder, epoch, expires_at = rows[0]
        left = expires_at - self._database.clock.time()
        return Holding(holder if 0 < left <= _LONGEST else None, epoch)
