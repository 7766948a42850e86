"""A handler that asks for its event alone is handed a batch straight, with the result of the long way."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from torpor import Event, Message, Order, Park, Retry, Service
from torpor.adapters.memory.clock import VirtualClock
from torpor.adapters.memory.store import MemoryStore
from torpor.kernel.message import Delivery
from torpor.runtime.attempts import Work
from torpor.runtime.binding import bind
from torpor.runtime.context import Context, Health
from torpor.runtime.metrics import Metrics
from torpor.runtime.tx import Envelope
from torpor.runtime.unit import Units


class Asked(Event, topic="asked", key="key"):
    key: str
    what: str
    number: int


class Answered(Event, topic="answered", key="key"):
    key: str
    number: int


class Answering:
    """Does what an event asks for, and knows how often it was asked."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def answer(self, event: Asked) -> Any:
        self.calls.append(event.number)
        match event.what:
            case "publish":
                return [Answered(key=event.key, number=event.number)]
            case "park":
                return Park("asked to")
            case "stumble" if Counter(self.calls)[event.number] < 2:
                raise ValueError(event.number)
            case "fail":
                raise ValueError(event.number)
            case "give up":
                raise KeyError(event.number)
            case "mislead":
                return object()
        return None


class Bench:
    """The units of a service's only handler, on a store in memory."""

    def __init__(self, service: Service) -> None:
        binding, clock, numbers = bind(service).subscribers[0], VirtualClock(), iter(range(1000))
        self.store, self.metrics = MemoryStore(clock), Metrics("bench")
        context = Context(
            clock=clock,
            metrics=self.metrics,
            health=Health(lambda *_: None),
            envelope=Envelope("bench", new_id=lambda: str(next(numbers)), clock=clock),
            jitter=lambda: 0.5,
            committed=lambda _: None,
        )
        self.units = Units(Work(binding.handled, Asked, binding.policies), self.store, context)


async def results(batches: list[list[tuple[int, str, str]]], order: Order, *, is_straight: bool) -> object:
    """What becomes of batches of deliveries, seen from everywhere."""
    answering, service = Answering(), Service("bench")

    async def straight(event: Asked) -> list[Answered]:
        answer: Any = await answering.answer(event)
        return answer

    async def long(event: Asked, message: Message) -> list[Answered]:
        assert message.type == "asked"
        answer: Any = await answering.answer(event)
        return answer

    retry = Retry(attempts=3, later=[10], give_up_on=(KeyError,))
    service.on(Asked, name="answer", retry=retry, order=order, publishes=[Answered])(straight if is_straight else long)
    bench = Bench(service)
    await bench.store.start()
    outcomes = []
    for batch in batches:
        deliveries = [delivery(*given) for given in batch]
        assert await bench.units.run(deliveries) == len(deliveries)
        outcomes.append([(one.outcome, one.attempts, type(one.error)) for one in deliveries])
    rows = await bench.store.parking.list()
    told = bench.metrics.of("bench.answer")
    return (
        answering.calls,
        outcomes,
        [(row.message.id, row.queue, row.state, row.reason.partition(" (")[0], row.attempts) for row in rows],
        [(entry.message.id, entry.message.data) for entry in await bench.store.outbox.pending(1000)],
        (told.done, told.failed, told.parked, told.duplicate, told.in_flight),
    )


def delivery(number: int, key: str, what: str) -> Delivery:
    """A delivery that asks for something; of some ids there are two."""
    data = b"{" if what == "garble" else Asked(key=key, what=what, number=number).model_dump_json().encode()
    fault = "unreadable" if what == "fault" else None
    return Delivery(Message("asked", data, id=str(number), type="asked", key=key), fault=fault)


WISHES = ["nothing"] * 4 + ["publish", "park", "stumble", "fail", "give up", "mislead", "garble", "fault"]
ASKED = st.tuples(st.integers(0, 30), st.sampled_from("abcd"), st.sampled_from(WISHES))


@settings(deadline=None)
@given(st.lists(st.lists(ASKED, min_size=1, max_size=8), max_size=4), st.sampled_from(Order))
def test_the_straight_way_leaves_what_the_long_one_leaves(batches: list[list[Any]], order: Order) -> None:
    """Whatever handlers do with a batch, calls, outcomes, parked rows, messages and numbers are the same."""
    straight, long = (asyncio.run(results(batches, order, is_straight=way)) for way in (True, False))
    assert straight == long


class Kept:
    """A handler that is a method, whose event has another place."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def handle(self, event: Asked) -> None:
        self.numbers.append(event.number)


async def test_a_handler_gets_its_event_wherever_it_takes_it() -> None:
    """By place or by name, as a function or as a method: each is called with the event."""
    seen: list[int] = []

    async def by_name(*, event: Asked) -> None:
        seen.append(event.number)

    kept = Kept()
    for function in (by_name, kept.handle):
        service = Service("bench")
        service.on(Asked, name="answer")(function)
        bench = Bench(service)
        await bench.store.start()
        await bench.units.run([delivery(1, "a", "nothing"), delivery(2, "b", "nothing")])
    assert (seen, kept.numbers) == ([1, 2], [1, 2])
