"""The requests with a key, on PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from zlib import crc32

from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.adapters.postgres.text import indexed
from torpor.ports.requests import Answer, Turn

if TYPE_CHECKING:
    from torpor.adapters.postgres.database import Database
    from torpor.adapters.postgres.transaction import Transaction

_CHUNK = 5_000


class PostgresRequests:
    """The requests of one unit. A key is taken by a lock that ends with the transaction."""

    __slots__ = ("_database", "_transaction")

    def __init__(self, transaction: Transaction, database: Database) -> None:
        self._transaction = transaction
        self._database = database

    async def take(self, place: str, key: str, now: float) -> Turn:
        """Takes the key until the unit ends, unless another unit has it."""
        connection = await self._transaction.connection()
        names = indexed(place), indexed(key)
        digest = crc32("\n".join(names).encode()) - 2**31  # as PostgreSQL's integer
        try:
            row = await connection.fetchrow(self._database.queries["take"], *names, digest, now)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_answer") from error
        if row is None:
            return Turn(is_taken=True)
        fingerprint, status, headers, body = row
        if fingerprint is None:
            return Turn()
        return Turn(Answer(fingerprint, status, [(name, value) for name, value in json.loads(headers)], body))

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        """Keeps the answer for a key that was taken."""
        connection = await self._transaction.connection()
        names, headers = (indexed(place), indexed(key)), json.dumps(answer.headers)
        row = *names, answer.fingerprint, answer.status, headers, answer.body, until
        try:
            await connection.execute(self._database.queries["keep_answer"], *row)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_answer") from error


class PostgresAnswers:
    """The answers that were kept."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def forget(self, before: float) -> None:
        """Removes the answers whose time was over before a moment."""
        await self._database.remove(self._database.queries["forget_answers"], before, _CHUNK)
