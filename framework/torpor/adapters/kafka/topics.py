"""Topics and groups: made when they are missing, and what the topics take."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.refusals import forbidden, told
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka import TopicPartition

    from torpor.adapters.kafka.connection import Connection
    from torpor.ports.consumer import Subscription

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")
# Error codes: the topic is there already; the name, or the request, is wrong; we may not.
_EXISTS, _INVALID, _FORBIDDEN = 36, (17, 42), 29
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


def settings_of(topic: Topic, found: Mapping[str, str] | None = None) -> dict[str, str]:
    """Kafka's settings for what is wished of a topic, which has the settings that are found."""
    settings: dict[str, str] = {}
    policies = {policy.strip() for policy in (found or {}).get("cleanup.policy", "delete").split(",")} - {""}
    if topic.compacted is not None:
        policies = {"compact"} if topic.compacted else {"delete"}
    if topic.retention is not None:
        settings["retention.ms"] = "-1" if topic.retention == math.inf else str(int(topic.retention * 1000))
        is_compacted = "compact" in policies
        policies = {"compact"} if is_compacted and topic.retention == math.inf else policies | {"delete"}
    if topic.compacted is not None or topic.retention is not None:
        settings["cleanup.policy"] = ",".join(sorted(policies))
    if topic.max_bytes is not None:
        settings["retention.bytes"] = str(topic.max_bytes)
    return settings


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
                await self.begin(subscription)

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

    async def make(self, topics: Sequence[Topic]) -> dict[str, tuple[int, str]]:
        """Asks for topics; returns the error codes and reasons of those that Kafka does not make."""
        from aiokafka.admin import NewTopic
        from aiokafka.errors import for_code

        options = self._connection.options
        wanted = []
        for topic in topics:
            partitions = topic.partitions or options.partitions or int(await self._default("num.partitions"))
            replicas = topic.replicas or options.replication or int(await self._default("default.replication.factor"))
            settings = {**(options.settings or {}), **settings_of(topic)}
            wanted.append(NewTopic(topic.name, partitions, replicas, topic_configs=settings))
        answer = await self._connection.admin.create_topics(wanted)
        return {
            name: (code, forbidden(name, options) if code == _FORBIDDEN else reason or told(for_code(code)()))
            for name, code, reason in answer.topic_errors
            if code not in {0, _EXISTS}
        }

    async def known(self, topic: str) -> list[TopicPartition]:
        """The partitions of a topic that was made, once the node that we ask knows it."""
        while not (partitions := await self._partitions(topic)):  # noqa: ASYNC110  # Kafka tells no event
            await asyncio.sleep(_PAUSE)
        return partitions

    async def has_begun(self, subscription: Subscription) -> bool:
        """Whether the group of a subscription has a place anywhere in its topic."""
        return await self._has_begun(group_of(subscription), await self._partitions(subscription.topic))

    async def _create(self, names: Sequence[str]) -> None:
        wishes, servers = self._connection.options.topics, self._connection.servers
        refused = await self.make([wishes.get(name) or Topic(name) for name in names])
        for name, (code, reason) in refused.items():
            if code == _FORBIDDEN:
                raise BrokerUnavailable(f"Kafka at {servers}: {reason}.")
            if code not in _INVALID:
                raise BrokerUnavailable(f"Kafka at {servers} makes no topic {name!r}: {reason}")
        if refused:
            raise ConfigurationError(
                [f"Kafka refuses topic {name!r}: {reason}" for name, (_, reason) in refused.items()]
            )

    async def begin(self, subscription: Subscription) -> None:
        """Has the group begin where the topic ends now, unless it has begun before."""
        group = group_of(subscription)
        if group in self._groups:
            return
        partitions = await self.known(subscription.topic)
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

    async def committed(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Where a group is in partitions; those in which it has not begun are left out. Raises BrokerUnavailable."""
        found = await self._places(group, partitions)
        if len(found) < len(partitions):  # aiokafka leaves an error of the whole answer out
            raise BrokerUnavailable(f"Kafka at {self._connection.servers} does not tell where group {group!r} is.")
        return {place: offset for place, offset in found.items() if offset >= 0}

    async def _has_begun(self, group: str, partitions: Sequence[TopicPartition]) -> bool:
        return any(offset >= 0 for offset in (await self._places(group, partitions)).values())

    async def _places(self, group: str, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        admin = self._connection.admin
        node = await self._coordinator(group)
        found = await admin.list_consumer_group_offsets(group, node, list(partitions))
        return {place: at.offset for place, at in found.items()}

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
        from aiokafka.errors import TopicAuthorizationFailedError

        (described,) = await self._connection.admin.describe_topics([topic])
        if described["error_code"] == _FORBIDDEN:
            raise TopicAuthorizationFailedError(topic)
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
