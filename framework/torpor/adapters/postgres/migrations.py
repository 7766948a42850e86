"""Brings a PostgreSQL database's tables up to date, and tells when they do not fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from zlib import crc32

from torpor.adapters.postgres.errors import DRIVER_ERRORS, is_outage, refusal, told
from torpor.adapters.postgres.options import quoted
from torpor.adapters.postgres.parameters import check_migration
from torpor.adapters.postgres.queries import MIGRATIONS, queries, text
from torpor.kernel.errors import SchemaMismatch, StatementFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.adapters.postgres.options import PostgresOptions

_OURS = "torpor/"
_TABLE = "torpor_migration"
_OTHER_DIALECT = ".sqlite.sql"


class Script:
    """All migrations that there are: names, texts and checksums."""

    __slots__ = ("checksums", "texts")

    def __init__(self, own: Mapping[str, str], schema: str) -> None:
        mine = {name: own[name] for name in sorted(own) if not name.endswith(_OTHER_DIALECT)}
        self.texts = {_OURS + name: text(name, schema) for name in MIGRATIONS} | mine
        # Of ours the text before the schema's name is put in, which may be renamed.
        plain = {_OURS + name: text(name) for name in MIGRATIONS} | mine
        self.checksums = {name: _checksum(sql) for name, sql in plain.items()}


async def check(connection: Any, schema: str, *, place: str) -> None:
    """Raises SchemaMismatch unless the framework's tables are those that this version expects."""
    applied = await _applied(connection, schema)
    missing = [name for name in MIGRATIONS if _OURS + name not in applied]
    if missing:
        raise SchemaMismatch(
            f"{place} lacks Torpor's tables ({', '.join(missing)}). Run `torpor migrate` before the service starts."
        )
    _refuse_newer(applied, place)


async def apply(connection: Any, script: Script, options: PostgresOptions, *, place: str) -> list[str]:
    """Applies what is missing: the framework's, then the service's own in order of name. Returns their names.

    The service's own that were applied and are not in the script are left alone, so that older code can be put back.
    """
    async with connection.transaction():
        applied = await _applied(connection, options.schema)
    _refuse_newer(applied, place)
    for name, checksum in script.checksums.items():
        if applied.get(name, checksum) != checksum:
            raise SchemaMismatch(
                f"{place}: the migration {name!r} has been edited after it was applied. "
                "Give it its old text back, and put the change into a migration of its own."
            )
    missing = [name for name in script.texts if name not in applied]
    return [name for name in missing if await _apply_one(connection, name, script, options)]


async def _apply_one(connection: Any, name: str, script: Script, options: PostgresOptions) -> bool:
    """One migration in one transaction; False when another process has applied it meanwhile."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_lock(options.schema)})")
        await connection.execute(_settings(options))
        if name in await _applied(connection, options.schema):
            return False
        await _run(connection, name, script.texts[name])
        record = queries(options.schema)["record_migration"]
        await connection.execute(record, name, script.checksums[name], time.time())
    return True


async def _run(connection: Any, name: str, sql: str) -> None:
    check_migration(sql)
    try:
        await connection.execute(sql)
    except DRIVER_ERRORS as error:
        refusal(error, sql)  # rids the driver's error of values
        said = f"The migration {name!r} stopped: {told(error)}"
        if is_outage(error):
            raise StoreUnavailable(f"{said}. Nothing of it was applied; run it again.") from error
        raise StatementFailed(f"{said}. Nothing of it was applied; mend it and run it again.") from error


def _settings(options: PostgresOptions) -> str:
    """What a migration runs under: the schema to make tables in, and no end to its patience."""
    lines = ["SET LOCAL idle_in_transaction_session_timeout = 0"]
    if options.schema != "public":
        lines.insert(0, f"CREATE SCHEMA IF NOT EXISTS {quoted(options.schema)}")
        lines.append(f"SET LOCAL search_path = {options.settings['search_path']}")
    return "; ".join(lines)


async def _applied(connection: Any, schema: str) -> dict[str, str]:
    """Names and checksums; nothing when the database is new."""
    named = queries(schema)
    if not await connection.fetchval(named["has_table"], schema, _TABLE):
        return {}
    return {row["name"]: row["checksum"] for row in await connection.fetch(named["applied"])}


def _refuse_newer(applied: Mapping[str, str], place: str) -> None:
    newer = [name for name in applied if name.startswith(_OURS) and name.removeprefix(_OURS) not in MIGRATIONS]
    if newer:
        raise SchemaMismatch(
            f"{place} was migrated by a newer Torpor ({', '.join(sorted(newer))}), whose tables this version does not "
            "know. Upgrade torpor to at least that version."
        )


def _lock(schema: str) -> int:
    """The number of the lock under which one at a time migrates a schema."""
    return 0x70_72_6F_74 << 31 | crc32(schema.encode())


def _checksum(sql: str) -> str:
    """Enough to notice an edit, whatever the line ends; there is no adversary to withstand."""
    data = sql.replace("\r\n", "\n").encode()
    return f"{crc32(data):08x}-{len(data)}"
