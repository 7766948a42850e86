"""A unit's transaction on a connection of its own.

It begins with the unit's first statement. A savepoint is set with the first statement after it was asked for: most
handlers that ask for one then never speak to the database again, and each exchange costs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.kernel.errors import StatementFailed

if TYPE_CHECKING:
    from torpor.adapters.postgres.pool import Pool

MARK = "torpor_mark"

_FAREWELL = 5.0  # seconds for a ROLLBACK: a connection on which the last statement was not answered is not waited for


class Transaction:
    """A unit's hold on a connection: begun by its first statement, ended once."""

    __slots__ = ("_connection", "_has_ended", "_has_mark", "_is_beginning", "_is_mark_due", "_pool", "borrower")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: asyncpg.Connection | None = None
        self._has_ended = False
        self._has_mark = False
        self._is_beginning = False
        self._is_mark_due = False
        self.borrower: object | None = None  # the session whose savepoint is open

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was asked of it yet, not even a savepoint."""
        return self._connection is None and not self._is_mark_due

    @property
    def is_open(self) -> bool:
        """Whether there is a transaction on the server, failed or not."""
        connection = self._connection
        return connection is not None and not connection.is_closed() and connection.is_in_transaction()

    async def connection(self) -> asyncpg.Connection:
        """The connection, inside the transaction."""
        if self._connection is None:
            await self.begin()
        if self._is_mark_due:
            await self._set_mark(self._connection)
        return self._connection

    async def begin(self, joined: str = "") -> str:
        """Begins, together with a first statement if one is given; returns what that one tells."""
        connection = await self._take()
        options = self._pool.options
        try:
            status: str = await connection.execute(f"{options.begin}; {joined}" if joined else options.begin)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_inbox" if joined else "BEGIN") from error
        return status

    async def restart(self) -> None:
        """Takes back what there is and begins anew, as if nothing had been."""
        connection = await self.connection()
        try:
            await connection.execute(f"ROLLBACK; {self._pool.options.begin}")
        except DRIVER_ERRORS as error:
            raise refusal(error, "ROLLBACK") from error

    def mark(self) -> None:
        """Asks for a place to fall back to, and forgets the one before."""
        self._check()
        self._is_mark_due = True

    async def fall_back(self) -> None:
        """Takes back all that came after the mark."""
        self._check()
        if self._is_mark_due:
            return  # nothing came
        if not self._has_mark or self._connection is None:
            raise StatementFailed("The unit has no savepoint to fall back to. Call savepoint() first.")
        try:
            await self._connection.execute(f"ROLLBACK TO {MARK}")
        except DRIVER_ERRORS as error:
            raise refusal(error, "ROLLBACK TO") from error

    async def commit(self, joined: str = "") -> None:
        """Commits, together with a last statement if one is given; if anything was begun, or is to be."""
        self._check()
        statements = [joined, "COMMIT"] if joined else ["COMMIT"]
        if self._connection is None and joined:
            await self._take()
            statements.insert(0, self._pool.options.begin)
        self._has_ended = True
        if self._connection is None:
            return
        is_refused = False
        try:
            status = await self._connection.execute("; ".join(statements))
        except DRIVER_ERRORS as error:
            # It is what comes before COMMIT that was refused, since that would have ended the transaction.
            is_refused = self.is_open and isinstance(error, asyncpg.PostgresError)
            raise refusal(error, "torpor_outbox" if is_refused else "COMMIT") from error
        finally:
            if not is_refused:
                self._release()
        if status != "COMMIT":  # PostgreSQL rolls a failed transaction back, and calls that no error
            raise StatementFailed(
                "The unit was rolled back, since one of its statements had failed. Let the statement's error pass."
            )

    async def rollback(self) -> None:
        """Takes everything back, unless it was committed."""
        self._has_ended = True
        connection = self._connection
        if connection is None:
            return
        try:
            if self.is_open:
                async with asyncio.timeout(_FAREWELL):
                    await connection.execute("ROLLBACK")
        except DRIVER_ERRORS:
            connection.terminate()  # the server takes it back when it notices
        finally:
            self._release()

    async def _take(self) -> asyncpg.Connection:
        if self._has_ended:
            raise StatementFailed("The unit has ended, and runs no more statements. Await them inside the handler.")
        if self._is_beginning:
            raise StatementFailed("Two statements of one unit at once. Await each before the next.")
        self._is_beginning = True  # and for ever, since a unit begins once
        self._connection = await self._pool.take()
        return self._connection

    async def _set_mark(self, connection: asyncpg.Connection) -> None:
        release = f"RELEASE {MARK}; " if self._has_mark else ""
        try:
            await connection.execute(f"{release}SAVEPOINT {MARK}")
        except DRIVER_ERRORS as error:
            raise refusal(error, "SAVEPOINT") from error
        self._is_mark_due = False
        self._has_mark = True

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)

    def _check(self) -> None:
        if self._has_ended:
            raise StatementFailed("The unit has ended, and cannot go on. Open another.")
