"""What can be tuned of the PostgreSQL store, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_ISOLATIONS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
_FEWEST = 1
_NAME_LENGTH = 63


class PostgresOptions:
    """The knobs of the PostgreSQL store. Immutable by convention.

    `schema` is where Torpor's tables are, and what the service's own are looked up in first. `connections` is how many
    units may be open at once; two more serve the relay and its like, and in the keeper one more listens for hints.
    `is_pooled` says that a pooler in transaction mode (PgBouncer) stands before the database: then no statement stays
    prepared, which costs an exchange each.
    `command_seconds` is the longest a statement may take before the database counts as lost, `silence_seconds` how long
    the server's machine may leave unconfirmed what the network brings it, `wait_seconds` the longest
    that a unit waits for a connection, `idle_seconds` how long PostgreSQL lets a unit hold its locks while nothing is
    asked of it. The isolation of units need not be raised for Torpor's sake; what a stricter one refuses is retried.
    """

    __slots__ = (
        "begin",
        "command_seconds",
        "connections",
        "idle_seconds",
        "is_pooled",
        "isolation",
        "schema",
        "silence_seconds",
        "wait_seconds",
    )

    # Eight knobs, all by their words: each is one that an operator turns by itself.
    def __init__(
        self,
        *,
        schema: str = "public",
        connections: int = 4,
        is_pooled: bool = False,
        isolation: str = "READ COMMITTED",
        command_seconds: float = 60.0,
        silence_seconds: float = 10.0,
        wait_seconds: float = 30.0,
        idle_seconds: float = 60.0,
    ) -> None:
        problems = []
        if isolation not in _ISOLATIONS:
            problems.append(f"PostgresOptions(isolation={isolation!r}): expected one of {', '.join(_ISOLATIONS)}.")
        if not schema or not schema.isprintable() or "'" in schema or len(schema.encode()) > _NAME_LENGTH:
            problems.append(
                f"PostgresOptions(schema={schema!r}): expected a name of 1 to {_NAME_LENGTH} bytes without apostrophes."
            )
        if connections < _FEWEST:
            problems.append(f"PostgresOptions(connections={connections}): expected at least {_FEWEST}.")
        if problems:
            raise ConfigurationError(problems)
        self.schema = schema
        self.connections = connections
        self.is_pooled = is_pooled
        self.isolation = isolation
        self.command_seconds = command_seconds
        self.silence_seconds = silence_seconds
        self.wait_seconds = wait_seconds
        self.idle_seconds = idle_seconds
        self.begin = self._begin()

    @property
    def settings(self) -> dict[str, str]:
        """What each transaction needs set. Recursive queries look dear to the planner, and compiling them is."""
        settings = {"jit": "off", "idle_in_transaction_session_timeout": f"{self.idle_seconds * 1000:.0f}"}
        if self.schema != "public":
            settings["search_path"] = f"{quoted(self.schema)}, public"
        return settings

    @property
    def reading(self) -> dict[str, str]:
        """What the reads of the relay and its like need set. Each follows an index to its first rows; the planner,
        which does not know how far the cursors are, would rather read and sort all that is there."""
        return {**self.settings, "enable_bitmapscan": "off", "enable_sort": "off"}

    def _begin(self) -> str:
        """What begins a unit. A pooler refuses or forgets what is set on a connection, so each transaction sets it."""
        begin = f"BEGIN ISOLATION LEVEL {self.isolation}"
        return f"{begin}; {local(self.settings)}" if self.is_pooled else begin


def local(settings: Mapping[str, str]) -> str:
    """Sets settings until the transaction ends."""
    return "; ".join(f"SET LOCAL {name} = {value}" for name, value in settings.items())


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
