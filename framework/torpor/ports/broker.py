"""The broker's port: declare, publish, consume. An adapter is proved by `torpor.testing.conformance.broker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.consumer import Consumer, Subscription


class BrokerPromises:
    """What an adapter promises; the conformance suite shows each, or skips what is not promised. That each key keeps
    its order, and each group its place, is everybody's contract. Delays, transactions and the replay are the store's.
    """

    __slots__ = ("deduplicates", "is_persistent", "keeps_order", "redelivers", "settles_each")

    def __init__(
        self, *, keeps_order: bool, redelivers: bool, settles_each: bool, is_persistent: bool, deduplicates: bool
    ) -> None:
        self.keeps_order = keeps_order  # messages of a topic are first delivered in the order of their publishing
        self.redelivers = redelivers  # what a dead or stopped consumer did not acknowledge comes again
        self.settles_each = settles_each  # shared, only that comes again; else also what was settled behind it
        self.is_persistent = is_persistent  # acknowledged publishing outlives the broker's process
        self.deduplicates = deduplicates  # a message id published twice within the window is delivered once


class Broker(Protocol):
    """A connection to one broker."""

    @property
    def promises(self) -> BrokerPromises:
        """What the adapter promises."""
        ...

    async def start(self) -> None:
        """Connects. Raises BrokerUnavailable (the address named, no secret), and may be called again then."""
        ...

    async def declare(self, topics: Sequence[str], subscriptions: Sequence[Subscription]) -> None:
        """Makes topics and groups exist; repeatable. A group sees what is published after it was first declared."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        """Publishes in order; returns when the broker has confirmed each, with the refusals by index. What follows
        on the key of a message that is refused before it is sent (too large, no topic) is refused with it, so that a
        key keeps its order. Raises BrokerUnavailable when it is unknown what arrived: send all of them again."""
        ...

    async def consume(self, subscription: Subscription) -> Consumer:
        """Opens a consumer of a declared subscription."""
        ...

    async def ping(self) -> None:
        """Asks the broker for a sign of life. Raises BrokerUnavailable."""
        ...

    async def stop(self) -> None:
        """Sends what is buffered (acknowledgements included) and disconnects. Repeatable."""
        ...
