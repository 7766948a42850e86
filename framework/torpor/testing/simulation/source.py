"""What brings a pushed service its messages, as Knative's KafkaSource does: those of a key one after the other, each
again and again until it is told that it is done."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import BrokerUnavailable
from torpor.ports.consumer import Subscription
from torpor.runtime.receiver import Verdict
from torpor.testing.simulation.ledger import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.kernel.message import Delivery
    from torpor.ports.consumer import Consumer
    from torpor.runtime.plan import SubscriberBinding
    from torpor.testing.simulation.world import Replica, World

    Serving = Callable[[str], Awaitable[Replica]]

_FETCH = 20
_PATIENCE = 10.0  # seconds that an answer is waited for
_PAUSE = 0.2


class Source:
    """Pushes one binding's messages to whichever replica serves."""

    def __init__(self, world: World, binding: SubscriberBinding, serving: Serving) -> None:
        self._world = world
        self._binding = binding
        self._serving = serving
        self._broker = world.connect()
        self._consumer: Consumer | None = None
        self._queues: dict[str | None, deque[Delivery]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Makes the group exist, before something is published."""
        subscription = Subscription(self._binding.topic, self._binding.group)
        await self._broker.start()
        await self._broker.declare([], [subscription])
        self._consumer = await self._broker.consume(subscription)
        self._begin(self._run(self._consumer))

    def close(self) -> None:
        """Ends it at once."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, consumer: Consumer) -> None:
        while True:
            try:
                deliveries = await consumer.fetch(_FETCH)
            except BrokerUnavailable:
                await asyncio.sleep(_PAUSE)
                continue
            for delivery in deliveries:
                queue = self._binding.policies.order.queue_of(delivery.message)
                if queue not in self._queues:
                    self._queues[queue] = deque()
                    self._begin(self._push_all(consumer, self._queues[queue]))
                self._queues[queue].append(delivery)

    async def _push_all(self, consumer: Consumer, waiting: deque[Delivery]) -> None:
        while True:
            if not waiting:
                await asyncio.sleep(_PAUSE)
                continue
            delivery = waiting[0]
            if await self._push(delivery) and await _acknowledged(consumer, delivery):
                waiting.popleft()
            else:
                await asyncio.sleep(_PAUSE)

    async def _push(self, delivery: Delivery) -> bool:
        """Posts a message once; tells whether it is known to be done."""
        world, name = self._world, self._binding.handled.name
        replica = await self._serving(name.partition(".")[0])
        world.trace.note("source", f"pushes {told(delivery.message)} to {name} at {replica.process.name}")
        work = replica.begin(self._post(replica, delivery))
        either: set[asyncio.Future[Any]] = {work, replica.process.ended}
        await asyncio.wait(either, timeout=_PATIENCE, return_when="FIRST_COMPLETED")
        is_lost = world.weather.happens(world.weather.lost_acknowledgements)
        return work.done() and not is_lost and work.result() is Verdict.DONE

    async def _post(self, replica: Replica, delivery: Delivery) -> Verdict:
        await asyncio.sleep(self._world.weather.chance.random() * _PAUSE)
        reception = replica.host.reception
        if reception is None:
            return Verdict.BUSY
        return await reception.receive(self._binding.handled.name, [(delivery.message, delivery.fault)])

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _acknowledged(consumer: Consumer, delivery: Delivery) -> bool:
    try:
        await consumer.acknowledge([delivery])
    except BrokerUnavailable:
        return False
    return True
