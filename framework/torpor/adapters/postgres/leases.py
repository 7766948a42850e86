"""Leases on PostgreSQL: each call a transaction of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.postgres.text import read, stored
from torpor.ports.leases import Holding

if TYPE_CHECKING:
    from torpor.adapters.postgres.database import Database


class PostgresLeases:
    """One holder at a time of a named duty, by the database's clock."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        rows = await self._database.fetch(self._database.queries["acquire"], stored(name), stored(holder), seconds)
        epoch: int | None = rows[0][0] if rows else None
        return epoch

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        await self._database.execute(self._database.queries["release"], stored(name), stored(holder))

    async def find(self, name: str) -> Holding | None:
        """Who holds the lease; None when nobody ever has."""
        rows = await self._database.fetch(self._database.queries["lease"], stored(name))
        if not rows:
            return None
        holder, epoch = rows[0]
        return Holding(None if holder is None else read(holder), epoch)
