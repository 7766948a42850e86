"""One transaction over a batch of deliveries, on SQLite."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Self

from torpor.adapters.sqlite.errors import DRIVER_ERRORS, refusal
from torpor.adapters.sqlite.queries import queries, rows
from torpor.adapters.sqlite.statements import SqliteStatements
from torpor.adapters.sqlite.transaction import Transaction
from torpor.kernel.errors import StatementFailed
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Sequence
    from types import TracebackType

    from torpor.adapters.sqlite.connection import Writer
    from torpor.adapters.sqlite.requests import SqliteRequests
    from torpor.adapters.sqlite.session import Lender
    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.ports.clock import Clock
    from torpor.ports.requests import Requests
    from torpor.ports.statements import Statements

_ROWS = 100  # in one INSERT


class SqliteUnit:
    """One open transaction, and the context manager that `Store.unit` gives. It begins with its first statement."""

    __slots__ = ("_clock", "_has_mark", "_requests", "_statements", "_taken", "_transaction", "statements")

    def __init__(self, writer: Writer, clock: Clock, lender: Callable[[], Lender]) -> None:
        self._clock = clock
        self._transaction = Transaction(writer)
        self._has_mark = False
        self._statements = SqliteStatements(self._transaction, lender)
        self.statements: Statements = self._statements
        self._taken = writer.taken
        self._requests: SqliteRequests | None = None  # until it is asked for

    @property
    def requests(self) -> Requests:
        if self._requests is None:
            from torpor.adapters.sqlite.requests import SqliteRequests

            self._requests = SqliteRequests(self._transaction, self._taken)
        return self._requests

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._requests is not None:
            self._requests.release()
        self._transaction.rollback()
        await self._statements.forget()

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        """Enters the ids into the binding's inbox and tells which were not there, as the unit sees it."""
        connection = await self._transaction.connection()
        try:
            fresh = _enter(connection, binding, messages, self._clock.time())
            if connection.execute(queries()["has_parked"], (binding,)).fetchone() is None:
                return Admission(fresh, ())
            queues = {message.key for message in messages} if queue is None else {queue}
            return Admission(fresh, _blocked(connection, binding, queues))
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_inbox") from error

    async def claim(self, number: int) -> bool:
        """Takes a due parked row out of the table; False when another has taken it or an operator holds it."""
        connection = await self._transaction.connection()
        try:
            return connection.execute(queries()["claim"], (number,)).rowcount == 1
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_parked") from error

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        """Adds to the outbox log, in order, to the parked rows and to the timers."""
        if not messages and not parked and not timers:
            return
        from torpor.adapters.sqlite.rows import outbox_row, parked_row, timer_row

        connection = await self._transaction.connection()
        now = self._clock.time()
        try:
            _insert(connection, "append", [outbox_row(message, now) for message in messages])
            _insert(connection, "park", [parked_row(message) for message in parked])
            _insert(connection, "set_timer", [timer_row(timer) for timer in timers])
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_outbox") from error

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        """Takes a timer out by its name (and only with that due time, when one is given)."""
        connection = await self._transaction.connection()
        try:
            return connection.execute(queries()["cancel"], (timer, due_at)).rowcount == 1
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_timer") from error

    async def savepoint(self) -> None:
        """Marks a place to fall back to; a second call moves the mark."""
        await self._statements.flush()
        connection = await self._transaction.connection()
        try:
            if self._has_mark:
                connection.execute("RELEASE torpor_mark")
            connection.execute("SAVEPOINT torpor_mark")
            self._has_mark = True
        except DRIVER_ERRORS as error:
            raise refusal(error, "SAVEPOINT") from error

    async def rollback_to_savepoint(self) -> None:
        """Takes back all that came after the mark, which stays."""
        if not self._has_mark:
            raise StatementFailed("The unit has no savepoint to fall back to. Call savepoint() first.")
        connection = await self._transaction.connection()
        try:
            connection.execute("ROLLBACK TO torpor_mark")
        except DRIVER_ERRORS as error:
            raise refusal(error, "ROLLBACK TO") from error
        await self._statements.forget()

    async def commit(self) -> None:
        """Makes it durable. When it raises StoreUnavailable it is unknown whether it was: the inbox will tell."""
        await self._statements.flush()
        await self._transaction.commit()


def _enter(connection: sqlite3.Connection, binding: str, messages: Sequence[Message], now: float) -> Collection[str]:
    if len(messages) == 1:
        id = messages[0].id
        is_new = connection.execute(queries()["admit_one"], (binding, id, now)).rowcount == 1
        return {id} if is_new else ()
    fresh: set[str] = set()
    for start in range(0, len(messages), _ROWS):
        part = messages[start : start + _ROWS]
        values = [value for message in part for value in (binding, message.id, now)]
        fresh.update(id for (id,) in connection.execute(rows("admit_many", len(part)), values))
    return fresh


def _blocked(connection: sqlite3.Connection, binding: str, queues: Collection[str | None]) -> Collection[str]:
    query, wanted = queries()["is_blocked"], (queue for queue in queues if queue is not None)
    return {queue for queue in wanted if connection.execute(query, (binding, queue)).fetchone() is not None}


def _insert(connection: sqlite3.Connection, query: str, values: Sequence[tuple[object, ...]]) -> None:
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS]
        connection.execute(rows(query, len(part)), list(chain.from_iterable(part)))
