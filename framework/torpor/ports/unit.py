"""The unit's port: one transaction over a batch of deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.ports.requests import Requests
    from torpor.ports.statements import Statements


class Admission:
    """Which of a batch's messages are new to the binding, and which queues have a parked message before them."""

    __slots__ = ("blocked", "fresh")

    def __init__(self, fresh: Collection[str], blocked: Collection[str]) -> None:
        self.fresh = fresh  # ids
        self.blocked = blocked  # queues


class Unit(Protocol):
    """One open transaction. Not shared between tasks."""

    statements: Statements

    @property
    def requests(self) -> Requests:
        """The keys of requests, under which their answers are kept."""
        ...

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        """Enters the ids into the binding's inbox and tells which were not there, as the unit sees it. The messages
        stand in the queues of their keys, or all in one that is named."""
        ...

    async def claim(self, number: int) -> bool:
        """Takes a due parked row out of the table; False when another has taken it or an operator holds it."""
        ...

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        """Adds to the outbox log, in order, to the parked rows and to the timers. Positions follow the order of
        commits. A parked message that already has a number (it was claimed, and failed again) keeps it, and so its
        place. A timer takes the place of one of its name."""
        ...

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        """Takes a timer out by its name (and only with that due time, when one is given); False when it is not there:
        it has fired, was cancelled, or never was."""
        ...

    async def savepoint(self) -> None:
        """Marks a place to fall back to; a second call moves the mark."""
        ...

    async def rollback_to_savepoint(self) -> None:
        """Takes back all that came after the mark, which stays."""
        ...

    async def commit(self) -> None:
        """Makes it durable. When it raises StoreUnavailable it is unknown whether it was: the inbox will tell."""
        ...
