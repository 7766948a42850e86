"""A broker under simulation: the memory hub behind a network, with an ack wait and the faults of delivering."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.kernel.message import Delivery
from torpor.ports.broker import Broker
from torpor.testing.simulation.ledger import told
from torpor.testing.simulation.loop import current_process, immediately

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.message import Message
    from torpor.kernel.progress import Progress
    from torpor.ports.consumer import Consumer, Subscription
    from torpor.testing.simulation.ledger import Ledger
    from torpor.testing.simulation.loop import Process
    from torpor.testing.simulation.script import Script
    from torpor.testing.simulation.weather import Network

ACK_WAIT = 3.0
PIN_TIMEOUT = 3.0


class Connection(Broker, Protocol):
    """A connection of the broker that is simulated."""

    def depose(self) -> None:
        """Has the others of its groups take over, as the server does from who is silent."""
        ...


class Held:
    """A delivery that some consumer was given, and that was not settled."""

    __slots__ = ("consumer", "delivery", "is_kept", "process", "until")

    def __init__(self, consumer: Consumer, delivery: Delivery, *, until: float) -> None:
        self.process: Process = current_process()
        self.consumer = consumer
        self.delivery = delivery
        self.until = until
        self.is_kept = True  # its holder keeps it from being redelivered while it lives


class BrokerServer:
    """What all connections share."""

    def __init__(self, network: Network, *, ledger: Ledger, script: Script) -> None:
        self.network = network
        self.ledger = ledger
        self.script = script
        self.held: dict[tuple[str, str, object], Held] = {}
        self.connections: dict[Process, Connection] = {}
        self._silent: dict[Process, float] = {}  # since when

    def depose(self) -> None:
        """Lets others take over from processes that have been silent for too long. Called now and then."""
        now = asyncio.get_running_loop().time()
        for process, connection in [*self.connections.items()]:
            if not (process.is_dead or process.is_frozen):
                self._silent.pop(process, None)
            elif now - self._silent.setdefault(process, now) >= PIN_TIMEOUT and not self.network.is_down:
                self.network.trace.note("broker", f"lets others take over from {process.name}")
                connection.depose()
                if process.is_dead:
                    del self.connections[process], self._silent[process]
                    immediately(connection.stop())
                    self.forget(process)

    def forget(self, process: Process) -> None:
        """Notes that a process holds nothing any more: its connection has ended."""
        for place in [place for place, held in self.held.items() if held.process is process]:
            del self.held[place]

    def expire(self) -> None:
        """Gives back what nobody has settled within the ack wait, and nobody keeps. Called now and then."""
        now = asyncio.get_running_loop().time()
        for place, held in list(self.held.items()):
            is_alive = not (held.process.is_dead or held.process.is_frozen)
            if held.is_kept and is_alive:
                held.until = now + ACK_WAIT
            elif held.until <= now and not self.network.is_down:
                self._give_back(place)

    def _give_back(self, place: tuple[str, str, object]) -> None:
        held = self.held.pop(place)
        self.network.trace.note("broker", f"gives back {told(held.delivery.message)} of {place[1]}")
        immediately(held.consumer.release([held.delivery]))


class SimulatedBroker:
    """One replica's connection."""

    def __init__(self, server: BrokerServer, inner: Connection) -> None:
        self.promises = inner.promises
        self._server = server
        self._inner = inner

    async def start(self) -> None:
        await self._server.network.cross("connect")
        await self._inner.start()

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        await self._server.network.cross("declare")
        await self._inner.declare(topics, subscriptions)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        network, ledger = self._server.network, self._server.ledger
        await network.cross(f"publish {len(messages)}")
        is_lost = network.weather.happens(network.weather.lost_publishes)
        arrived = messages[: network.weather.chance.randrange(len(messages) + 1)] if is_lost else messages
        refusals = self._refusals(arrived)
        taken = [index for index in range(len(arrived)) if index not in refusals]
        told_inner = immediately(self._inner.publish([arrived[index] for index in taken]))
        refusals |= {taken[index]: refusal for index, refusal in told_inner.items()}
        for index in taken:
            if index not in refusals:
                network.trace.note("broker", f"takes {told(arrived[index])}")
                ledger.sent(arrived[index])
        await network.delay()
        if is_lost:
            raise network.lost(f"publish ({len(arrived)} of {len(messages)} arrived)")
        return refusals

    async def consume(self, subscription: Subscription) -> SimulatedConsumer:
        await self._server.network.cross(f"consume {subscription.topic}")
        self._server.connections[current_process()] = self._inner
        return SimulatedConsumer(self._server, await self._inner.consume(subscription), subscription)

    async def ping(self) -> None:
        await self._server.network.cross("ping")

    async def stop(self) -> None:
        """Gives back what this connection holds."""
        await self._server.network.delay()
        await self._inner.stop()
        self._server.connections.pop(current_process(), None)
        self._server.forget(current_process())

    def _refusals(self, messages: Sequence[Message]) -> dict[int, Rejected]:
        refusals: dict[int, Rejected] = {}
        keys: set[str | None] = set()
        for index, message in enumerate(messages):
            if message.key in keys:
                refusals[index] = Rejected(f"{told(message)} follows a refused message.")
            elif self._server.script.refuses(message):
                refusals[index] = Rejected(f"{told(message)} is not liked.")
                keys.add(message.key)
        return refusals


class SimulatedConsumer:
    """A live subscription over the network."""

    def __init__(self, server: BrokerServer, inner: Consumer, subscription: Subscription) -> None:
        self._server = server
        self._inner = inner
        self._group = (subscription.topic, subscription.group)

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        network = self._server.network
        await network.cross("fetch")
        deliveries = list(await self._inner.fetch(limit))  # nothing is awaited from here on: safe to cancel
        until = asyncio.get_running_loop().time() + ACK_WAIT
        for delivery in list(deliveries):
            self._server.held[(*self._group, delivery.token)] = Held(self._inner, delivery, until=until)
            if network.weather.happens(network.weather.doubled_deliveries):
                deliveries.append(Delivery(delivery.message, delivery.token))
        for delivery in deliveries:
            network.trace.note(current_process().name, f"is given {told(delivery.message)}")
        return deliveries

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        network = self._server.network
        try:
            await network.cross(f"acknowledge {len(deliveries)}")
            if network.weather.happens(network.weather.lost_acknowledgements):
                raise network.lost("acknowledge")
        except BrokerUnavailable:
            for held in self._find(deliveries):
                held.is_kept = False
            raise
        for held in self._find(deliveries):
            del self._server.held[(*self._group, held.delivery.token)]
            immediately(held.consumer.acknowledge([held.delivery]))

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        await self._server.network.cross("release")
        for held in self._find(deliveries):
            del self._server.held[(*self._group, held.delivery.token)]
            immediately(held.consumer.release([held.delivery]))

    async def progress(self) -> Progress:
        await self._server.network.cross("progress")
        return await self._inner.progress()

    async def stop(self) -> None:
        await self._inner.stop()

    def _find(self, deliveries: Sequence[Delivery]) -> list[Held]:
        places = [(*self._group, delivery.token) for delivery in deliveries]
        return [self._server.held[place] for place in dict.fromkeys(places) if place in self._server.held]
