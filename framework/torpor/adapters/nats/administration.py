"""What a deploy does with JetStream's streams and durables: `torpor topics`."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.adapters.nats.connection import Connection
from torpor.adapters.nats.streams import Streams, check, check_names, settings_of, window_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import Topic, TopicPowers, TopicState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from nats.aio.client import Client

    from torpor.adapters.nats.options import JetStreamOptions
    from torpor.ports.consumer import Subscription

T = TypeVar("T")

_NANOSECONDS = 1_000_000_000
_COMPACTED = (
    "Torpor publishes all keys of a topic to one subject, so JetStream would keep the last message of the topic alone. "
    "Drop the wish, or use Kafka"
)


class JetStreamTopicAdmin:
    """A connection for streams and durables."""

    def __init__(self, options: JetStreamOptions) -> None:
        self.powers = TopicPowers(
            "NATS",
            settings=frozenset({"replicas", "retention", "max_bytes", "compacted"}),
            refused={"compacted": _COMPACTED},
        )
        self._connection = Connection(options)
        self._streams = Streams(self._connection)
        self._refusals = Refusals()

    async def start(self) -> None:
        await self._connection.start()
        await self._connection.add(self._refusals)

    async def find(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        check_names(names, ())
        places = await self._asked(asyncio.gather(*(self._streams.place(name) for name in names)))
        return {
            name: TopicState(_topic_of(name, place[0]), holder=None if place[1] else f"the stream {place[0]['name']!r}")
            for name, place in zip(names, places, strict=True)
            if place is not None
        }

    async def missing(self, subscriptions: Sequence[Subscription]) -> Sequence[Subscription]:
        begun = await self._asked(asyncio.gather(*(self._streams.has_begun(one) for one in subscriptions)))
        return [one for one, has_begun in zip(subscriptions, begun, strict=True) if not has_begun]

    async def make(self, topic: Topic) -> None:
        await self._asked(self._streams.make(topic.name, topic))

    async def change(self, topic: Topic) -> None:
        await self._asked(self._change(topic))

    async def begin(self, subscriptions: Sequence[Subscription]) -> None:
        await self._asked(self._streams.declare([], subscriptions))

    async def stop(self) -> None:
        await self._connection.stop()

    async def _change(self, topic: Topic) -> None:
        place = await self._streams.place(topic.name)
        if place is None or not place[1]:
            return  # it has gone, or become somebody else's: whoever looks again sees it
        config = {**place[0], **settings_of(topic)}
        config["duplicate_window"] = window_of(config)
        answer = await self._connection.request(f"STREAM.UPDATE.{config['name']}", config)
        check(answer, f"Stream {config['name']!r} of topic {topic.name!r}")

    async def _asked(self, work: Awaitable[T]) -> T:
        """The result of some requests. What the server does not permit is a mistake, which time does not mend."""
        self._refusals.heard.clear()
        try:
            return await work
        except BrokerUnavailable as error:
            if self._refusals.heard:
                raise ConfigurationError([str(error)]) from error
            raise

    def __repr__(self) -> str:
        return f"<JetStreamTopicAdmin on {self._connection!r}>"


class Refusals:
    """Hears what the server does not permit."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    async def attach(self, client: Client) -> None:
        """Subscribes to nothing."""

    def detach(self) -> None:
        """Has nothing to give up."""

    def refused(self, subject: str) -> None:
        self.heard.add(subject)


def _topic_of(name: str, config: Mapping[str, Any]) -> Topic:
    """A topic as its stream has it."""
    found = Topic(name)  # set as it is, sound for a wish or not
    found.replicas = config["num_replicas"]
    found.retention = config["max_age"] / _NANOSECONDS if config["max_age"] else math.inf
    found.max_bytes = config["max_bytes"] if config["max_bytes"] > 0 else None
    found.compacted = config["max_msgs_per_subject"] == 1 and config["subjects"] == [name]
    return found
