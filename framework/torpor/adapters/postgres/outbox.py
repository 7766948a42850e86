"""The outbox log on PostgreSQL: append-only, in parts that take turns and are emptied whole."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg

from torpor.adapters.postgres.rows import log_entries, parked_columns
from torpor.adapters.postgres.text import read, stored
from torpor.kernel.errors import LeaseLost
from torpor.ports.outbox import LogState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.postgres.database import Database
    from torpor.kernel.message import ParkedMessage
    from torpor.ports.outbox import LogEntry

_PARTS = 4  # as the migration makes them
_SCAN = 5_000
_AT_ONCE = 250


class PostgresOutbox:
    """The committed messages to publish, in shards that each have an order.

    Nearly always the relay reads the part alone that rows are appended to: each part more costs it as much again. What
    it reads tells whether that was enough, in the same snapshot.
    """

    __slots__ = ("_database", "_part")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._part: int | None = None  # the only one to read, when that is known

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        """Rows past the relay's cursors, in order of position. Raises LeaseLost when the epoch is another."""
        reached = [past.get(shard, 0) for shard in range(self._database.shards)] if past else []
        state, rows = await self._read(limit, reached)
        if self._part is not None and (state[1] or state[0] != self._part):
            self._part = None
            state, rows = await self._read(limit, reached)
        self._part = None if state[1] else state[0]
        if epoch is not None and state[2] != str(epoch):
            raise _lost(epoch, state[2])
        entries: list[LogEntry] = []
        for start in range(0, len(rows), _AT_ONCE):
            if start:
                await asyncio.sleep(0)  # a large batch keeps nobody else from the loop
            entries += log_entries(rows[start : start + _AT_ONCE])
        if state[-1] is not None:
            _leave_out(entries, json.loads(state[-1]))
        return entries

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        """Moves the cursors, never back, and parks what was refused. Raises LeaseLost when the epoch is another."""
        named = self._database.queries
        parameters = list(positions), list(positions.values()), epoch
        if not parked:
            count = (await self._database.fetch(named["advance"], *parameters))[0][0]
        else:
            async with self._database.transaction("torpor_parked") as connection:
                count = await connection.fetchval(named["advance"], *parameters)
                if count == 1:
                    await connection.execute(named["park"], *parked_columns(parked))
        if count == 1:
            return
        held = await self._database.fetch(named["keeper_epoch"])
        raise _lost(epoch, held[0][0] if held else None)

    async def trim(self, *, published: float, admitted: float) -> None:
        """Empties the parts that are published and old as a whole, gives the turn on when half of the time is over,
        and removes old ids from the inboxes."""
        now = self._database.clock.time()
        for part in range(_PARTS):
            await self._empty(part, published, now)
        await self._give_turn((published + now) / 2)
        await self._database.remove(self._database.queries["trim_inbox"], admitted, _SCAN)

    async def state(self) -> LogState:
        """Counts the log."""
        named = self._database.queries
        async with self._database.apart("torpor_outbox") as connection:
            kept, kept_since, waiting, waiting_since = await connection.fetchrow(named["log_state"])
            cursors = dict(await connection.fetch(named["cursors"]))
        return LogState(kept=kept, kept_since=kept_since, waiting=waiting, waiting_since=waiting_since, cursors=cursors)

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        """How many rows of each topic a replay would publish again."""
        only = None if topic is None else stored(topic)
        async with self._database.apart("torpor_outbox") as connection:
            rows = await connection.fetch(self._database.queries["published_since"], since, only)
        return {read(name): count for name, count in rows}

    async def replay(self, since: float, topic: str | None = None) -> None:
        """Moves the cursors back to before the first row of that time, and raises the keeper's epoch."""
        named = self._database.queries
        async with self._database.apart("torpor_outbox") as connection:
            firsts = await connection.fetch(named["first_since"], since)
        shards, positions = [row[0] for row in firsts], [row[1] for row in firsts]
        async with self._database.transaction("torpor_cursor") as connection:
            await connection.execute(named["raise_epoch"])
            await connection.execute(named["rewind"], shards, positions, None if topic is None else stored(topic))

    async def _read(self, limit: int, reached: Sequence[int]) -> tuple[Any, list[Any]]:
        """The state of the log, and the rows."""
        rows = await self._database.fetch(self._database.pending(self._part), limit, reached)
        return rows[0], rows[1:]

    async def _empty(self, part: int, before: float, now: float) -> None:
        """Empties a part, if it is time. Appends to it wait a moment at most: a lock that cannot be had is left."""
        named = self._database.queries
        is_old = named["is_old"].replace("{part}", str(part))
        # A row from beyond the window ahead tells nothing of its age: a clock was wrong.
        ages = before, now + abs(now - before)
        if not (await self._database.fetch(is_old, *ages))[0][0]:
            return
        try:
            async with self._database.transaction("torpor_outbox", on_units=True) as connection:
                await connection.execute(named["lock_part"].replace("{part}", str(part)))
                if await connection.fetchval(is_old, *ages):
                    await connection.execute(named["empty_part"].replace("{part}", str(part)))
        except asyncpg.LockNotAvailableError:
            return

    async def _give_turn(self, since: float) -> None:
        """Lets the next part take the appends, if the one whose turn it is has rows from before a time."""
        named = self._database.queries
        ((turn,),) = await self._database.fetch(named["turn"])
        ((first,),) = await self._database.fetch(named["first_at"].replace("{part}", str(turn)))
        if first is None or first >= since:
            return
        for part in ((turn + step) % _PARTS for step in range(1, _PARTS)):
            if not await self._database.fetch(named["has_rows"].replace("{part}", str(part))):
                await self._give_turn_to(part)
                return

    async def _give_turn_to(self, part: int) -> None:
        named = self._database.queries
        try:
            async with self._database.transaction("torpor_turn", on_units=True) as connection:
                await connection.execute(named["lock_shards"])
                await connection.execute(named["mark_turn"])
                await connection.execute(named["give_turn"], part)
        except asyncpg.LockNotAvailableError:
            return


def _leave_out(entries: Sequence[LogEntry], replayed: Mapping[str, tuple[int, str]]) -> None:
    """Marks what a replay of one topic passes over."""
    for entry in entries:
        reached, topic = replayed.get(str(entry.shard), (0, ""))
        entry.is_left_out = entry.position <= reached and stored(entry.message.topic) != topic


def _lost(epoch: int, held: object) -> LeaseLost:
    now = "nobody has taken it" if held is None else f"its epoch is {held}"
    return LeaseLost(f"The keeper's lease of epoch {epoch} is lost: {now}. Acquire it before publishing.")
