"""Streams and durable consumers: made by `declare`, and made again when somebody took them away.

A topic has a stream of its own, unless an existing one holds its subject already: that one is used as it is. A group
has a durable pull consumer which starts at the stream's first message, so that it misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from torpor.adapters.nats import pin
from torpor.adapters.nats.names import check_topic, durable_of, stream_of
from torpor.kernel.errors import BrokerUnavailable, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torpor.adapters.nats.connection import Connection
    from torpor.kernel.topic import Topic
    from torpor.ports.consumer import Subscription

_logger = logging.getLogger("torpor.nats")
_STREAM_EXISTS = 10058
_SUBJECTS_OVERLAP = 10065
_CONSUMER_EXISTS = 10012
_NO_STREAM, _NO_CONSUMER = 10059, 10014
_UNAVAILABLE = 503
_NANOSECONDS = 1_000_000_000


def settings_of(topic: Topic) -> dict[str, Any]:
    """A stream's settings for what is wished of a topic."""
    settings: dict[str, Any] = {}
    if topic.retention is not None:
        settings["max_age"] = 0 if topic.retention == math.inf else int(topic.retention * _NANOSECONDS)
    if topic.max_bytes is not None:
        settings["max_bytes"] = topic.max_bytes
    if topic.replicas is not None:
        settings["num_replicas"] = topic.replicas
    return settings


def window_of(config: Mapping[str, Any]) -> int:
    """A stream's duplicate window, which is no longer than the stream keeps its messages."""
    window, age = int(config["duplicate_window"]), int(config["max_age"])
    return min(window, age) if age else window


class Streams:
    """What is declared on a connection: topics with their streams, subscriptions with their durables."""

    def __init__(self, connection: Connection) -> None:
        self.names: dict[str, str] = {}
        self._durables: dict[tuple[str, str], tuple[str, str]] = {}
        self._shared: set[tuple[str, str]] = set()
        self._created: dict[str, str | None] = {}  # when, by topic
        self._connection = connection
        self.is_doubtful = False

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Makes streams and durables exist, and remembers them."""
        every = [*topics, *(subscription.topic for subscription in subscriptions)]
        groups = {(sub.topic, sub.group): sub.is_shared for sub in subscriptions}
        check_names(every, groups)
        if not all(groups.values()):
            await self._check_level()
        await asyncio.gather(*(self._declare_stream(topic) for topic in dict.fromkeys(every)))
        await asyncio.gather(*(self._declare_durable(*place, is_shared=groups[place]) for place in sorted(groups)))

    def durable(self, subscription: Subscription) -> tuple[str, str]:
        """The stream and the durable of a declared subscription."""
        place = self._durables.get((subscription.topic, subscription.group))
        if place is None:
            raise ConfigurationError([f"{subscription!r} is not declared. Call declare() with it before consume()."])
        return place

    def doubt(self) -> None:
        """Notes that something declared does not answer, so that it is declared again."""
        self.is_doubtful = True

    async def restore(self) -> None:
        """Declares again what is in doubt. Raises BrokerUnavailable."""
        if not self.is_doubtful:
            return
        try:
            await asyncio.gather(*(self._declare_stream(topic) for topic in [*self.names]))
            await asyncio.gather(
                *(self._declare_durable(*place, is_shared=place in self._shared) for place in [*self._durables])
            )
        except ConfigurationError as error:
            raise BrokerUnavailable(f"What was declared is gone, and cannot be made again: {error}") from error
        self.is_doubtful = False

    async def _check_level(self) -> None:
        """Raises ConfigurationError when the server is too old to keep a group's order."""
        level = ((await self._connection.request("INFO")).get("api") or {}).get("level", 0)
        if level < pin.LEVEL:
            problem = (
                f"NATS at {self._connection.servers} is too old: a group that keeps the order of its keys needs "
                f"{pin.SINCE} or newer (level {pin.LEVEL} of JetStream's API; this one has {level})."
            )
            raise ConfigurationError([f"{problem} Upgrade it, or let the group share its messages without order."])

    async def _declare_stream(self, topic: str) -> None:
        self.names[topic] = await self._holder(topic) or await self.make(topic)

    async def place(self, topic: str) -> tuple[dict[str, Any], bool] | None:
        """The settings of the stream that holds a topic, and whether it is ours; None when there is none."""
        name = await self._holder(topic) or stream_of(topic)
        info = await self._connection.request(f"STREAM.INFO.{name}")
        if _error_of(info) == _NO_STREAM:
            return None
        check(info, f"Stream {name!r} of topic {topic!r}")
        config: dict[str, Any] = info["config"]
        return config, config["name"] == stream_of(topic) and config.get("subjects") == [topic]

    async def has_begun(self, subscription: Subscription) -> bool:
        """Whether the group of a subscription has its durable. Its topic has a stream."""
        stream = await self._holder(subscription.topic) or stream_of(subscription.topic)
        durable = durable_in(stream, subscription.topic, subscription.group)
        info = await self._connection.request(f"CONSUMER.INFO.{stream}.{durable}")
        if _error_of(info) == _NO_CONSUMER:
            return False
        check(info, f"Consumer {durable!r} of stream {stream!r}")
        return True

    async def _holder(self, topic: str) -> str | None:
        """A stream of somebody else that holds a topic."""
        answer = await self._connection.request("STREAM.NAMES", {"subject": topic})
        names = answer.get("streams") or []
        return next((str(name) for name in names if name != stream_of(topic)), None)

    async def make(self, topic: str, wish: Topic | None = None) -> str:
        """Makes the stream of a topic, and returns its name. One that exists stays as it is."""
        options, name = self._connection.options, stream_of(topic)
        config = {
            "name": name,
            "subjects": [topic],
            "retention": "limits",
            "discard": "old",
            "storage": options.storage,
            "num_replicas": options.replicas,
            "max_age": int(options.retention * _NANOSECONDS),
            "duplicate_window": int(options.duplicate_window * _NANOSECONDS),
        }
        wished = wish or options.topics.get(topic)
        if wished is not None:
            config |= settings_of(wished)
        config["duplicate_window"] = window_of(config)
        answer = await self._connection.request(f"STREAM.CREATE.{name}", config)
        error = _error_of(answer)
        if error == _STREAM_EXISTS:
            answer = await self._connection.request(f"STREAM.INFO.{name}")
            _check_stream(answer, topic, name, options.storage)
        elif error == _SUBJECTS_OVERLAP:  # somebody made it at this moment
            holder = await self._holder(topic)
            if holder is not None:
                return holder
        check(answer, f"Stream {name!r} of topic {topic!r}")
        created = answer.get("created")  # `did_create` is told of a stream that exists, too
        if self._created.setdefault(topic, created) != created:
            _logger.warning("Stream %s of topic %s was gone, with what it held. It is made again, empty.", name, topic)
            self._created[topic] = created
        return name

    async def _declare_durable(self, topic: str, group: str, *, is_shared: bool) -> None:
        options, stream = self._connection.options, self.names[topic]
        name = durable_in(stream, topic, group)
        wanted = {
            "durable_name": name,
            "name": name,
            "ack_policy": "explicit",
            "ack_wait": int(options.ack_wait * _NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": options.max_ack_pending,
            "filter_subject": topic,
            "priority_policy": "none" if is_shared else "pinned_client",
            "priority_groups": [] if is_shared else [pin.GROUP],
            "priority_timeout": 0 if is_shared else int(options.pin_timeout * _NANOSECONDS),
        }
        answer = await self._make_durable(stream, {**wanted, "deliver_policy": "all"})
        if _error_of(answer) == _CONSUMER_EXISTS:
            info = await self._connection.request(f"CONSUMER.INFO.{stream}.{name}")
            existing = info.get("config") or {}
            if existing.get("ack_policy") != "explicit" or existing.get("deliver_subject"):
                problem = f"Consumer {name!r} of stream {stream!r} is not ours; group {group!r} needs a pull consumer"
                raise ConfigurationError([f"{problem} with explicit acknowledgement. Remove it, or rename the group."])
            answer = await self._make_durable(stream, {**existing, **wanted})
        check(answer, f"Consumer {name!r} of stream {stream!r} (group {group!r}, topic {topic!r})")
        self._durables[topic, group] = stream, name
        (self._shared.add if is_shared else self._shared.discard)((topic, group))

    async def _make_durable(self, stream: str, config: dict[str, Any]) -> dict[str, Any]:
        path = f"CONSUMER.CREATE.{stream}.{config['name']}.{config['filter_subject']}"
        return await self._connection.request(path, {"stream_name": stream, "config": config})


def durable_in(stream: str, topic: str, group: str) -> str:
    """The name of a group's durable in the stream that holds its topic."""
    return durable_of(group) if stream == stream_of(topic) else durable_of(group, topic)


def check_names(topics: Iterable[str], groups: Iterable[tuple[str, str]]) -> None:
    """Raises ConfigurationError with all the names that cannot be."""
    problems: list[str] = []
    for topic in dict.fromkeys(topics):
        try:
            check_topic(topic)
        except ConfigurationError as error:
            problems += error.problems
    problems += [f"A subscription to {topic!r} has an empty group. Name it." for topic, group in groups if not group]
    if problems:
        raise ConfigurationError(problems)


def _check_stream(info: dict[str, Any], topic: str, name: str, storage: str) -> None:
    """Raises ConfigurationError when the stream of a topic's name is none that we could have made."""
    existing = info.get("config")
    if existing is None:
        return  # it has gone again
    if topic not in existing.get("subjects", ()):
        raise ConfigurationError(
            [f"Stream {name!r} is needed for topic {topic!r}, and holds {existing.get('subjects')} instead."]
        )
    if existing.get("storage") != storage:
        problem = f"Stream {name!r} of topic {topic!r} cannot be used: its storage is {existing.get('storage')!r}"
        raise ConfigurationError(
            [f"{problem}, and {storage!r} is wanted. Change JetStreamOptions, or remove the stream."]
        )


def _error_of(answer: dict[str, Any]) -> int:
    error = answer.get("error") or {}
    return int(error.get("err_code", 0))


def check(answer: dict[str, Any], what: str) -> None:
    """Raises what an answer's error means: BrokerUnavailable or ConfigurationError."""
    error = answer.get("error")
    if not error:
        return
    told = f"{what} cannot be declared: {error.get('description')} (error {error.get('err_code')})."
    if error.get("code") == _UNAVAILABLE:
        raise BrokerUnavailable(told)
    raise ConfigurationError([f"{told} Change JetStreamOptions to fit the server, or what exists there."])
