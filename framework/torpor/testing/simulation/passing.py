"""What passes through the broker and is not kept: the record of requests and fleeting events, and their invariants."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

ENDED = "a request ends in one answer, a clear error or a timeout"
ANSWERED_ONCE = "an answered request has its effect once, a refused one none, any other at most once"
FLEETING = "a fleeting event is handled at most once, and only after its commit"
NOTHING_LEFT = "nothing is left of requests and of fleeting events"

_UNDONE = frozenset({"nobody", "undecodable", "failed"})  # codes that promise that there is no effect
_CODES = _UNDONE | {"unavailable", "oversized", "unreadable"}


class Passing:
    """The requests and fleeting events of a run, by what they say."""

    def __init__(self, violate: Callable[[str, str], None], *, answers: str, hears: str) -> None:
        self.asked: dict[str, str] = {}  # how each has ended: "" for not yet
        self.effects: Counter[str] = Counter()  # of the handler that answers
        self.heard: Counter[str] = Counter()  # by the handler of fleeting events
        self._violate = violate
        self._handlers = {answers: self.effects, hears: self.heard}

    def knows(self, handler: str) -> bool:
        """Whether a handler is one of these, and not one of a topic that is kept."""
        return handler in self._handlers

    def done(self, handler: str, name: str) -> None:
        """A handler's effect was committed."""
        self._handlers[handler][name] += 1

    def ask(self, name: str) -> None:
        """A request is about to be sent."""
        if name in self.asked:
            self._violate(ENDED, f"{name} is asked twice by the run itself.")
        self.asked[name] = ""

    def end(self, name: str, how: str) -> None:
        """A request has ended: "answered", a code, "unknown", or "gone" with the process that asked."""
        if self.asked[name]:
            self._violate(ENDED, f"{name} has ended as {self.asked[name]}, and again as {how}.")
        if how not in _CODES | {"answered", "unknown", "gone"}:
            self._violate(ENDED, f"{name} has ended as {how}.")
        self.asked[name] = how

    def conclude(self, committed: Collection[str]) -> None:
        """Checks what must hold at the end; `committed` are the others whose commits tell a fleeting event."""
        for name, how in self.asked.items():
            count = self.effects[name]
            if not how:
                self._violate(ENDED, f"{name} is still waited for.")
            elif count > 1 or (how == "answered" and count != 1) or (how in _UNDONE and count):
                self._violate(ANSWERED_ONCE, f"{name} has ended as {how}, with {count} effects.")
        for name, count in self.heard.items():
            if count > 1:
                self._violate(FLEETING, f"{name} was handled {count} times.")
            if not self.effects[name] and name not in committed:
                self._violate(FLEETING, f"{name} was handled, and never committed.")
