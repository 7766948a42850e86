"""The consumer's port: a live subscription of one group to one topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Delivery


class Subscription:
    """A group's interest in a topic: each message goes to one consumer of each group."""

    __slots__ = ("group", "topic")

    def __init__(self, topic: str, group: str) -> None:
        self.topic = topic
        self.group = group

    def __repr__(self) -> str:
        return f"<Subscription {self.topic} group={self.group}>"


class Consumer(Protocol):
    """A live subscription. The adapter keeps what was fetched from being redelivered until it is settled."""

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Waits for at least one delivery, and takes up to `limit` that are there. Never drops one: what cannot
        be read comes with `fault` set and its bytes whole. Raises BrokerUnavailable, and may be called again then:
        the consumer finds its way back by itself. Safe to cancel."""
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Settles deliveries whose effect is durable, in any order. Raises BrokerUnavailable: they may come again."""
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Gives back deliveries that were not handled, to be delivered again soon, to whichever consumer."""
        ...

    async def stop(self) -> None:
        """Stops fetching, and gives back what was fetched ahead and never handed out. What was handed out may still
        be acknowledged or released until the broker stops."""
        ...
