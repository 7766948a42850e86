"""Which parked messages an operator means, and what is known of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import ParkedMessage

STATES = ("parked", "waiting", "due")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedQuery:
    """The parked messages that fit all that is given: every one when nothing is.

    `reason` is a part of the reason. `since` and `before` are seconds since the epoch, of the time of parking.
    """

    numbers: Sequence[int] | None = None
    binding: str | None = None
    key: str | None = None
    topic: str | None = None
    type: str | None = None
    reason: str | None = None
    state: str | None = None
    since: float | None = None
    before: float | None = None

    def fits(self, row: ParkedMessage) -> bool:
        """Whether a row is meant."""
        message = row.message
        pairs = (
            (self.binding, row.binding),
            (self.key, message.key),
            (self.topic, message.topic),
            (self.type, message.type),
            (self.state, row.state),
        )
        return (
            all(wanted in (None, value) for wanted, value in pairs)
            and (self.numbers is None or row.number in self.numbers)
            and (self.reason is None or self.reason in row.reason)
            and (self.since is None or row.at >= self.since)
            and (self.before is None or row.at < self.before)
        )


class Edit:
    """What a parked message held until an operator changed it."""

    __slots__ = ("at", "data")

    def __init__(self, at: float, data: bytes) -> None:
        self.at = at
        self.data = data

    def __repr__(self) -> str:
        return f"<Edit at {self.at} of {len(self.data)} bytes>"


class Inspection:
    """One parked message, with the number that is first in its queue (its own, when it is that itself), and what it
    held before each edit, oldest first."""

    __slots__ = ("edits", "first", "row")

    def __init__(self, row: ParkedMessage, *, first: int, edits: Sequence[Edit]) -> None:
        self.row = row
        self.first = first
        self.edits = edits

    def __repr__(self) -> str:
        return f"<Inspection of {self.row!r}, {len(self.edits)} edits>"
