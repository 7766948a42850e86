"""Brings a SQLite database's tables up to date, and tells when they do not fit."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from zlib import crc32

from torpor.adapters.sqlite.errors import DRIVER_ERRORS, first_line, is_outage
from torpor.adapters.sqlite.parameters import translate
from torpor.adapters.sqlite.queries import MIGRATIONS, OURS, queries, text
from torpor.kernel.errors import SchemaMismatch, StatementFailed, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OTHER_DIALECT = ".postgres.sql"


def check(connection: sqlite3.Connection, path: str) -> None:
    """Raises SchemaMismatch unless the framework's tables are those that this version expects."""
    applied = _applied(connection)
    missing = [name for name in MIGRATIONS if OURS + name not in applied]
    if missing:
        raise SchemaMismatch(
            f"{path} lacks Torpor's tables ({', '.join(missing)}). Run `torpor migrate` before the service starts."
        )
    _refuse_newer(applied, path)


def apply(connection: sqlite3.Connection, own: Mapping[str, str], *, path: str, at: float) -> list[str]:
    """Applies what is missing: the framework's, then the service's own in order of name. Returns their names.

    The service's own that were applied and are not in `own` are left alone, so that older code can be put back.
    """
    wanted = {OURS + name: text(name) for name in MIGRATIONS}
    wanted |= {name: own[name] for name in sorted(own) if not name.endswith(_OTHER_DIALECT)}
    applied = _applied(connection)
    _refuse_newer(applied, path)
    for name, sql in wanted.items():
        if name in applied and applied[name] != _checksum(sql):
            raise SchemaMismatch(
                f"{path}: the migration {name!r} has been edited after it was applied. "
                "Give it its old text back, and put the change into a migration of its own."
            )
    missing = [name for name in wanted if name not in applied]
    return [name for name in missing if _apply_one(connection, name, wanted[name], at)]


def _apply_one(connection: sqlite3.Connection, name: str, sql: str, at: float) -> bool:
    """One migration in one transaction; False when another process has applied it meanwhile."""
    keys = connection.execute("PRAGMA foreign_keys").fetchone()[0]
    connection.execute("PRAGMA foreign_keys=OFF")  # so that a table can be made anew without emptying its children
    try:
        connection.execute("BEGIN IMMEDIATE")
        if name in _applied(connection):
            return False
        for statement in _statements(sql):
            _run(connection, name, statement)
        _refuse_orphans(connection, name)
        connection.execute(queries()["record_migration"], (name, _checksum(sql), at))
        connection.execute("COMMIT")
        return True
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute(f"PRAGMA foreign_keys={keys}")


def _run(connection: sqlite3.Connection, name: str, statement: str) -> None:
    try:
        connection.execute(translate(statement)).fetchall()
    except DRIVER_ERRORS as error:
        told = f"The migration {name!r} stopped: {error}. Statement: {first_line(statement)}"
        if isinstance(error, sqlite3.Error) and is_outage(error):
            raise StoreUnavailable(f"{told}. Nothing of it was applied; run it again.") from error
        raise StatementFailed(f"{told}. Nothing of it was applied; mend it and run it again.") from error


def _refuse_orphans(connection: sqlite3.Connection, name: str) -> None:
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    if orphan is not None:
        raise StatementFailed(
            f"The migration {name!r} leaves rows of {orphan[0]!r} that point to no row of {orphan[2]!r}. "
            "Nothing of it was applied; mend it and run it again."
        )


def _applied(connection: sqlite3.Connection) -> dict[str, str]:
    """Names and checksums; nothing when the database is new."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'torpor_migration'"
    if connection.execute(known).fetchone() is None:
        return {}
    return dict(connection.execute(queries()["applied"]).fetchall())


def _refuse_newer(applied: Mapping[str, str], path: str) -> None:
    newer = [name for name in applied if name.startswith(OURS) and name.removeprefix(OURS) not in MIGRATIONS]
    if newer:
        raise SchemaMismatch(
            f"{path} was migrated by a newer Torpor ({', '.join(sorted(newer))}), whose tables this version does not "
            "know. Upgrade torpor to at least that version."
        )


def _statements(sql: str) -> Iterator[str]:
    """The statements of a script. A semicolon inside a literal, a comment or a trigger ends none."""
    start = end = 0
    while (end := sql.find(";", end) + 1) > 0:
        if sqlite3.complete_statement(sql[start:end]):
            yield sql[start:end].strip()
            start = end
    if sql[start:].strip():
        yield sql[start:].strip()


def _checksum(sql: str) -> str:
    """Enough to notice an edit, whatever the line ends; there is no adversary to withstand."""
    data = sql.replace("\r\n", "\n").encode()
    return f"{crc32(data):08x}-{len(data)}"
