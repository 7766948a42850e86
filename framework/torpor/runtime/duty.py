"""A duty: work that a running service does beside its handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torpor.runtime.host import Host


class Duty(Protocol):
    """Background work of a host. A feature is one of these."""

    def committed(self, published: int, parked: int) -> None:
        """A unit has committed so many outbox and parked rows. Must not wait."""
        ...

    async def run(self, host: Host) -> None:
        """Does the work until it is cancelled. Comes back by itself when a broker or a database does."""
        ...

    async def finish(self, host: Host) -> None:
        """Does what a clean stop leaves to do, after the handlers have come to rest."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do right now."""
        ...
