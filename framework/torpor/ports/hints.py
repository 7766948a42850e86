"""The hints' port: one process tells the others on its database that there is something to publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Hints(Protocol):
    """Hints are never required: polling is the truth. A lost one costs the poll's second, and nothing else."""

    def tell(self) -> None:
        """Hints that something was committed. Returns at once, never raises; many in short time are told as one."""
        ...

    async def listen(self, heard: Callable[[], None]) -> None:
        """Calls `heard` for what others tell, until cancelled. Returns at once from a store that cannot hear; raises
        StoreUnavailable when it can hear no more."""
        ...
