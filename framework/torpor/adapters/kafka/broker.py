"""The broker on Apache Kafka.

```python
broker = KafkaBroker(KafkaOptions(servers=("127.0.0.1:9092",), name="orders"))
```

Publishing is at least once and in order for each key; a copy is published only when it was unknown what had arrived.
Keys keep their order within a partition, so a topic must not be given more partitions while that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.adapters.kafka.connection import Connection
from torpor.adapters.kafka.consumer import KafkaConsumer
from torpor.adapters.kafka.options import KafkaOptions
from torpor.adapters.kafka.publisher import Publisher
from torpor.adapters.kafka.topics import Topics
from torpor.ports.broker import BrokerPromises

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.consumer import Subscription


class KafkaBroker:
    """A connection to Kafka: a group for each subscription, an idempotent producer."""

    def __init__(self, options: KafkaOptions | None = None) -> None:
        self.options = options or KafkaOptions()
        self.promises = BrokerPromises(
            keeps_order=self.options.partitions == 1,
            redelivers=True,
            settles_each=False,  # a watermark is one place
            is_persistent=True,
            deduplicates=False,
        )
        self._connection = Connection(self.options)
        self._topics = Topics(self._connection)
        self._publisher = Publisher(self._connection, self._topics)
        self._consumers: list[KafkaConsumer] = []

    async def start(self) -> None:
        await self._connection.start()

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        await self._topics.declare(topics, subscriptions)

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        return await self._publisher.publish(messages)

    async def consume(self, subscription: Subscription) -> KafkaConsumer:
        await self._connection.ping()
        consumer = KafkaConsumer(subscription, self._connection)
        consumer.open()
        self._consumers = [other for other in self._consumers if not other.is_done]
        self._consumers.append(consumer)
        return consumer

    async def ping(self) -> None:
        await self._connection.ping()

    async def stop(self) -> None:
        consumers, self._consumers = self._consumers, []
        for consumer in consumers:
            await consumer.close()
        await self._publisher.stop()
        await self._connection.stop()

    def __repr__(self) -> str:
        return f"<KafkaBroker on {self._connection!r} consumers={len(self._consumers)}>"
