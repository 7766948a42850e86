"""The adapter's SQL, read from its files on first use."""

from __future__ import annotations

import os
from functools import cache, lru_cache

OURS = "torpor/"  # before the names of the framework's migrations, in the table of those that were applied
# The framework's migrations, in order. A list, so that to start the store no folder has to be searched.
MIGRATIONS = (
    "0001_core.sql",
    "0002_timers.sql",
    "0003_outbox.sql",
    "0004_requests.sql",
    "0005_parked.sql",
    "0006_queues.sql",
    "0007_shelf.sql",
)


@cache
def text(name: str) -> str:
    """One file of the `sql` folder. Read through the module's loader, which knows zip files too; importlib.resources
    would do the same with 24 more modules, 10 ms of a cold start."""
    path = os.path.join(os.path.dirname(__file__), "sql", name)  # noqa: PTH118, PTH120  # a loader wants text
    data: bytes = __loader__.get_data(path)  # type: ignore[name-defined]  # each module has its loader
    return data.decode()


@cache
def queries() -> dict[str, str]:
    """The named blocks of `queries.sql`, without their comments."""
    blocks: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text("queries.sql").splitlines():
        if line.startswith("-- ") and line.endswith(" --"):
            lines = blocks[line[3:-3]] = []
        elif not line.startswith("--"):
            lines.append(line)
    return {name: "\n".join(body).strip() for name, body in blocks.items()}


@lru_cache(maxsize=512)
def rows(name: str, count: int) -> str:
    """A query whose `VALUES (…)` is repeated for `count` rows: a third of the cost of a statement for each."""
    head, values = queries()[name].split("VALUES ")
    row, end = values.split(")", 1)
    return f"{head}VALUES {', '.join([row + ')'] * count)}{end}"
