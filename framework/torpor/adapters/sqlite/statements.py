"""A handler's own SQL on SQLite. Statements run on the loop: a thread for each would cost four times as much."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from torpor.adapters.sqlite.errors import DRIVER_ERRORS, refusal
from torpor.adapters.sqlite.parameters import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.adapters.sqlite.session import Lender, UnitSession
    from torpor.adapters.sqlite.transaction import Transaction

_PLAIN = frozenset({str, int, float, bytes, bool, type(None)})


class SqliteStatements:
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
            cursor = connection.execute(translate(statement), bound(parameters))
            if cursor.description is not None:
                cursor.fetchall()  # INSERT … RETURNING counts its rows only once they were read
            return max(cursor.rowcount, 0)
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        """Runs one query; returns its rows by column name."""
        connection = await self._transaction.connection()
        try:
            cursor = connection.execute(translate(statement), bound(parameters))
            if cursor.description is None:
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Runs one statement for each row of parameters, in order."""
        connection = await self._transaction.connection()
        try:
            connection.executemany(translate(statement), [bound(row) for row in rows])
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        """Adds rows to a table; returns how many."""
        connection = await self._transaction.connection()
        names, places = ", ".join(map(_quoted, columns)), ", ".join("?" * len(columns))
        statement = f"INSERT INTO {'.'.join(map(_quoted, table.split('.')))} ({names}) VALUES ({places})"  # noqa: S608
        try:
            connection.executemany(statement, [bound(row) for row in rows])
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


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def bound(parameters: Sequence[object]) -> Sequence[object]:
    """Parameters as SQLite stores them: nearly always as they are."""
    if _PLAIN.issuperset(map(type, parameters)):
        return parameters
    return [_stored(value) for value in parameters]


def _stored(value: object) -> object:
    """Dates as SQLAlchemy writes them (so that text compares as time does, and a session reads the same), in UTC."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.isoformat(" ", "microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time):
        return value.isoformat("microseconds")
    return str(value) if isinstance(value, Decimal) else value
