"""A handler's own SQL on PostgreSQL.

After a refused statement PostgreSQL runs no more of the transaction: a handler that catches the error and goes on is
refused too. What such a handler wants is `ON CONFLICT`, or a session, whose rollback takes back its own work alone.
What a handler sets outlives the unit on the connection unless it is set with `SET LOCAL`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.postgres.database import changed
from torpor.adapters.postgres.errors import CODEC_ERRORS, DRIVER_ERRORS, refusal, unfit
from torpor.adapters.postgres.parameters import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.adapters.postgres.session import Lender, UnitSession
    from torpor.adapters.postgres.transaction import Transaction


class PostgresStatements:
    """Statements of one unit's transaction."""

    __slots__ = ("_lender", "_sessions", "_transaction")

    def __init__(self, transaction: Transaction, lender: Callable[[], Lender]) -> None:
        self._transaction = transaction
        self._lender = lender
        self._sessions: list[UnitSession] = []

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        """Runs one statement; returns the number of rows it changed."""
        connection = await self._transaction.connection()
        try:
            return changed(await connection.execute(checked(statement), *parameters))
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        """Runs one query; returns its rows by column name."""
        connection = await self._transaction.connection()
        try:
            return [dict(row) for row in await connection.fetch(checked(statement), *parameters)]
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Runs one statement for each row of parameters, in order, as one exchange."""
        if not rows:
            return
        connection = await self._transaction.connection()
        try:
            await connection.executemany(checked(statement), rows)
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Adds rows to a table by COPY; returns how many."""
        connection = await self._transaction.connection()
        schema, _, name = table.rpartition(".")
        statement = f"COPY {table} ({', '.join(columns)})"
        try:
            await connection.copy_records_to_table(name, schema_name=schema or None, columns=columns, records=rows)
        except CODEC_ERRORS as error:
            raise unfit(error, statement) from None  # which may quote a value
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error
        return len(rows)

    def session(self) -> Any:
        """A new SQLModel `AsyncSession` on the unit's connection."""
        session = self._lender().session(self._transaction)
        self._sessions.append(session)
        return session

    async def flush(self) -> None:
        """Sends what the open sessions hold back, and ends their savepoint."""
        self._sessions = [session for session in self._sessions if not session.is_closed]
        for session in self._sessions:
            await session.send()
        self._transaction.borrower = None

    async def forget(self) -> None:
        """Ends the sessions, whose unit has ended, or has taken their work back."""
        self._transaction.borrower = None
        for session in self._sessions:
            await session.close()
        self._sessions.clear()
