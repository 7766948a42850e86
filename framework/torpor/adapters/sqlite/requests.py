"""The requests with a key, on SQLite."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torpor.adapters.sqlite.errors import DRIVER_ERRORS, refusal
from torpor.adapters.sqlite.queries import queries
from torpor.ports.requests import Answer, Turn

if TYPE_CHECKING:
    import sqlite3

    from torpor.adapters.sqlite.database import Database
    from torpor.adapters.sqlite.transaction import Transaction

_CHUNK = 500  # rows to delete in one transaction, so that units need not wait long


class SqliteRequests:
    """The requests of one unit. There is one writer: who comes second would wait for the first, and then be given its
    answer. So that it is told at once, the process knows which keys are under way."""

    __slots__ = ("_mine", "_taken", "_transaction")

    def __init__(self, transaction: Transaction, taken: set[tuple[str, str]]) -> None:
        self._transaction = transaction
        self._taken = taken  # by all units of the process
        self._mine: set[tuple[str, str]] | None = None

    async def take(self, place: str, key: str, now: float) -> Turn:
        """Takes the key until the unit ends, unless another unit has it."""
        entry = place, key
        mine = self._mine = self._mine or set()
        if entry in self._taken and entry not in mine:
            return Turn(is_taken=True)
        self._taken.add(entry)
        mine.add(entry)
        connection = await self._transaction.connection()
        try:
            connection.execute(queries()["forget_answer"], (place, key, now))
            row = connection.execute(queries()["answered"], entry).fetchone()
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_answer") from error
        if row is None:
            return Turn()
        fingerprint, status, headers, body = row
        return Turn(Answer(fingerprint, status, [(name, value) for name, value in json.loads(headers)], body))

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        """Keeps the answer for a key that was taken."""
        connection = await self._transaction.connection()
        headers = json.dumps(answer.headers)
        row = place, key, answer.fingerprint, answer.status, headers, answer.body, until
        try:
            connection.execute(queries()["keep_answer"], row)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_answer") from error

    def release(self) -> None:
        """Gives the keys back: the unit has ended."""
        if self._mine:
            self._taken -= self._mine
            self._mine = None


class SqliteAnswers:
    """The answers that were kept."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, before: float) -> None:
        """Removes the answers whose time was over before a moment."""

        def remove(connection: sqlite3.Connection) -> int:
            return connection.execute(queries()["forget_answers"], (before, _CHUNK)).rowcount

        while await self._database.write(remove, is_lazy=True) == _CHUNK:
            pass
