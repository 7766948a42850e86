"""The faults of a run, drawn from its seed: which kinds there are, how often, and the network that all calls cross."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from torpor.testing.simulation.loop import current_process

if TYPE_CHECKING:
    from torpor.kernel.errors import BrokerUnavailable, StoreUnavailable
    from torpor.testing.simulation.loop import SimulationLoop

_SLOW = 0.02  # seconds that a slow call takes at most


class Trace:
    """What happened, in order: always as a fingerprint, and as lines when somebody is to read it."""

    def __init__(self, *, is_kept: bool) -> None:
        self.is_kept = is_kept
        self.lines: list[str] = []
        self.fingerprint = 0
        self.loop: SimulationLoop | None = None

    def note(self, who: str, what: str) -> None:
        """Notes one event."""
        self.fingerprint = zlib.crc32(f"{who} {what}".encode(), self.fingerprint)
        if self.is_kept:
            self.tell(who, what)

    def tell(self, who: str, what: str) -> None:
        """Adds a line that is not part of the fingerprint."""
        now = self.loop.time() if self.loop else 0.0
        self.lines.append(f"{now:9.3f}  {who:<10} {what}")


class Weather:
    """How bad a run is. Each kind of fault is there in about half of all seeds, so that they meet in all mixtures."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311  # the chance of a simulation guards nothing
        self.is_deduplicating = self.chance.random() < 0.5  # the broker drops copies
        self.slowness = self.chance.choice((0.0, 0.1, 0.4))
        self.lost_commits = self._sometimes(0.08)
        self.lost_publishes = self._sometimes(0.1)
        self.lost_acknowledgements = self._sometimes(0.15)
        self.doubled_deliveries = self._sometimes(0.15)
        self.lost_statements = self._sometimes(0.02)
        self.flaky_messages = self._sometimes(0.15)
        self.poisoned_messages = self._sometimes(0.06)
        self.cursed_messages = self._sometimes(0.05)
        self.refused_messages = self._sometimes(0.06)
        self.batch = self.chance.choice((1, 3, 500))  # rows that a relay reads at a time
        self.lost_passing = self._sometimes(0.1)
        self.is_calm = False

    def happens(self, probability: float) -> bool:
        """Whether a fault happens now."""
        return not self.is_calm and probability > 0.0 and self.chance.random() < probability

    def _sometimes(self, most: float) -> float:
        return self.chance.uniform(0.0, most) if self.chance.random() < 0.5 else 0.0


class Network:
    """The way to one server. A call takes its time, and may find nobody there."""

    def __init__(
        self, name: str, weather: Weather, *, trace: Trace, error: type[BrokerUnavailable | StoreUnavailable]
    ) -> None:
        self.lost_calls: Counter[str] = Counter()  # by the name of the caller
        self.name = name
        self.weather = weather
        self.trace = trace
        self.is_down = False
        self._error = error

    async def cross(self, call: str) -> None:
        """Carries a call to the server."""
        process = current_process()
        self.trace.note(process.name, call)
        if process.awaited and call.startswith(process.awaited):
            process.awaited, process.fuse = "", 1 + self.weather.chance.randrange(3)
        await self.delay()
        if self.is_down:
            raise self.lost(call)

    async def delay(self) -> None:
        """Lets others run, and sometimes time pass."""
        weather = self.weather
        is_slow = weather.slowness and weather.chance.random() < weather.slowness
        await asyncio.sleep(weather.chance.random() * _SLOW if is_slow else 0)

    def lost(self, call: str) -> BrokerUnavailable | StoreUnavailable:
        """The error of a call that has got no answer."""
        caller = current_process().name
        self.lost_calls[caller] += 1
        self.trace.note(caller, f"{call} is lost")
        return self._error(f"{self.name} gave no answer to {call}.")
