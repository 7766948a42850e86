"""What becomes of a client of Kafka that is given up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from torpor.adapters.kafka.connection import Connection
from torpor.adapters.kafka.consumer import KafkaConsumer
from torpor.adapters.kafka.options import KafkaOptions
from torpor.ports.consumer import Subscription

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer


class Sockets:
    """Those of a client."""

    is_closed = False

    async def close(self) -> None:
        """Closes them."""
        self.is_closed = True


class Cancelling:
    """Stops as aiokafka does while a fetch waits to be tried again: with that fetch's own cancellation."""

    def __init__(self) -> None:
        self._client = Sockets()

    async def stop(self) -> None:
        """Never comes to close its sockets."""
        fetch = asyncio.ensure_future(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch


async def test_a_client_that_stops_by_cancelling_cancels_nobody_else() -> None:
    """Whoever gives it up goes on, and its sockets are closed: a handler would else end without a word."""
    consumer = KafkaConsumer(Subscription("topic", "group"), Connection(KafkaOptions()))
    client: Any = Cancelling()
    await consumer._drop(cast("AIOKafkaConsumer", client))
    assert client._client.is_closed
    await consumer.close()
