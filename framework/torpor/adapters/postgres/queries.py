"""The adapter's SQL, read from its files on first use."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from torpor.adapters.postgres.options import quoted

# The framework's migrations, in order. A list, so that to start the store no folder has to be searched.
MIGRATIONS = ("0001_core.sql", "0002_outbox.sql", "0003_requests.sql", "0004_parked.sql", "0005_shelf.sql")


@cache
def text(name: str, schema: str | None = None) -> str:
    """One file of the `sql` folder, with our names qualified by a schema, so that no search path leads astray."""
    path = Path(__file__).parent / "sql" / name
    data: bytes = __loader__.get_data(str(path))  # type: ignore[name-defined]  # each module has its loader
    if schema is None:
        return data.decode()
    prefix = quoted(schema)
    return re.sub(r"(?<![.\w])torpor_(?=\w)", lambda _: f"{prefix}.torpor_", data.decode())


@cache
def queries(schema: str) -> dict[str, str]:
    """The named blocks of `queries.sql`, without their comments."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text("queries.sql", schema).splitlines():
        if line.startswith("-- ") and line.endswith(" --"):
            lines = blocks[line[3:-3]] = []
        elif not line.startswith("--"):
            lines.append(line)
    return {name: "\n".join(body).strip() for name, body in blocks.items()}


@cache
def pending(schema: str, shards: int, part: int | None) -> str:
    """The rows past the cursors of all shards, in order of position: those of one part of the log, or all. A row with
    the state of the log comes with them."""
    named = queries(schema)
    one = named["pending"].replace("{part}", "" if part is None else f"_{part}")
    every = "\nUNION ALL\n".join(f"({one.replace('{shard}', str(shard))})" for shard in range(shards))
    rows = f"SELECT * FROM (\n{every}\n) AS waiting ORDER BY pos LIMIT $1"  # noqa: S608  # our own blocks and numbers
    return f"{named['pending_state']}\nUNION ALL\n({rows})"
