"""The leases' port."""

from __future__ import annotations

from typing import Protocol


class Holding:
    """Who holds a lease: the holder is None once it was released or has run out."""

    __slots__ = ("epoch", "holder")

    def __init__(self, holder: str | None, epoch: int) -> None:
        self.holder = holder
        self.epoch = epoch


class Leases(Protocol):
    """One holder at a time of a named duty. Each takeover raises the epoch, and an old epoch writes nothing."""

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """Takes or renews the lease; returns its epoch, or None while another holds it."""
        ...

    async def release(self, name: str, holder: str) -> None:
        """Gives the lease up, if it is still held, so that another may take it at once."""
        ...

    async def find(self, name: str) -> Holding | None:
        """Who holds the lease; None when nobody ever has."""
        ...
