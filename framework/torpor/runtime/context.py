"""What the parts of one running service share."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence

    from torpor.kernel.message import Message
    from torpor.ports.clock import Clock
    from torpor.runtime.metrics import Metrics
    from torpor.runtime.tx import Envelope

STARTING = "starting"
STOPPING = "stopping"
_PLANNED = (None, STARTING, STOPPING)


def _chance() -> float:
    import random  # late: nothing waits in a service that wakes for one event

    return random.random()  # noqa: S311  # spreads waits


class Committed:
    """How many rows of each kind a unit has committed; those it took out of the parked rows count as parked."""

    __slots__ = ("fleeting", "forgotten", "parked", "published", "timers")

    def __init__(
        self,
        published: int = 0,
        *,
        parked: int = 0,
        timers: int = 0,
        fleeting: Sequence[Message] = (),
        forgotten: Collection[str] = (),
    ) -> None:
        self.published = published
        self.parked = parked
        self.timers = timers
        self.fleeting = fleeting  # in no table: they are told now, or never
        self.forgotten = forgotten  # tags of answers that are not to be given to anybody any more


class Health:
    """What is known of each part: nothing wrong, or the reason why it does not work."""

    def __init__(self, tell: Callable[[str, str | None], None]) -> None:
        self.reasons: dict[str, str | None] = {}
        self.known = asyncio.Event()  # once all works for the first time, or something does not
        self._notes: dict[str, str] = {}
        self._tell = tell

    def report(self, part: str, reason: str | None) -> None:
        """Notes a part's state, and tells when it has changed."""
        before = self.reasons.get(part)
        self.reasons[part] = reason
        is_trouble, was_trouble = reason not in _PLANNED, before not in _PLANNED
        if not self.known.is_set() and (is_trouble or self.is_good):
            self.known.set()
        if reason != before and (is_trouble or (was_trouble and reason is None)):
            self._tell(part, reason)

    def note(self, part: str, text: str | None) -> None:
        """Tells what an operator should know of a part that works as it is meant to."""
        if text != self._notes.get(part):
            self._tell(part, text)
        if text is None:
            self._notes.pop(part, None)
        else:
            self._notes[part] = text

    @property
    def is_good(self) -> bool:
        """Whether every part works."""
        return not any(self.reasons.values())

    def watch(self, part: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs background work; when it dies of an error, its part no longer works, and that is told."""
        task = asyncio.create_task(work, name=part)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.report(task.get_name(), f"died of {type(error).__name__}: {error}")
            logging.getLogger("torpor").error("%s died", task.get_name(), exc_info=error)

    def status(self) -> dict[str, Any]:
        """Each part, as JSON."""
        return {
            part: {"ok": reason is None, "detail": reason or self._notes.get(part, "ok")}
            for part, reason in sorted(self.reasons.items())
        }


class Context:
    """The clock, the numbers, the health and the lifespans' values of one running service."""

    __slots__ = ("clock", "committed", "envelope", "health", "jitter", "metrics", "resources")

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        envelope: Envelope,
        committed: Callable[[Committed], None],
        jitter: Callable[[], float] = _chance,
    ) -> None:
        self.clock = clock
        self.metrics = metrics
        self.health = health
        self.envelope = envelope
        self.committed = committed  # called after each commit
        self.jitter = jitter  # a share of a wait, from 0 to 1
        self.resources: dict[Any, Any] = {}

    def report(self, part: str, reason: str | None) -> None:
        """Notes a part's state for readiness."""
        self.health.report(part, reason)
