"""Hints by NOTIFY: a statement of its own after the commit, since inside it would make all commits wait for each other.

Behind a pooler nobody can LISTEN, so nothing is told either.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from zlib import crc32

from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.adapters.postgres.pool import connect, end
from torpor.kernel.errors import StatementFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.adapters.postgres.database import Database

_APART = 0.01  # seconds between two hints of one process


class PostgresHints:
    """What is told on the channel of one schema."""

    __slots__ = ("_channel", "_database", "_is_due", "_telling")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channel = f"torpor_{crc32(database.options.schema.encode()):08x}"
        self._is_due = False
        self._telling: asyncio.Task[None] | None = None

    def tell(self) -> None:
        """Hints that something was committed: at once, or together with others that come within ten milliseconds."""
        if self._database.options.is_pooled:
            return
        self._is_due = True
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell(), name="hints")

    async def listen(self, heard: Callable[[], None]) -> None:
        """Calls `heard` for what others tell, until cancelled. Raises StoreUnavailable when the connection is lost."""
        if self._database.options.is_pooled:
            return
        lost = asyncio.Event()
        connection = await connect(self._database.address, self._database.options)
        try:
            connection.add_termination_listener(lambda *_: lost.set())
            await connection.add_listener(self._channel, lambda *_: heard())
            heard()  # of what was committed until now
            await lost.wait()
        except DRIVER_ERRORS as error:
            raise refusal(error, "LISTEN") from error
        finally:
            await end(connection)
        raise StoreUnavailable(f"{self._database.address.place}: the connection that listens for hints was lost.")

    async def stop(self) -> None:
        """Tells nothing more."""
        telling, self._telling = self._telling, None
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _tell(self) -> None:
        try:
            while self._is_due:
                self._is_due = False
                await self._database.execute("SELECT pg_notify($1, '')", self._channel)
                await self._database.clock.sleep(_APART)
        except (StoreUnavailable, StatementFailed):
            return  # polling finds it
        finally:
            self._telling = None
