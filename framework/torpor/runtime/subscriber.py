"""The pull side: fetches deliveries of a binding, puts them in their lanes, acknowledges what is settled."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable
from torpor.kernel.order import Order
from torpor.kernel.retry import wait_before
from torpor.ports.consumer import Subscription
from torpor.runtime.context import STARTING
from torpor.runtime.ending import ended, heed_cancelling
from torpor.runtime.lane import BATCH, Intake, taking_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery
    from torpor.kernel.progress import Progress
    from torpor.ports.broker import Broker
    from torpor.ports.consumer import Consumer
    from torpor.runtime.context import Context
    from torpor.runtime.plan import SubscriberBinding
    from torpor.runtime.unit import Units

_FETCH = 4 * BATCH


class Subscriber:
    """Consumes one binding's topic until it is stopped, and comes back by itself when the broker does."""

    def __init__(self, binding: SubscriberBinding, units: Units, *, broker: Broker, context: Context) -> None:
        self.binding = binding
        spawn = partial(context.health.watch, binding.handled.name)
        taking = taking_of(binding.policies, context.clock)
        self.gate = units.gate
        self.intake = Intake(units.run, spawn=spawn, settled=self._acknowledge, taking=taking)
        self._broker = broker
        self._context = context
        self._consumer: Consumer | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to fetch."""
        self._context.report(self.binding.handled.name, STARTING)
        self._task = self._context.health.watch(self.binding.handled.name, self._run())

    async def progress(self) -> Progress | None:
        """How far its group is; None when its consumer is not open yet. Raises BrokerUnavailable."""
        return None if self._consumer is None else await self._consumer.progress()

    async def stop(self) -> None:
        """Stops fetching; what was fetched goes on in its lanes, unless its handler pauses."""
        self.gate.shut()
        if self._task is None:
            return
        await ended([self._task])
        self._task = None
        if self._consumer is not None:
            try:
                await self._consumer.stop()
            except BrokerUnavailable as error:  # what was fetched ahead comes again
                self._context.report(self.binding.handled.name, str(error))

    async def _run(self) -> None:
        lost = 0
        while True:
            try:
                if lost:  # a fetch would tell that the broker is back only with the next message
                    await self._broker.ping()
                    self._context.report(self.binding.handled.name, None)
                await self._pump(self._consumer or await self._open())
            except BrokerUnavailable as error:
                heed_cancelling()
                lost += 1
                self._context.report(self.binding.handled.name, str(error))
                await self._context.clock.sleep(wait_before(lost))
            else:
                lost = 0
                self._context.report(self.binding.handled.name, None)

    async def _open(self) -> Consumer:
        """Makes the subscription exist, and opens the consumer that is kept until the stop."""
        is_shared = self.binding.policies.order is Order.NONE
        subscription = Subscription(self.binding.topic, self.binding.group, is_shared=is_shared)
        await self._broker.declare([subscription.topic], [subscription])
        self._consumer = await self._broker.consume(subscription)
        self._context.report(self.binding.handled.name, None)
        return self._consumer

    async def _pump(self, consumer: Consumer) -> None:
        room = await self.intake.room()
        self.intake.put(await consumer.fetch(min(room, _FETCH)))

    async def _acknowledge(self, batch: Sequence[Delivery]) -> None:
        fetched = [delivery for delivery in batch if delivery.token is not None]
        if not fetched or self._consumer is None:
            return
        try:
            await self._consumer.acknowledge(fetched)
        except BrokerUnavailable:  # they come again, and the inbox knows them; the host's ping tells of the broker
            return
