"""Topics and groups: made when they are missing, and what the topics take."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.connection import told
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import TopicPartition

    from torpor.adapters.kafka.connection import Connection
    from torpor.ports.consumer import Subscription

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_EXISTS, _INVALID = 36, (17, 42)  # error codes: the topic is there already; the name, or the request, is wrong
_BROKER, _TOPIC = 4, 2  # kinds of what has a configuration
_PAUSE = 0.1
_LARGEST = 1_048_588  # Kafka's own default


def group_of(subscription: Subscription) -> str:
    """Kafka's group of a subscription: one for each group and topic, so that topics rebalance by themselves."""
    return f"{subscription.group}:{subscription.topic}"  # no topic has a colon


def check_topic(topic: str) -> None:
    """Raises ConfigurationError when Kafka takes no topic of that name."""
    if not _NAME.fullmatch(topic) or topic in {".", ".."}:
        raise ConfigurationError(
            [f"Topic {topic[:80]!r} cannot be a Kafka topic: expected up to 249 of a-z, A-Z, 0-9, '.', '_' and '-'."]
        )


class Topics:
    """Declares topics and groups, and remembers what it has seen."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._limits: dict[str, int] = {}  # the most bytes of a batch, by topic
        self._names: set[str] = set()  # topics that were declared
        self._groups: set[str] = set()  # groups that have begun

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Makes topics and groups exist."""
        names = list(dict.fromkeys([*topics, *(subscription.topic for subscription in subscriptions)]))
        problems = [problem for name in names for problem in _problems(name)]
        if problems:
            raise ConfigurationError(problems)
        async with self._connection.mapped("cannot declare topics", 4 * self._connection.options.request_timeout):
            missing = sorted(set(names) - set(await self._connection.admin.list_topics()))
            if missing:
                await self._create(missing)
            self._names |= set(names)
            for subscription in subscriptions:
                await self._pin(subscription)

    async def limit(self, topic: str) -> int | None:
        """The most bytes that a topic takes at once; None when there is no such topic."""
        if topic not in self._limits:
            async with self._connection.mapped("does not tell of its topics"):
                if not await self._partitions(topic):
                    if topic not in self._names:
                        return None
                    await self._create([topic])  # somebody has deleted it
                text = await self._setting(_TOPIC, topic, "max.message.bytes")
            self._limits[topic] = int(text) if text else _LARGEST
        return self._limits[topic]

    def doubt(self) -> None:
        """Asks again the next time: something was refused, or not answered."""
        self._limits.clear()

    async def _create(self, topics: Sequence[str]) -> None:
        from aiokafka.admin import NewTopic
        from aiokafka.errors import for_code

        options = self._connection.options
        partitions = options.partitions or int(await self._default("num.partitions"))
        replication = options.replication or int(await self._default("default.replication.factor"))
        wanted = [
            NewTopic(topic, partitions, replication, topic_configs=dict(options.settings or {})) for topic in topics
        ]
        answer = await self._connection.admin.create_topics(wanted)
        problems = []
        for name, code, reason in answer.topic_errors:
            if code in _INVALID:
                problems.append(f"Kafka refuses topic {name!r}: {reason or told(for_code(code)())}")
            elif code not in {0, _EXISTS}:
                refusal = reason or told(for_code(code)())
                raise BrokerUnavailable(f"Kafka at {self._connection.servers} makes no topic {name!r}: {refusal}")
        if problems:
            raise ConfigurationError(problems)

    async def _pin(self, subscription: Subscription) -> None:
        """Has the group begin where the topic ends now, unless it has begun before."""
        group = group_of(subscription)
        if group in self._groups:
            return
        while not (partitions := await self._partitions(subscription.topic)):  # noqa: ASYNC110  # Kafka tells no event
            await asyncio.sleep(_PAUSE)  # made, and not known to every node yet
        if not await self._has_begun(group, partitions):
            await self._begin(group, partitions)
        self._groups.add(group)

    async def _begin(self, group: str, partitions: Sequence[TopicPartition]) -> None:
        from aiokafka.errors import CommitFailedError, IllegalStateError, UnknownMemberIdError

        consumer = self._connection.consumer(group_id=group)
        consumer.assign(partitions)
        try:
            await consumer.start()
            ends = await consumer.end_offsets(partitions)
            # The ends were read first: whoever began in between has published nothing before them.
            if not await self._has_begun(group, partitions):
                await consumer.commit(ends)
        except (CommitFailedError, IllegalStateError, UnknownMemberIdError):
            pass  # another has begun, and is at work already
        finally:
            await consumer.stop()

    async def _has_begun(self, group: str, partitions: Sequence[TopicPartition]) -> bool:
        admin = self._connection.admin
        node = await self._coordinator(group)
        found = await admin.list_consumer_group_offsets(group, node, list(partitions))
        return any(place.offset >= 0 for place in found.values())

    async def _coordinator(self, group: str) -> int:
        """The node that keeps a group. A new cluster has none until it has been asked."""
        from aiokafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError

        while True:
            try:
                return int(await self._connection.admin.find_coordinator(group))
            except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError):
                await asyncio.sleep(_PAUSE)

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        from aiokafka import TopicPartition

        (described,) = await self._connection.admin.describe_topics([topic])
        return [TopicPartition(topic, found["partition"]) for found in described["partitions"]]

    async def _default(self, name: str) -> str:
        admin = self._connection.admin
        cluster = await admin.describe_cluster()
        return await self._setting(_BROKER, str(cluster["brokers"][0]["node_id"]), name) or "1"

    async def _setting(self, kind: int, owner: str, name: str) -> str | None:
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        asked: Any = ConfigResource(ConfigResourceType(kind), owner, configs={name: None})
        for answer in await self._connection.admin.describe_configs([asked]):
            for resource in answer.to_object()["resources"]:
                for entry in resource["config_entries"]:
                    if entry["config_names"] == name:
                        return str(entry["config_value"])
        return None


def _problems(topic: str) -> Sequence[str]:
    try:
        check_topic(topic)
    except ConfigurationError as error:
        return error.problems
    return ()
