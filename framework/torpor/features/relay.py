"""The relay: publishes the committed messages of the outbox log, in order, under a lease."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, LeaseLost, StoreUnavailable
from torpor.kernel.message import ParkedMessage
from torpor.runtime.context import Committed
from torpor.runtime.lease import Lease
from torpor.runtime.rounds import POLL_SECONDS, Rounds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery, Message
    from torpor.ports.tables import LogEntry
    from torpor.runtime.host import Host

PARKED_AS = "outbox"  # the binding under which a message that the broker refuses is parked
_LEASE = "relay"
_BEHIND = "waits behind its key"
_BATCH = 500
_TRIM_EVERY = 600.0
REPLAY_WINDOW = 86_400.0  # for a broker that has lost what it acknowledged
INBOX_WINDOW = 8 * 86_400.0  # longer than a stream keeps its messages


class Relay:
    """Reads past its cursors, publishes in batches, and moves the cursors under its epoch.

    The process that commits wakes it; polling finds what another process has committed. A message that the broker
    refuses is parked, and what follows on its key waits behind it.
    """

    def __init__(self) -> None:
        self._rounds = Rounds(_LEASE)
        self.lease = Lease(_LEASE)
        self._trimmed_at = 0.0
        self._held: set[str] = set()
        self._redriven: deque[Delivery] = deque()

    @property
    def is_idle(self) -> bool:
        """Whether all that was committed here is published."""
        return self._rounds.is_idle and not self._redriven

    def committed(self, rows: Committed) -> None:
        """Wakes the relay when there is something to publish."""
        if rows.published:
            self._rounds.wake()

    def redrive(self, delivery: Delivery) -> None:
        """Publishes a parked message again, in the next round."""
        self._redriven.append(delivery)
        self._rounds.wake()

    async def run(self, host: Host) -> None:
        """Publishes whenever there is something, until cancelled."""
        host.deliverers[PARKED_AS] = self.redrive
        await self._rounds.run(host, self._publish_all)

    async def finish(self, host: Host) -> None:
        """Publishes what is left, and gives the lease up, so that another may go on at once."""
        await self._rounds.end()
        try:
            await self._publish_all(host)
            await self.lease.let_go(host)
        except (BrokerUnavailable, StoreUnavailable) as error:
            host.log.warning("the outbox keeps what is not published yet: %s", error)

    async def _publish_all(self, host: Host) -> float:
        try:
            while await self._has_lease(host):
                await self._take_back(host)
                entries = await host.store.outbox.pending(_BATCH)
                if not entries:
                    await self._trim(host)
                    break
                await self._publish(host, entries)
        except LeaseLost:
            self.lease.epoch = None
        return POLL_SECONDS

    async def _has_lease(self, host: Host) -> bool:
        before = self.lease.epoch
        is_ours = await self.lease.hold(host)
        if is_ours and self.lease.epoch != before:
            parked = await host.store.parking.list(binding=PARKED_AS, limit=100_000)
            self._held = {row.message.key for row in parked if row.message.key is not None}
        return is_ours

    async def _publish(self, host: Host, entries: Sequence[LogEntry]) -> None:
        free = [entry.message for entry in entries if entry.message.key not in self._held]
        behind = [entry.message for entry in entries if entry.message.key in self._held]
        refusals = await host.broker.publish(free)
        if refusals or behind:
            await self._park(host, [(free[index], str(refusals[index])) for index in sorted(refusals)], behind)
        positions = {entry.shard: entry.position for entry in entries}
        await host.store.outbox.advance(positions, self.lease.epoch or 0)
        host.metrics.published += len(free) - len(refusals)
        host.metrics.refused += len(refusals)

    async def _park(self, host: Host, refused: Sequence[tuple[Message, str]], behind: Sequence[Message]) -> None:
        """Sets aside what was refused, and what follows on the same keys."""
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
        async with host.store.unit() as unit:
            await unit.append([], rows)
            await unit.commit()

    async def _take_back(self, host: Host) -> None:
        """Publishes redriven messages. One that is refused again keeps its place among the parked."""
        while self._redriven:
            delivery = self._redriven[0]
            async with host.store.unit() as unit:
                if delivery.parked is not None and await unit.claim(delivery.parked):
                    refusals = await host.broker.publish([delivery.message])
                    if refusals:
                        await unit.append([], [_parked_again(delivery, str(refusals[0]), host.clock.time())])
                    await unit.commit()
            self._redriven.popleft()
            key = delivery.message.key
            if key is not None and not await host.store.parking.list(binding=PARKED_AS, key=key, limit=1):
                self._held.discard(key)
            host.committed(Committed(parked=1))

    async def _trim(self, host: Host) -> None:
        now = host.clock.time()
        if now - self._trimmed_at > _TRIM_EVERY:
            self._trimmed_at = now
            await host.store.outbox.trim(published=now - REPLAY_WINDOW, admitted=now - INBOX_WINDOW)


def _parked_again(delivery: Delivery, reason: str, at: float) -> ParkedMessage:
    return ParkedMessage(
        PARKED_AS,
        delivery.message,
        reason=reason,
        at=at,
        attempts=delivery.attempts + 1,
        number=delivery.parked or 0,
    )
