"""What a deploy does with Kafka's topics and groups: `torpor topics`."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any

from torpor.adapters.kafka.connection import Connection
from torpor.adapters.kafka.refusals import forbidden
from torpor.adapters.kafka.topics import Topics, check_topic, settings_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError
from torpor.kernel.topic import SETTINGS, Topic, TopicPowers, TopicState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from torpor.adapters.kafka.options import KafkaOptions
    from torpor.ports.consumer import Subscription

_FORBIDDEN = 29
_DYNAMIC = 1  # the source of a setting that was made for this topic
_PAUSE = 0.1
_MOVED = "Kafka moves replicas by kafka-reassign-partitions.sh alone. Use that, or drop the wish"


class KafkaTopicAdmin:
    """A connection for topics and groups."""

    def __init__(self, options: KafkaOptions) -> None:
        self.powers = TopicPowers("Kafka", settings=frozenset(SETTINGS), fixed={"replicas": _MOVED})
        self._connection = Connection(options)
        self._topics = Topics(self._connection)

    async def start(self) -> None:
        await self._connection.start()

    async def find(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        problems = [problem for name in names for problem in _problems(name)]
        if problems:
            raise ConfigurationError(problems)
        async with self._asking("does not tell of its topics"):
            known = set(await self._connection.admin.list_topics())  # asking for one by name might make it
            there = [name for name in names if name in known]
            if not there:
                return {}
            described = await self._connection.admin.describe_topics(there)
            settings = await self._settings(there)
        self._check_permitted([topic["topic"] for topic in described if topic["error_code"] == _FORBIDDEN])
        return {topic["topic"]: TopicState(_topic_of(topic, settings[topic["topic"]])) for topic in described}

    async def missing(self, subscriptions: Sequence[Subscription]) -> Sequence[Subscription]:
        async with self._asking("does not tell of its groups"):
            return [subscription for subscription in subscriptions if not await self._topics.has_begun(subscription)]

    async def make(self, topic: Topic) -> None:
        async with self._asking(f"makes no topic {topic.name!r}"):
            refused = await self._topics.make([topic])
            if refused:
                reason = refused[topic.name][1].rstrip(".")
                raise ConfigurationError([f"Kafka makes no topic {topic.name!r}: {reason}."])
            await self._topics.known(topic.name)

    async def change(self, topic: Topic) -> None:
        async with self._asking(f"does not change topic {topic.name!r}"):
            await self._add_partitions(topic)
            await self._alter(topic)
            while not await self._is_so(topic):  # noqa: ASYNC110  # Kafka tells no event
                await asyncio.sleep(_PAUSE)  # done, and not known to every node yet

    async def begin(self, subscriptions: Sequence[Subscription]) -> None:
        for subscription in subscriptions:
            async with self._asking(f"does not begin {subscription!r}"):
                await self._topics.begin(subscription)

    async def stop(self) -> None:
        await self._connection.stop()

    async def _add_partitions(self, topic: Topic) -> None:
        from aiokafka.admin import NewPartitions
        from aiokafka.errors import InvalidPartitionsError

        if topic.partitions is None or topic.partitions == len(await self._topics.known(topic.name)):
            return
        try:
            await self._connection.admin.create_partitions({topic.name: NewPartitions(topic.partitions)})
        except InvalidPartitionsError:
            if topic.partitions != len(await self._topics.known(topic.name)):  # nobody else has just done it
                raise

    async def _alter(self, topic: Topic) -> None:
        """Kafka takes all the settings of a topic at once, so those that it has are sent with ours."""
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
        from aiokafka.errors import for_code

        found = (await self._settings([topic.name]))[topic.name]
        wished = settings_of(topic, {name: value for name, (value, _) in found.items()})
        if all(found.get(name, ("", 0))[0] == value for name, value in wished.items()):
            return
        own = {name: value for name, (value, source) in found.items() if source == _DYNAMIC}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, configs={**own, **wished})
        for answer in await self._connection.admin.alter_configs([resource]):
            for changed in answer.to_object()["resources"]:
                if changed["error_code"]:
                    raise for_code(changed["error_code"])(changed["error_message"] or "")

    async def _is_so(self, topic: Topic) -> bool:
        found = (await self.find([topic.name]))[topic.name].topic
        return all(
            getattr(found, name) == value for name, value in topic.settings().items() if name not in self.powers.fixed
        )

    async def _settings(self, names: Sequence[str]) -> dict[str, dict[str, tuple[str, int]]]:
        """Each topic's settings, with their sources."""
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
        from aiokafka.errors import for_code

        asked: Any = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        found: dict[str, dict[str, tuple[str, int]]] = {}
        for answer in await self._connection.admin.describe_configs(asked):
            for resource in answer.to_object()["resources"]:
                if resource["error_code"]:
                    raise for_code(resource["error_code"])(resource["resource_name"])
                found[resource["resource_name"]] = {
                    entry["config_names"]: (entry["config_value"], entry["config_source"])
                    for entry in resource["config_entries"]
                }
        return found

    def _check_permitted(self, denied: Sequence[str]) -> None:
        if denied:
            raise ConfigurationError([f"{forbidden(name, self._connection.options)}." for name in denied])

    @contextlib.asynccontextmanager
    async def _asking(self, what: str) -> AsyncIterator[None]:
        """Tells a refusal, which asking again does not change, from a Kafka that does not answer."""
        from aiokafka.errors import BrokerResponseError

        try:
            async with self._connection.mapped(what, 4 * self._connection.options.request_timeout):
                yield
        except BrokerUnavailable as error:
            cause = error.__cause__
            if isinstance(cause, BrokerResponseError) and not cause.retriable:
                raise ConfigurationError([f"Kafka {what}: {self._connection.explained(cause)}."]) from cause
            raise

    def __repr__(self) -> str:
        return f"<KafkaTopicAdmin on {self._connection!r}>"


def _problems(topic: str) -> Sequence[str]:
    try:
        check_topic(topic)
    except ConfigurationError as error:
        return error.problems
    return ()


def _topic_of(described: Mapping[str, Any], settings: Mapping[str, tuple[str, int]]) -> Topic:
    """A topic from Kafka's two answers about it."""
    policies = settings["cleanup.policy"][0].split(",")
    milliseconds = int(settings["retention.ms"][0])
    keeps = "delete" not in policies or milliseconds < 0
    most = int(settings["retention.bytes"][0])
    partitions = described["partitions"]
    found = Topic(described["topic"])  # set as it is, sound for a wish or not
    found.partitions = len(partitions)
    found.replicas = min((len(partition["replicas"]) for partition in partitions), default=0)
    found.retention = math.inf if keeps else milliseconds / 1000
    found.max_bytes = None if most < 0 else most
    found.compacted = "compact" in policies
    return found
