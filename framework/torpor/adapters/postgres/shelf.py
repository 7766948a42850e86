"""The shelf on PostgreSQL: each call one statement, by the database's clock."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from torpor.adapters.postgres.database import changed
from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.ports.shelf import ABSENT, Placed, ShelfPromises, check_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.postgres.database import Database

MOST_BYTES = 268_435_456
_OVERHEAD = 200  # bytes of a row beside its value
_LONGEST = 500  # bytes of a key, for an index takes no long ones
_TRIM_EVERY = 500  # values that are put


class PostgresShelf:
    """A table of values that is not logged. It is asked on the connections of units: the relay must not wait for it."""

    def __init__(self, database: Database, *, most_bytes: int = MOST_BYTES, trim_every: int = _TRIM_EVERY) -> None:
        self.promises = ShelfPromises(is_shared=True, is_persistent=True, resolution=0.0)
        self._database = database
        self._most = most_bytes
        self._trim_every = trim_every
        self._puts = 0

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        named = {_stored(key): key for key in keys}
        rows = await self._ask("fetch", "shelf_find", [*named])
        return {named[key]: Placed(value, revision) for key, value, revision in rows}

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        check_size(key, value)
        given = random.getrandbits(62) + 1  # tells values apart, and keeps no secret
        row: tuple[object, ...] = (_stored(key), value, given, seconds, len(value) + _OVERHEAD)
        if revision is None:
            name = "shelf_put"
        elif revision == ABSENT:
            name = "shelf_add"
        else:
            name, row = "shelf_replace", (*row, revision)
        is_there = changed(await self._ask("execute", name, *row))
        self._puts += 1
        if self._puts % self._trim_every == 0:
            await self._ask("execute", "shelf_trim", self._most)
        return given if is_there else None

    async def remove(self, keys: Sequence[str]) -> None:
        await self._ask("execute", "shelf_remove", [_stored(key) for key in keys])

    async def _ask(self, way: str, name: str, *parameters: object) -> Any:
        statement, units = self._database.queries[name], self._database.units
        connection = await units.take()
        try:
            asking = connection.fetch if way == "fetch" else connection.execute
            if not self._database.options.is_pooled:
                return await asking(statement, *parameters)
            async with connection.transaction():  # else a pooler may give each exchange another connection
                return await asking(statement, *parameters)
        except DRIVER_ERRORS as error:
            raise refusal(error, statement) from error
        finally:
            units.give_back(connection)


def _stored(key: str) -> bytes:
    data = key.encode("utf-8", "surrogatepass")
    return data if len(data) <= _LONGEST else b"sha256:" + sha256(data).digest()
