"""The cleanup: removes what was published, what the inboxes remember and what was answered, once it is old."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.runtime.rounds import Rounds

if TYPE_CHECKING:
    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host
    from torpor.runtime.lease import Lease

INBOX_SECONDS = 8 * 86_400.0  # longer than a stream keeps its messages
_EVERY = 600.0
_LOOK_AGAIN = 60.0  # whether the lease has come here, and whether it is time


class Cleanup:
    """Cleans up now and then, one process at a time. What was published is kept for a replay."""

    def __init__(self, lease: Lease, *, replay_seconds: float) -> None:
        self._lease = lease
        self._lease.join()
        self._replay_seconds = replay_seconds
        self._rounds = Rounds("cleanup")
        self._cleaned_at: float | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no round is under way."""
        return self._rounds.is_idle

    def committed(self, rows: Committed) -> None:
        """Commits do not concern it."""

    async def run(self, host: Host) -> None:
        """Cleans up until cancelled."""
        await self._rounds.run(host, self._clean)

    async def finish(self, host: Host) -> None:
        """Leaves the rest to the next."""
        await self._rounds.end()
        await self._lease.leave(host)

    async def _clean(self, host: Host) -> float:
        now = host.clock.time()
        is_due = self._cleaned_at is None or abs(now - self._cleaned_at) >= _EVERY
        if is_due and await self._lease.hold(host) is not None:
            self._cleaned_at = now
            await host.store.outbox.trim(published=now - self._replay_seconds, admitted=now - INBOX_SECONDS)
            await host.store.answers.forget(now)
        return _LOOK_AGAIN
