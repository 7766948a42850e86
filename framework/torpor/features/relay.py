"""The relay: publishes the committed messages of the outbox log, in order, under a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, LeaseLost, StoreUnavailable
from torpor.kernel.message import ParkedMessage
from torpor.kernel.parked import ParkedQuery
from torpor.runtime.context import Committed
from torpor.runtime.rounds import POLL_SECONDS, Rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery, Message
    from torpor.ports.outbox import LogEntry
    from torpor.runtime.host import Host
    from torpor.runtime.lease import Lease

PARKED_AS = "outbox"  # the binding under which a message that the broker refuses is parked
_BEHIND = "waits behind its key"
_BATCH = 500
_LARGEST_BATCH = 2_000  # of a backlog of small messages: each batch costs a commit
_SMALL = 1_000  # bytes of a small message
_DUE = 1_000
_ALL = 100_000
_REST_SECONDS = 1.0


class Relay:
    """Reads past its cursors, publishes in batches, and moves the cursors under its epoch.

    The process that commits wakes it; polling finds what another process has committed. A message that the broker
    refuses is parked, and what follows on its key waits behind it.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lease.join()
        self._rounds = Rounds("relay")
        self._batch = _BATCH
        self._epoch = 0  # of what is known of the parked
        self._has_parked = False
        self._held: set[str] = set()

    @property
    def is_idle(self) -> bool:
        """Whether all that was committed here is published."""
        return self._rounds.is_idle

    def wake(self) -> None:
        """Looks at once for what another process has committed."""
        self._rounds.wake()

    def committed(self, rows: Committed) -> None:
        """Wakes the relay when there is something to publish."""
        if rows.published:
            self._rounds.wake()

    async def rest(self, host: Host) -> None:
        """Returns once what was committed here is published, if it can be now and the lease is ours."""
        await self._rounds.rest(host, _REST_SECONDS)

    def redrive(self, delivery: Delivery) -> None:
        """Looks at once for parked messages that are due again, under the lease."""
        self._rounds.wake()

    async def run(self, host: Host) -> None:
        """Publishes whenever there is something, until cancelled."""
        host.deliverers[PARKED_AS] = self.redrive
        await self._rounds.run(host, self._publish_all)

    async def finish(self, host: Host) -> None:
        """Publishes what is left, and is done with the lease."""
        await self._rounds.end()
        try:
            await self._publish_all(host)
        except (BrokerUnavailable, StoreUnavailable) as error:
            host.log.warning("the outbox keeps what is not published yet: %s", error)
        finally:
            await self.lease.leave(host)

    async def _publish_all(self, host: Host) -> float:
        epoch = None
        try:
            while (epoch := await self.lease.hold(host)) is not None:
                if epoch != self._epoch:
                    await self._learn(host, epoch)
                if self._has_parked:
                    await self._take_back(host)
                entries = await host.store.outbox.pending(self._batch, epoch)
                if not entries:
                    break
                await self._publish(host, entries, epoch)
                self._batch = _next_batch(entries)
        except LeaseLost:
            self.lease.lose(epoch or 0)
            self._rounds.wake()
        return POLL_SECONDS

    async def _learn(self, host: Host, epoch: int) -> None:
        """Reads what another relay has parked."""
        parked = await host.store.parking.list(ParkedQuery(binding=PARKED_AS), limit=_ALL)
        self._held = {row.message.key for row in parked if row.message.key is not None}
        self._has_parked = bool(parked)
        self._epoch = epoch

    async def _publish(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
        messages = [entry.message for entry in entries if not entry.is_left_out]
        free = [message for message in messages if message.key not in self._held]
        behind = [message for message in messages if message.key in self._held]
        refusals = await host.broker.publish(free)
        refused = [(free[index], str(refusals[index])) for index in sorted(refusals)]
        parked = self._set_aside(host, refused, behind) if refused or behind else ()
        positions = {entry.shard: entry.position for entry in entries}
        self._epoch = 0  # should it be unknown what of this is in the tables, they are read again
        await host.store.outbox.advance(positions, epoch, parked)
        self._epoch = epoch
        host.metrics.published += len(free) - len(refusals)
        host.metrics.refused += len(refusals)

    def _set_aside(
        self, host: Host, refused: Sequence[tuple[Message, str]], behind: Sequence[Message]
    ) -> Sequence[ParkedMessage]:
        """What was refused, and what follows on the same keys, as parked messages."""
        self._has_parked = True
        now = host.clock.time()
        rows: list[ParkedMessage] = []
        for message, reason in (*refused, *((message, _BEHIND) for message in behind)):
            is_first = message.key not in self._held
            told, due_at = (reason, None) if is_first else (_BEHIND, 0.0)
            rows.append(ParkedMessage(PARKED_AS, message, reason=told, at=now, attempts=1, due_at=due_at))
            if message.key is not None:
                self._held.add(message.key)
            if is_first:
                host.log.error("parked message %s for %s: %s", message.id, message.topic, reason)
        return rows

    async def _take_back(self, host: Host) -> None:
        """Publishes parked messages that are due. One that is refused again keeps its place among the parked."""
        while rows := [row for row in await host.store.parking.due(host.clock.time(), _DUE) if _is_ours(row)]:
            for row in rows:
                await self._publish_again(host, row)
            host.committed(Committed(parked=len(rows)))
        self._has_parked = bool(await host.store.parking.list(ParkedQuery(binding=PARKED_AS), limit=1))

    async def _publish_again(self, host: Host, row: ParkedMessage) -> None:
        async with host.store.unit() as unit:
            if await unit.claim(row.number):
                refusals = await host.broker.publish([row.message])
                if refusals:
                    await unit.append([], [_parked_again(row, str(refusals[0]), host.clock.time())])
                await unit.commit()
        key = row.message.key
        if key is not None and not await host.store.parking.list(ParkedQuery(binding=PARKED_AS, key=key), limit=1):
            self._held.discard(key)


def _next_batch(entries: Sequence[LogEntry]) -> int:
    """How many to read next: many after a full batch of small ones, so that no batch is large in bytes."""
    size = sum(len(entry.message.data) for entry in entries)
    return _LARGEST_BATCH if len(entries) >= _BATCH and size <= len(entries) * _SMALL else _BATCH


def _is_ours(row: ParkedMessage) -> bool:
    return row.binding == PARKED_AS


def _parked_again(row: ParkedMessage, reason: str, at: float) -> ParkedMessage:
    return ParkedMessage(PARKED_AS, row.message, reason=reason, at=at, attempts=row.attempts + 1, number=row.number)
