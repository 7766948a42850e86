"""The keeper's lease: taken, renewed in good time, given up when the last of those who work under it is done."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable
from torpor.runtime.ids import new_id

if TYPE_CHECKING:
    from torpor.runtime.host import Host

KEEPER = "keeper"
SECONDS = 3.0
_ASK_AGAIN = 0.5  # seconds after which one who waits for it asks again, however many duties want to know


class Lease:
    """One process's hold on the keeper's lease, shared by its duties: whichever comes around renews it, so that one
    that works long does not lose it. `epoch` is None while another process has it."""

    __slots__ = ("_ask_at", "_sharers", "_until", "epoch", "holder")

    def __init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}/{new_id()}"  # an operator is to find it
        self.epoch: int | None = None
        self._ask_at = 0.0
        self._sharers = 0
        self._until = 0.0

    def join(self) -> None:
        """Counts one more who works under it, and will leave."""
        self._sharers += 1

    async def hold(self, host: Host) -> int | None:
        """Takes the lease, or renews it when half of its time is over. Returns the epoch under which to work, which
        the work must be fenced by from its first read; None while the lease is another's."""
        now = host.clock.time()
        is_wanted = now >= self._ask_at if self.epoch is None else now > self._until - SECONDS / 2
        if is_wanted or abs(now - self._until) > 2 * SECONDS:  # or a clock has jumped
            self.epoch = await host.store.leases.acquire(KEEPER, self.holder, SECONDS)
            self._until = now + SECONDS
            self._ask_at = now + _ASK_AGAIN
        return self.epoch

    def lose(self, epoch: int) -> None:
        """Knows that an epoch is over; asks again at once."""
        if self.epoch == epoch:
            self.epoch = None
            self._ask_at = 0.0

    async def leave(self, host: Host) -> None:
        """Is done with it. The last to leave gives the lease up, so that another process may take it at once."""
        self._sharers -= 1
        if self._sharers:
            return
        self.epoch = None
        try:
            await host.store.leases.release(KEEPER, self.holder)
        except StoreUnavailable as error:
            host.log.warning("the duties go on elsewhere once the lease has run out: %s", error)
