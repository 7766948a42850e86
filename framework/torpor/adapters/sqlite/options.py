"""What can be tuned of the SQLite store, in one place."""

from __future__ import annotations

from torpor.kernel.errors import ConfigurationError

_LEVELS = ("EXTRA", "FULL", "NORMAL")


class SqliteOptions:
    """The knobs of the SQLite store. Immutable by convention.

    `synchronous` FULL makes each commit wait for the disk; NORMAL may lose the last commits when the machine (not the
    process) dies, and then promises nothing about them. `busy_seconds` is how long to wait for another process's
    write before StoreUnavailable. `checkpoint_pages` is the length of the write-ahead log from which it is folded
    back into the file.
    """

    __slots__ = ("busy_seconds", "cache_kib", "checkpoint_pages", "has_foreign_keys", "synchronous")

    def __init__(
        self,
        *,
        synchronous: str = "FULL",
        busy_seconds: float = 5.0,
        cache_kib: int = 8192,
        checkpoint_pages: int = 1000,
        has_foreign_keys: bool = True,
    ) -> None:
        if synchronous not in _LEVELS:
            raise ConfigurationError(
                [f"SqliteOptions(synchronous={synchronous!r}): expected one of {', '.join(_LEVELS)}."]
            )
        self.synchronous = synchronous
        self.busy_seconds = busy_seconds
        self.cache_kib = cache_kib
        self.checkpoint_pages = checkpoint_pages
        self.has_foreign_keys = has_foreign_keys
