"""The relay: publishes the committed messages of the outbox log, in order, under a lease."""

from __future__ import annotations

import asyncio
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
_GROWTH = 8  # how much larger a batch is in a backlog of small messages: each batch costs a commit
_SMALL = 1_000  # bytes of a small message
_DUE = 1_000
_ALL = 100_000
_REST_SECONDS = 1.0


class Relay:
    """Reads past its cursors, publishes in batches, and moves the cursors under its epoch.

    The process that commits wakes it; polling finds what another process has committed. A message that the broker
    refuses is parked, and what follows on its key waits behind it. In a backlog the next batch is read while one is on
    its way, and published once the cursors have moved past that one: then no other epoch has come between.
    """

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lease.join()
        self.batch = _BATCH  # how many rows to read at a time; more in a backlog of small ones
        self._rounds = Rounds("relay")
        self._is_behind = False
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
        ahead: Sequence[LogEntry] = ()
        try:
            while (epoch := await self.lease.hold(host)) is not None:
                if epoch != self._epoch:
                    await self._learn(host, epoch)
                    ahead = ()
                if self._has_parked:
                    await self._take_back(host)
                    ahead = ()
                entries = ahead or await host.store.outbox.pending(self._limit, epoch)
                if not entries:
                    break
                ahead = await self._publish_and_read(host, entries, epoch)
        except LeaseLost:
            self.lease.lose(epoch or 0)
            self._rounds.wake()
        return POLL_SECONDS

    @property
    def _limit(self) -> int:
        return self.batch * _GROWTH if self._is_behind else self.batch

    async def _learn(self, host: Host, epoch: int) -> None:
        """Reads what another relay has parked."""
        parked = await host.store.parking.list(ParkedQuery(binding=PARKED_AS), limit=_ALL)
        self._held = {row.message.key for row in parked if row.message.key is not None}
        self._has_parked = bool(parked)
        self._epoch = epoch

    async def _publish_and_read(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> Sequence[LogEntry]:
        """Publishes a batch. Returns the next one, read meanwhile, in a backlog: of small messages, so that not much is
        held at a time."""
        self._is_behind = len(entries) >= self.batch and _size(entries) <= len(entries) * _SMALL
        if not self._is_behind or self._has_parked:
            await self._publish(host, entries, epoch)
            return ()
        reading = asyncio.create_task(host.store.outbox.pending(self._limit, epoch, _last(entries)))
        try:
            await self._publish(host, entries, epoch)
            return await reading
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _publish(self, host: Host, entries: Sequence[LogEntry], epoch: int) -> None:
        free = [entry.message for entry in entries if not entry.is_left_out]
        behind: Sequence[Message] = ()
        if self._held:
            behind = [message for message in free if message.key in self._held]
            free = [message for message in free if message.key not in self._held]
        refusals = await host.broker.publish(free)
        refused = [(free[index], str(refusals[index])) for index in sorted(refusals)]
        parked = self._set_aside(host, refused, behind) if refused or behind else ()
        self._epoch = 0  # should it be unknown what of this is in the tables, they are read again
        await host.store.outbox.advance(_last(entries), epoch, parked)
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


def _last(entries: Sequence[LogEntry]) -> dict[int, int]:
    """The last position of each shard."""
    return {entry.shard: entry.position for entry in entries}


def _size(entries: Sequence[LogEntry]) -> int:
    """The bytes of data."""
    return sum([len(entry.message.data) for entry in entries])


def _is_ours(row: ParkedMessage) -> bool:
    return row.binding == PARKED_AS


def _parked_again(row: ParkedMessage, reason: str, at: float) -> ParkedMessage:
    return ParkedMessage(PARKED_AS, row.message, reason=reason, at=at, attempts=row.attempts + 1, number=row.number)
