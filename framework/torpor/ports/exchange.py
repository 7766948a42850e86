"""The exchange's port: what a broker passes on and does not keep. Proved by `torpor.testing.conformance.exchange`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message

    Take = Callable[["Heard"], None]


class ExchangePromises:
    """What an adapter promises; the conformance suite shows each, or skips what is not promised."""

    __slots__ = ("keeps_order", "tells_absence")

    def __init__(self, *, keeps_order: bool, tells_absence: bool) -> None:
        self.keeps_order = keeps_order  # what one exchange tells on a topic is heard in that order, by who hears it
        self.tells_absence = tells_absence  # a request to which nobody listens is told so at once


class Heard:
    """One message that was heard, with the adapter's way back to who sent it: None when no answer is waited for.
    `fault` is set when the envelope could not be read; the message then holds the bytes."""

    __slots__ = ("fault", "message", "way")

    def __init__(self, message: Message, way: Any = None, *, fault: str | None = None) -> None:
        self.message = message
        self.way = way
        self.fault = fault


class Listening(Protocol):
    """A group's ear on a topic. It moves to the next connection when one is lost. `trouble` tells why it hears nothing
    for good, what to do included, and is None while it may hear."""

    trouble: str | None

    async def stop(self) -> None:
        """Hears no more; what the broker had sent until then has been handed out. Repeatable, raises nothing."""
        ...


class Exchange(Protocol):
    """The part of a broker that keeps nothing: each message goes, at most once, to who listens at that moment. It
    lives on the broker's connection, from its start to its stop."""

    promises: ExchangePromises

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        """Hands messages to the broker in order and waits for nothing, not for a lost connection either; returns the
        refusals by index. Raises BrokerUnavailable: those that were not handed over are lost."""
        ...

    async def listen(self, topic: str, group: str, take: Take) -> Listening:
        """Has `take` called for each message of the topic that goes to this member of the group; each group hears all,
        each of its members a share. `take` returns at once and raises nothing. Raises BrokerUnavailable."""
        ...

    async def ask(self, request: Message) -> Message | None:
        """Sends a request, and waits for the first answer until it is cancelled; None when nobody listens. Raises
        Rejected when it cannot be sent, and BrokerUnavailable when it is unknown whether it arrived."""
        ...

    async def answer(self, heard: Heard, answer: Message) -> None:
        """Sends an answer back, which is lost when nobody waits for it any more. Raises Rejected when it is too large,
        BrokerUnavailable when it is lost."""
        ...
