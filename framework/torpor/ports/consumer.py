"""The consumer's port: a live subscription of one group to one topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery
    from torpor.kernel.progress import Progress


class Subscription:
    """A group's interest in a topic.

    Unless it is shared, at most one consumer of the group is active at a time for each part of the topic that is kept
    in order (on Kafka a partition, else all of it), and the others stand by in `fetch`. One of them takes over soon
    after the active one has stopped, and within seconds when it is dead or frozen. It is then given all that the
    group has not acknowledged, in order from the first, before anything newer: also what the former one still works
    on, and what was acknowledged behind something that was not. So each consumer is given a run without a gap, and a
    handler with an inbox keeps the order of each key, whoever else is awake.

    A shared subscription's messages go to whichever consumer of the group, without any order across them.
    """

    __slots__ = ("group", "is_shared", "topic")

    def __init__(self, topic: str, group: str, *, is_shared: bool = False) -> None:
        self.topic = topic
        self.group = group
        self.is_shared = is_shared

    def __repr__(self) -> str:
        return f"<Subscription {self.topic} group={self.group}{' shared' if self.is_shared else ''}>"


class Consumer(Protocol):
    """A live subscription. The adapter keeps what was fetched from being redelivered until it is settled."""

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Waits for at least one delivery, and takes up to `limit` that are there. Never drops one: what cannot
        be read comes with `fault` set and its bytes whole. Raises BrokerUnavailable, and may be called again then:
        the consumer finds its way back by itself. Safe to cancel."""
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Settles deliveries whose effect is durable, in any order, also when another consumer has taken over.
        Raises BrokerUnavailable: they may come again."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Gives back deliveries that were not handled, to be delivered again soon."""
        ...

    async def progress(self) -> Progress:
        """How far the group is in its topic, and this consumer in its share. Asks the broker, apart from the way of
        the messages. Raises BrokerUnavailable."""
        ...

    async def stop(self) -> None:
        """Stops fetching, and lets others have what was fetched ahead and never handed out. What was handed out may
        still be acknowledged or released until the broker stops; another may be given it meanwhile."""
        ...
