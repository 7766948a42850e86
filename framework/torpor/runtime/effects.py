"""What a unit will append, gathered while its handlers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.runtime.deferred import Deferred


class Effects:
    """What the handlers of one unit have left: for the outbox, for the parked rows, and for the numbers."""

    __slots__ = (
        "blocked", "claimed", "deferred", "done", "duplicates", "fleeting", "forgotten", "fresh", "held", "parked",
        "published", "timers",
    )  # fmt: skip

    def __init__(self, deferred: Deferred | None = None) -> None:
        self.deferred = deferred  # what the handlers hand over, unless each of them sends its own
        self.published: list[Message] = []
        self.fleeting: list[Message] = []
        self.timers: list[Timer] = []
        self.forgotten: set[str] = set()
        self.parked: list[ParkedMessage] = []
        self.fresh: set[str] = set()
        self.blocked: set[str] = set()  # queues with a parked message from before this unit
        self.held: set[str] = set()  # queues in which this unit itself parks
        self.done = 0
        self.duplicates = 0
        self.claimed = 0

    @property
    def is_nothing(self) -> bool:
        """Whether nobody needs to be told of the commit."""
        left = self.published or self.parked or self.timers or self.fleeting or self.forgotten or self.claimed
        return not left
