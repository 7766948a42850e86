"""What a transaction publishes: its ids, its attributes, and the time that it tells."""

from __future__ import annotations

from torpor import Event, Service
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.runtime.binding import bind
from torpor.runtime.tx import Envelope, Tx


class Begun(Event, topic="work.begun"):
    number: int


class Done(Event, topic="work.done", key="number"):
    number: int


class Hinted(Event, topic="work.hinted", durable=False):
    number: int


class PassingClock(VirtualClock):
    """A clock on which a second passes whenever it is read."""

    def time(self) -> float:
        self._now += 1.0
        return self._now


service = Service("works")


@service.on(Begun, publishes=[Done, Hinted])
async def work(event: Begun, tx: Tx) -> None: ...


async def test_what_is_returned_together_tells_one_time() -> None:
    """The events of one list have each its own id and key, and all one time; those published by themselves their own.
    A fleeting one among them is told after the commit."""
    clock = PassingClock()
    store = MemoryStore(clock)
    await store.start()
    async with store.unit() as unit:
        tx = Tx(unit, bind(service).subscribers[0].handled, envelope=Envelope("works", clock=clock), message=None)
        for number in range(2):
            tx.publish(Done(number=number))
        await tx.finish([Done(number=2), Done(number=3), Hinted(number=4)])

    first, second, third, fourth = tx.published
    (hint,) = tx.fleeting
    assert [message.key for message in tx.published] == ["0", "1", "2", "3"]
    assert len({message.id for message in [*tx.published, hint]}) == 5
    assert first.attributes["time"] < second.attributes["time"] < third.attributes["time"]
    assert third.attributes["time"] == fourth.attributes["time"] == hint.attributes["time"]
