"""The port of what a deploy does with a broker's topics and groups. Proved by `torpor.testing.conformance.topics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.topic import Topic, TopicPowers, TopicState
    from torpor.ports.consumer import Subscription


class TopicAdmin(Protocol):
    """A connection to one broker for its topics and groups, apart from those that publish and consume.

    What the broker will not have (no permission, a value that it refuses) raises ConfigurationError with its reason.
    A broker that does not answer raises BrokerUnavailable.
    """

    powers: TopicPowers

    async def start(self) -> None:
        """Connects. Raises BrokerUnavailable (the address named, no secret)."""
        ...

    async def find(self, names: Sequence[str]) -> Mapping[str, TopicState]:
        """Those of the topics that exist, as they are. Names that cannot be raise ConfigurationError, all together."""
        ...

    async def missing(self, subscriptions: Sequence[Subscription]) -> Sequence[Subscription]:
        """Those of the subscriptions whose group has not begun."""
        ...

    async def make(self, topic: Topic) -> None:
        """Makes a topic as it is wished, as far as the broker can; one that exists stays as it is. What is not wished
        is as `Broker.declare` would have it. Other connections see it when this returns."""
        ...

    async def change(self, topic: Topic) -> None:
        """Changes what is said of an existing topic, and leaves the rest of it as it is. Repeatable."""
        ...

    async def begin(self, subscriptions: Sequence[Subscription]) -> None:
        """Has groups of existing topics begin where their topics end, so that the broker knows them and their lag, and
        nothing published from now on is missed. Those that have begun stay where they are."""
        ...

    async def stop(self) -> None:
        """Disconnects. Repeatable."""
        ...
