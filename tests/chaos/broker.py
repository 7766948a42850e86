"""What a run needs of a broker: a server that is ended and started again, and plain clients that tell what it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KINDS = ("nats", "kafka")
TOPICS = ("chaos.placed", "chaos.counted", "chaos.reminded")


class Sighting(NamedTuple):
    """One message that a broker has stored."""

    topic: str
    id: str
    key: str
    number: int
    at: float


class Door(NamedTuple):
    """How one replica reaches the broker: where a gate listens, on any port when 0, and what stands behind it."""

    front: int
    target: int


class BrokerServer(Protocol):
    """A broker's server of the run's own, on files that survive its end."""

    has_exchange: bool  # whether it carries what is not kept

    @property
    def url(self) -> str:
        """Where it is for those who come past all gates."""

    def url_at(self, port: int) -> str:
        """Where it is for who comes by a gate."""

    def door(self, number: int) -> Door:
        """The way of a replica, known once it has started."""

    async def start(self) -> None:
        """Starts it; returns once it answers."""

    async def restart(self, *, is_killed: bool) -> None:
        """Ends it, and starts it again on its files."""

    async def stop(self) -> None:
        """Ends it, whatever it does. Repeatable."""

    async def listen(self) -> None:
        """Begins to count what is published, where that is more than what is stored."""

    async def hush(self) -> None:
        """Listens no more."""

    def published(self, sightings: Sequence[Sighting]) -> Counter[str]:
        """How often each id was published, by what was heard or is stored."""

    async def sightings(self) -> list[Sighting]:
        """All that is stored, that of a key in its order."""

    async def unsettled(self) -> int:
        """How many deliveries its consumers have before them, or out and not acknowledged."""


def broker_of(kind: str, folder: Path, *, doors: int) -> BrokerServer:
    """A broker of a kind, not started."""
    if kind == "kafka":
        from tests.chaos.kafka_broker import KafkaBrokerServer

        return KafkaBrokerServer(folder / "kafka", doors=doors)
    from tests.chaos.nats_broker import NatsBrokerServer

    return NatsBrokerServer(folder / "nats")


def sighting(topic: str, headers: Mapping[str, str], told: Mapping[str, object], at: float) -> Sighting:
    """A stored message, of its headers and its payload."""
    id = headers.get("ce-id") or headers["ce_id"]
    return Sighting(topic, id, str(told["key"]), int(str(told["number"])), at)
