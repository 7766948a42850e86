"""The parked messages on SQLite, for the operator and the redriver: read beside the writer, written in short
transactions."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from torpor.adapters.sqlite.queries import queries
from torpor.adapters.sqlite.rows import headers_of, parked_message
from torpor.kernel.parked import Edit, Inspection, ParkedQuery

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torpor.adapters.sqlite.database import Database
    from torpor.kernel.message import ParkedMessage

_EVERY = ParkedQuery()
_STATES = {"parked": "due_at IS NULL", "waiting": "due_at = 0", "due": "due_at <> 0"}
_FOUND = 50_000  # numbers to hold at once
_CHUNK = 500  # rows to change in one transaction, so that units need not wait long


class SqliteParking:
    """The messages set aside."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their queue in their binding, with a `due_at` that has come."""
        rows = await self._database.reader.read(queries()["due"], (now, limit))
        return [parked_message(row) for row in rows]

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number, those above a number."""
        return [parked_message(row) for row in await self._select("parked", query, after=after, limit=limit)]

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        """Makes rows due at a time; returns how many. Those that wait behind their queue stay."""
        write = self._database.write_rows
        return sum([await write("redrive", [(n, at) for n in numbers]) async for numbers in self._chunks(query)])

    async def discard(self, query: ParkedQuery) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many."""

        def remove(connection: sqlite3.Connection, numbers: Sequence[int]) -> int:
            rows = [(number,) for number in numbers]
            connection.executemany(queries()["discard_edits"], rows)
            return connection.executemany(queries()["discard"], rows).rowcount

        write = self._database.write
        return sum([await write(partial(remove, numbers=numbers)) async for numbers in self._chunks(query)])

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        """How many rows each binding has."""
        where, values = _where(query or _EVERY)
        return dict(await self._database.reader.read(queries()["count_parked"].format(where=where), values))

    async def inspect(self, number: int) -> Inspection | None:
        """One row with its place and its history; None when there is none of that number."""
        rows = await self.list(ParkedQuery(numbers=[number]))
        if not rows:
            return None
        first = await self._database.reader.read(queries()["first_of_queue"], (number,))
        edits = await self._database.reader.read(queries()["edits"], (number,))
        return Inspection(rows[0], first=first[0][0] if first else number, edits=[Edit(*row) for row in edits])

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        """Gives a row's message another payload and other attributes, and keeps its old payload."""

        def change(connection: sqlite3.Connection) -> bool:
            connection.execute(queries()["keep_edit"], (number, at))
            return connection.execute(queries()["edit"], (number, data, headers_of(attributes))).rowcount == 1

        return await self._database.write(change)

    async def _chunks(self, query: ParkedQuery) -> AsyncIterator[Sequence[int]]:
        """The numbers that a query means, some at a time, in order."""
        after, found = 0, _FOUND
        while found == _FOUND:
            numbers = [row[0] for row in await self._select("parked_numbers", query, after=after, limit=_FOUND)]
            for start in range(0, len(numbers), _CHUNK):
                yield numbers[start : start + _CHUNK]
            found, after = len(numbers), numbers[-1] if numbers else 0

    async def _select(self, name: str, query: ParkedQuery | None, *, after: int, limit: int) -> Sequence[Any]:
        where, values = _where(query or _EVERY, after)
        return await self._database.reader.read(queries()[name].format(where=where), [*values, limit])


def _where(query: ParkedQuery, after: int = 0) -> tuple[str, Sequence[object]]:
    """The condition of a query and its values. Only what is asked for stands in it, so that an index is used."""
    asked: tuple[tuple[str, object], ...] = (
        ("number IN (SELECT value FROM json_each(?))", _as_json(query.numbers)),
        ("number > ?", after or None),
        ("binding = ?", query.binding),
        ("key = ?", query.key),
        ("topic = ?", query.topic),
        ("type = ?", query.type),
        ("instr(reason, ?) > 0", query.reason),
        ("at >= ?", query.since),
        ("at < ?", query.before),
    )
    given = [(condition, value) for condition, value in asked if value is not None]
    conditions = [condition for condition, _ in given]
    if query.state is not None:
        conditions.append(_STATES[query.state])
    return " AND ".join(conditions) or "true", [value for _, value in given]


def _as_json(numbers: Sequence[int] | None) -> str | None:
    return None if numbers is None else json.dumps(list(numbers))
