"""Holding a lease: taken, renewed in good time, given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.runtime.ids import new_id

if TYPE_CHECKING:
    from torpor.runtime.host import Host

SECONDS = 3.0


class Lease:
    """One process's hold on a named duty. `epoch` is None while another has it."""

    __slots__ = ("_until", "epoch", "holder", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.holder = new_id()
        self.epoch: int | None = None
        self._until = 0.0

    async def hold(self, host: Host) -> bool:
        """Takes the lease, or renews it when half of its time is over; tells whether it is ours."""
        now = host.clock.time()
        if self.epoch is None or now > self._until - SECONDS / 2:
            self.epoch = await host.store.leases.acquire(self.name, self.holder, SECONDS)
            self._until = now + SECONDS
        return self.epoch is not None

    async def let_go(self, host: Host) -> None:
        """Gives the lease up, so that another may take it at once."""
        self.epoch = None
        await host.store.leases.release(self.name, self.holder)
