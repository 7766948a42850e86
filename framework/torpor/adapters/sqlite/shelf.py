"""The shelf on SQLite: shared by the processes that have the file."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from torpor.adapters.sqlite.queries import queries
from torpor.ports.shelf import ABSENT, Placed, ShelfPromises, check_size

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from torpor.adapters.sqlite.database import Database

MOST_BYTES = 268_435_456
_OVERHEAD = 200  # bytes of a row beside its value
_TRIM_EVERY = 500  # values that are put


class SqliteShelf:
    """A table of values. None waits for the disk: what is lost when the machine dies can be made again."""

    def __init__(self, database: Database, *, most_bytes: int = MOST_BYTES, trim_every: int = _TRIM_EVERY) -> None:
        self.promises = ShelfPromises(
            is_shared=not database.is_memory, is_persistent=not database.is_memory, resolution=0.0
        )
        self._database = database
        self._most = most_bytes
        self._trim_every = trim_every
        self._puts = 0

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        found: dict[str, Placed] = {}
        statement, now = queries()["shelf_find"], self._database.clock.time()
        for key in keys:
            for value, revision in await self._database.reader.read(statement, (_stored(key), now)):
                found[key] = Placed(value, revision)
        return found

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        check_size(key, value)
        now = self._database.clock.time()
        given = random.getrandbits(62) + 1  # tells values apart, and keeps no secret
        row: tuple[object, ...] = (_stored(key), value, given, now + seconds, len(value) + len(key) + _OVERHEAD)
        if revision is None:
            name = "shelf_put"
        elif revision == ABSENT:
            name, row = "shelf_add", (*row, now)
        else:
            name, row = "shelf_replace", (*row, now, revision)
        self._puts += 1
        is_trimming = self._puts % self._trim_every == 0

        def change(connection: sqlite3.Connection) -> int:
            changed = connection.execute(queries()[name], row).rowcount
            if is_trimming:
                connection.execute(queries()["shelf_trim"], (now, self._most))
            return changed

        return given if await self._database.write(change, is_lazy=True) else None

    async def remove(self, keys: Sequence[str]) -> None:
        await self._database.write_rows("shelf_remove", [(_stored(key),) for key in keys], is_lazy=True)


def _stored(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
