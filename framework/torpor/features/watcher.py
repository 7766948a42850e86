"""The watcher: asks how far each group is, for the metrics, and notices a consumer that stands still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, NotRunning
from torpor.kernel.progress import Standstill

if TYPE_CHECKING:
    from torpor.kernel.progress import Progress
    from torpor.runtime.context import Committed
    from torpor.runtime.host import Host
    from torpor.runtime.subscriber import Subscriber

PART = "watcher"
_EVERY = 10.0
_SOON = 1.0  # while a consumer is not open yet
_LEAST = 0.5


class Watcher:
    """Looks now and then, off the way of the messages.

    A consumer stands still when messages wait for it, and nothing of them has been settled for `stuck_seconds`; with 0
    none ever does. One that pauses, or whose part has a reason already why it does not work, is not counted.
    """

    def __init__(self, stuck_seconds: float) -> None:
        self._stuck_seconds = stuck_seconds
        self._every = max(_LEAST, min(_EVERY, stuck_seconds / 3)) if stuck_seconds else _EVERY
        self._standstills: dict[str, Standstill] = {}
        self._ending = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do: it only looks."""
        return True

    def committed(self, rows: Committed) -> None:
        """Commits do not concern it."""

    async def run(self, host: Host) -> None:
        """Looks until it is ended."""
        while not self._ending.is_set():
            subscribers = host.subscribers
            found = await asyncio.gather(*(self._look(host, subscriber) for subscriber in subscribers))
            stuck = [
                f"{subscriber.binding.handled.name} has settled nothing for more than {self._stuck_seconds:g} s, and "
                f"messages of {subscriber.binding.topic!r} wait"
                for subscriber, seconds in zip(subscribers, found, strict=True)
                if seconds is not None and 0 < self._stuck_seconds <= seconds
            ]
            host.health.report(PART, "; ".join(stuck) or None)
            await host.clock.wait(self._ending, _SOON if None in found else self._every)

    async def finish(self, host: Host) -> None:
        """Looks no more."""
        self._ending.set()

    async def _look(self, host: Host, subscriber: Subscriber) -> float | None:
        """For how many seconds a subscriber stands still; None when it cannot be told."""
        name = subscriber.binding.handled.name
        standstill = self._standstills.setdefault(name, Standstill())
        try:
            progress = await subscriber.progress()
        except (BrokerUnavailable, NotRunning):
            progress = None
        self._note(host, subscriber, progress)
        if progress is None or host.metrics.of(name).is_paused or host.health.reasons.get(name) is not None:
            standstill.forget()
            return None if progress is None else 0.0
        return standstill.look(progress.shares, host.clock.time())

    def _note(self, host: Host, subscriber: Subscriber, progress: Progress | None) -> None:
        binding = subscriber.binding
        labels = {"handler": binding.handled.name, "topic": binding.topic, "group": binding.group}
        lag = age = None
        if progress is not None:
            lag = progress.lag
            oldest_at = progress.oldest_at if progress.lag else host.clock.time()
            age = None if oldest_at is None else max(0.0, host.clock.time() - oldest_at)
        host.metrics.note_lag(labels, lag=lag, age=age)
