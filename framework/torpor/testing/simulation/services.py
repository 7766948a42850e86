"""The services under simulation: a source of sequences by key, one that passes them on, one that only counts.

Their SQL is a language of three statements, which the simulated store understands.
"""

from __future__ import annotations

from functools import cache

from torpor.contract.event import Event, Request
from torpor.kernel.batch import Batch
from torpor.kernel.order import Order
from torpor.kernel.outcome import Failed
from torpor.kernel.pause import Pause
from torpor.kernel.retry import Retry
from torpor.runtime.binding import bind
from torpor.runtime.plan import Plan  # noqa: TC001  # beside the rest
from torpor.runtime.service import Service
from torpor.runtime.tx import Tx  # noqa: TC001  # read when a handler is bound

EFFECT = "INSERT INTO effect (handler, key, number) VALUES ($1, $2, $3)"
TROUBLE = "SELECT trouble($1, $2, $3)"  # fails when the run's script says so
DECLINED = "SELECT declined($1, $2, $3)"  # has a row when the run's script says so


class Placed(Event, topic="sim.placed", key="key"):
    """One number of a key's sequence."""

    key: str
    number: int


class Reserved(Event, topic="sim.reserved", key="key"):
    """What follows from a placed one."""

    key: str
    number: int


class Closed(Event, topic="sim.closed", key="key"):
    """The end of the round."""

    key: str
    number: int


class Reminded(Event, topic="sim.reminded", key="key"):
    """What comes a while after a reserved one."""

    key: str
    number: int


class Asked(Request[int], topic="sim.asked"):
    """A number that is asked for."""

    key: str
    number: int


class Seen(Event, topic="sim.seen", key="key", durable=False):
    """What may be lost."""

    key: str
    number: int


source = Service("source")
stock = Service("stock")
bill = Service("bill")


@source.post("/numbers")
async def place(key: str, numbers: list[int], tx: Tx) -> None:
    """Publishes numbers of a key, in order, or none."""
    for number in numbers:
        tx.publish(Placed(key=key, number=number))
        await tx.execute(TROUBLE, "source.place", key, number)


@source.on(Closed)
async def close(event: Closed, tx: Tx) -> None:
    """Ends the round."""
    await tx.execute(EFFECT, "source.close", event.key, event.number)
    await tx.fetch(TROUBLE, "source.close", event.key, event.number)


@source.on(Reminded)
async def remember(event: Reminded, tx: Tx) -> None:
    """Hears of a number again."""
    tx.write(EFFECT, "source.remember", event.key, event.number)


@stock.on(Placed, retry=Retry(attempts=3), publishes=[Reminded, Seen])
async def reserve(event: Placed, tx: Tx) -> Reserved:
    """Passes a number on, and sets a timer."""
    await tx.execute(EFFECT, "stock.reserve", event.key, event.number)
    tx.publish(Reminded(key=event.key, number=event.number), after=0.5 + event.number % 4)
    if event.number % 4 == 0:
        tx.publish(Seen(key=event.key, number=event.number))
    await tx.execute(TROUBLE, "stock.reserve", event.key, event.number)
    return Reserved(key=event.key, number=event.number)


@stock.answer(Asked, publishes=[Seen])
async def answer(request: Asked, tx: Tx) -> int:
    """Answers with the number itself, once that is written down."""
    await tx.execute(EFFECT, "stock.answer", request.key, request.number)
    tx.publish(Seen(key=request.key, number=request.number))
    await tx.execute(TROUBLE, "stock.answer", request.key, request.number)
    return request.number


@bill.on(Seen)
async def glimpse(event: Seen, tx: Tx) -> None:
    """Notes what it happens to hear."""
    tx.write(EFFECT, "bill.glimpse", event.key, event.number)


@bill.on(Placed, retry=Retry(attempts=1))
async def note(event: Placed, tx: Tx) -> None:
    """Writes it down, with what is sent late."""
    tx.write(EFFECT, "bill.note", event.key, event.number)
    tx.write(TROUBLE, "bill.note", event.key, event.number)


@bill.on(Reserved, retry=Retry(attempts=2, later=[1.0, 3.0]))
async def charge(event: Reserved, tx: Tx) -> Closed:
    """Ends what the source has begun."""
    await tx.execute(TROUBLE, "bill.charge", event.key, event.number)
    tx.write(EFFECT, "bill.charge", event.key, event.number)
    return Closed(key=event.key, number=event.number)


@bill.on(Closed, batch=Batch(8), retry=Retry(attempts=2), pause=Pause(failures=3, of=6, seconds=2.0))
async def tally(events: list[Closed], tx: Tx) -> Failed | None:
    """Takes several at once, declines some by name, and fails as a whole for others."""
    declined = []
    for event in events:
        if await tx.fetch(DECLINED, "bill.tally", event.key, event.number):
            declined.append(event)
            continue
        tx.write(EFFECT, "bill.tally", event.key, event.number)
        tx.write(TROUBLE, "bill.tally", event.key, event.number)
    return Failed(declined, "not now") if declined else None


@source.on(Reserved, order=Order.STRICT, retry=Retry(attempts=2, isolated=True))
async def follow(event: Reserved, tx: Tx) -> None:
    """Follows the topic as it is."""
    await tx.execute(EFFECT, "source.follow", event.key, event.number)
    await tx.execute(TROUBLE, "source.follow", event.key, event.number)


@cache
def plans() -> tuple[Plan, ...]:
    """The services, bound."""
    return bind(source), bind(stock), bind(bill)
