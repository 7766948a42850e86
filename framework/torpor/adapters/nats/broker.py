"""The broker on NATS JetStream.

```python
broker = JetStreamBroker(JetStreamOptions(servers="nats://127.0.0.1:4222", name="orders"))
```

Publishing is at least once, in order, and free of copies inside the duplicate window. When a cluster loses a stream's
leader in the middle of a batch, the batch is repeated, and what it refused may then come after what it stored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from torpor.adapters.nats.connection import API, Connection
from torpor.adapters.nats.consumer import JetStreamConsumer
from torpor.adapters.nats.options import JetStreamOptions
from torpor.adapters.nats.publisher import Publisher
from torpor.adapters.nats.streams import Streams
from torpor.kernel.errors import BrokerUnavailable
from torpor.ports.broker import BrokerPromises

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.core import CoreExchange
    from torpor.adapters.nats.shelf import JetStreamShelf
    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.consumer import Subscription


class JetStreamBroker:
    """A connection to NATS with JetStream: a stream for each topic, a durable consumer for each group."""

    def __init__(self, options: JetStreamOptions | None = None) -> None:
        self.options = options or JetStreamOptions()
        self.promises = BrokerPromises(
            keeps_order=True,
            redelivers=True,
            settles_each=True,
            is_persistent=self.options.storage == "file",
            deduplicates=True,
        )
        self._connection = Connection(self.options)
        self._exchange: CoreExchange | None = None
        self._shelf: JetStreamShelf | None = None
        self._streams = Streams(self._connection)
        self._publisher = Publisher(self._connection, self._streams)
        self._consumers: list[JetStreamConsumer] = []
        self._is_prepared = False

    @property
    def exchange(self) -> CoreExchange:
        """What passes through NATS and is not kept."""
        if self._exchange is None:
            from torpor.adapters.nats.core import CoreExchange

            self._exchange = CoreExchange(self._connection)
        return self._exchange

    @property
    def shelf(self) -> JetStreamShelf:
        """What the replicas of the service share on NATS."""
        if self._shelf is None:
            from torpor.adapters.nats.shelf import JetStreamShelf

            self._shelf = JetStreamShelf(self._connection, self.start)
        return self._shelf

    @property
    def client(self) -> Client:
        """The client of nats-py that is connected now. Raises BrokerUnavailable."""
        return self._connection.client

    async def start(self) -> None:
        if not self._is_prepared:
            await self._connection.add(self._publisher)
            self._is_prepared = True
        await self._connection.start()

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        await self._streams.declare(topics, subscriptions)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        return await self._publisher.publish(messages)

    async def consume(self, subscription: Subscription) -> JetStreamConsumer:
        await self._connection.ready()
        consumer = JetStreamConsumer(subscription, self._connection, self._streams)
        await self._connection.add(consumer)
        self._consumers = [other for other in self._consumers if not other.is_done]
        self._consumers.append(consumer)
        return consumer

    async def ping(self) -> None:
        # Not `request`: that waits for a lost connection, and whoever asks wants to know how it is now.
        answer = await self._connection.ask(f"{API}.INFO", b"")
        error = json.loads(answer.data).get("error") if answer.data else "no answer; is it enabled (nats-server -js)?"
        if error:
            raise BrokerUnavailable(f"JetStream of NATS at {self._connection.servers}: {error}")

    async def stop(self) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.close()
        await self._connection.stop()

    def __repr__(self) -> str:
        return f"<JetStreamBroker on {self._connection!r} consumers={len(self._consumers)}>"
