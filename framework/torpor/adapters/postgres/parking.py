"""The parked messages on PostgreSQL, for the operator and the redriver: each call in transactions of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.postgres.rows import headers_of, parked_message
from torpor.adapters.postgres.text import read, stored
from torpor.kernel.parked import Edit, Inspection, ParkedQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torpor.adapters.postgres.database import Database
    from torpor.kernel.message import ParkedMessage

_EVERY = ParkedQuery()
_STATES = {"parked": "due_at IS NULL", "waiting": "due_at = 0", "due": "due_at <> 0"}
_FOUND = 50_000  # numbers to hold at once
_CHUNK = 1_000  # rows to change in one transaction, so that units need not wait long


class PostgresParking:
    """The messages set aside."""

    __slots__ = ("_database",)

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        """Rows that may be tried again: first of their queue in their binding, with a `due_at` that has come."""
        return [parked_message(row) for row in await self._database.fetch(self._database.queries["due"], now, limit)]

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        """Rows in order of their number, those above a number."""
        return [parked_message(row) for row in await self._select("parked", query, after=after, limit=limit)]

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        """Makes rows due at a time; returns how many. Those that wait behind their queue stay, and those that are just
        being handled."""
        redrive = self._database.queries["redrive"]
        return sum([await self._database.execute(redrive, numbers, at) async for numbers in self._chunks(query)])

    async def discard(self, query: ParkedQuery) -> int:
        """Deletes rows, so that what waits behind them may go on; returns how many. Those that are just being handled
        stay."""
        discard = self._database.queries["discard"]
        counts = [await self._database.fetch(discard, numbers) async for numbers in self._chunks(query)]
        return sum(rows[0][0] for rows in counts)

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        """How many rows each binding has."""
        where, values = _where(query or _EVERY)
        rows = await self._database.fetch(self._database.queries["count_parked"].format(where=where), *values)
        return {read(binding): count for binding, count in rows}

    async def inspect(self, number: int) -> Inspection | None:
        """One row with its place and its history; None when there is none of that number."""
        rows = await self.list(ParkedQuery(numbers=[number]))
        if not rows:
            return None
        first = await self._database.fetch(self._database.queries["first_of_queue"], number)
        edits = await self._database.fetch(self._database.queries["edits"], number)
        return Inspection(rows[0], first=first[0][0] if first else number, edits=[Edit(*row) for row in edits])

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        """Gives a row's message another payload and other attributes, and keeps its old payload."""
        edit = self._database.queries["edit"]
        return await self._database.execute(edit, number, at, data, headers_of(attributes)) == 1

    async def _chunks(self, query: ParkedQuery) -> AsyncIterator[Sequence[int]]:
        """The numbers that a query means, some at a time, in order."""
        after, found = 0, _FOUND
        while found == _FOUND:
            numbers = [row[0] for row in await self._select("parked_numbers", query, after=after, limit=_FOUND)]
            for start in range(0, len(numbers), _CHUNK):
                yield numbers[start : start + _CHUNK]
            found, after = len(numbers), numbers[-1] if numbers else 0

    async def _select(self, name: str, query: ParkedQuery | None, *, after: int, limit: int) -> Sequence[Any]:
        query = query or _EVERY
        where, values = _where(query, after)
        # A key has few rows as a rule, whose index gives no order; the sum keeps the planner from walking all rows.
        order = "number" if query.key is None else "number + 0"
        statement = self._database.queries[name].format(where=where, order=order, limit=f"${len(values) + 1}")
        return await self._database.fetch(statement, *values, limit)


def _where(query: ParkedQuery, after: int = 0) -> tuple[str, Sequence[object]]:
    """The condition of a query and its values. Only what is asked for stands in it, so that an index is used."""
    asked: tuple[tuple[str, object], ...] = (
        ("number = ANY({}::bigint [])", None if query.numbers is None else list(query.numbers)),
        ("number > {}", after or None),
        ("binding = {}", _stored(query.binding)),
        ("key = {}", _stored(query.key)),
        ("topic = {}", _stored(query.topic)),
        ("type = {}", _stored(query.type)),
        ("strpos(reason, {}) > 0", _stored(query.reason)),
        ("at >= {}", query.since),
        ("at < {}", query.before),
    )
    given = [(condition, value) for condition, value in asked if value is not None]
    conditions = [condition.format(f"${place}") for place, (condition, _) in enumerate(given, 1)]
    if query.state is not None:
        conditions.append(_STATES[query.state])
    return " AND ".join(conditions) or "true", [value for _, value in given]


def _stored(text: str | None) -> str | None:
    return None if text is None else stored(text)
