"""What the run itself knows: what it asked for, what it was told, and what it did to the services."""

from __future__ import annotations

import time
from collections import Counter


class Ledger:
    """The record outside the services."""

    def __init__(self) -> None:
        self.accepted: dict[str, int] = {}  # by key: its last number that was answered as accepted
        self.regretted: set[tuple[str, int]] = set()  # asked for, and never to be
        self.retried = 0
        self.replayed = 0  # answered as before, by their Idempotency-Key
        self.faults: list[tuple[float, str, str]] = []  # when, what, to whom
        self.ends: list[tuple[float, str]] = []  # when the database or the broker was there again
        self.asked: dict[tuple[str, int], str] = {}  # how each request has ended
        self.mended: dict[str, float] = {}
        self.redrives = 0
        self.unclean_stops = 0
        self.longest_stop = 0.0  # seconds from SIGTERM to the end
        self.notes: list[str] = []

    @property
    def messages(self) -> int:
        """How many were accepted."""
        return sum(self.accepted.values())

    def done(self, kind: str, whom: str) -> None:
        """Notes a fault."""
        self.faults.append((time.time(), kind, whom))

    def over(self, what: str) -> None:
        """Notes that a server is there again."""
        self.ends.append((time.time(), what))

    def count(self, *kinds: str) -> int:
        """How many faults of some kinds there were."""
        counts = Counter(kind for _, kind, _ in self.faults)
        return sum(counts[kind] for kind in kinds)

    def as_text(self) -> str:
        """What was done when, a line each."""
        ends = [(at, "over", what) for at, what in self.ends]
        return "".join(f"{at:.3f} {what}: {whom}\n" for at, what, whom in sorted([*self.faults, *ends]))
