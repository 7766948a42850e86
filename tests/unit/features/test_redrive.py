"""The redriver: due rows go to their handler, each once at a time, however often they come due."""

from collections.abc import Sequence
from typing import Any

from torpor import Event, Retry, Service
from torpor.kernel.message import ParkedMessage
from torpor.kernel.parked import ParkedQuery
from torpor.testing import TestShop


class Tried(Event, topic="tried", key="key"):
    key: str


class Eager:
    """A parking lot with an operator who redrives what is parked right before the redriver looks, a few times."""

    def __init__(self, parking: Any, times: int) -> None:
        self._parking = parking
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parking, name)

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        held = [row.number for row in await self._parking.list() if row.due_at is None]
        if held and self.times:
            self.times -= 1
            await self._parking.redrive(ParkedQuery(numbers=held), now)
        rows: Sequence[ParkedMessage] = await self._parking.due(now, limit)
        return rows


async def test_a_row_that_is_due_again_before_anyone_looked_is_tried_again() -> None:
    """A row fails, is parked again, and is redriven before the redriver's next look: it is tried once more."""
    calls: list[str] = []
    service = Service("stubborn")

    @service.on(Tried, retry=Retry(attempts=1))
    async def fail(event: Tried) -> None:
        calls.append(event.key)
        raise LookupError("never")

    async with TestShop(service) as shop:
        shop.hosts[0].store.parking = Eager(shop.hosts[0].store.parking, 5)
        await shop.publish(Tried(key="a"))
        await shop.settle()
        assert len(calls) == 6
        assert [row.state for row in await shop.parked()] == ["parked"]
