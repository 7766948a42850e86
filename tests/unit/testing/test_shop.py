"""The harness: services in one process, virtual time, and what a test may ask of them."""

from collections.abc import AsyncIterator
from typing import Annotated

import pytest

from torpor import Depends, Event, Message, Retry, Router, Service, Tx, new_id
from torpor.testing import TestShop


class Asked(Event, topic="asked", key="name"):
    name: str


class Greeted(Event, topic="greeted", key="name"):
    name: str
    greeting: str


class Page:
    """What the lifespan opens."""

    def __init__(self) -> None:
        self.is_open = True


def front_desk() -> Service:
    service = Service("desk")

    @service.post("/guests/{name}", status_code=202)
    async def arrive(name: str, tx: Tx) -> dict[str, str]:
        tx.publish(Asked(name=name))
        return {"name": name}

    return service


def greeter(ticks: list[str] | None = None) -> Service:
    service = Service("greeter")
    router = Router(prefix="/greetings")
    service.include(router)

    @service.lifespan
    async def page() -> AsyncIterator[Page]:
        opened = Page()
        yield opened
        opened.is_open = False

    async def word(page: Annotated[Page, Depends(page)], message: Message) -> AsyncIterator[str]:
        assert page.is_open
        yield f"hello ({message.topic})"

    @service.on(Asked, retry=Retry(attempts=2))
    async def greet(event: Asked, word: Annotated[str, Depends(word)]) -> Greeted:
        if event.name == "nobody":
            raise LookupError("nobody is there")
        return Greeted(name=event.name, greeting=f"{word} {event.name}")

    @router.get("/word")
    async def opened(page: Annotated[Page, Depends(page)]) -> bool:
        return page.is_open

    @service.every(60)
    async def tick(message: Message) -> None:
        if ticks is not None:
            ticks.append(message.id)

    return service


async def test_a_request_goes_through_two_services() -> None:
    """A route's event reaches the other service's handler, and what that returns is published."""
    async with TestShop(front_desk(), greeter()) as shop:
        answer = await shop.post("/guests/ada")
        assert (answer.status_code, answer.json()) == (202, {"name": "ada"})
        await shop.settle()
        assert shop.published(Asked) == [Asked(name="ada")]
        assert shop.published(Greeted) == [Greeted(name="ada", greeting="hello (asked) ada")]
        assert (await shop.get("/greetings/word")).json() is True


async def test_an_event_may_come_from_outside() -> None:
    """A test publishes what another service would, and the same id twice has one effect."""
    async with TestShop(greeter()) as shop:
        id = new_id()
        await shop.publish(Asked(name="bob"), id=id)
        await shop.publish(Asked(name="bob"), id=id)
        await shop.settle()
        assert len(shop.published(Greeted)) == 1


async def test_what_fails_is_parked_and_may_be_redriven() -> None:
    """A failing message is parked in its binding; redriven, it goes through the handler again."""
    service = greeter()
    async with TestShop(service) as shop:
        await shop.publish(Asked(name="nobody"))
        await shop.publish(Message("asked", b"no json", id="x", type="asked"))
        await shop.settle()
        parked = await shop.parked("greeter.greet")
        assert sorted(row.reason.partition(":")[0] for row in parked) == ["Asked does not fit", "LookupError"]
        await shop.redrive("greeter.greet")
        again = await shop.parked()
        assert sorted(row.number for row in again) == sorted(row.number for row in parked)
        assert max(row.attempts for row in again) == 3


async def test_the_clock_moves_schedules() -> None:
    """A schedule ticks when the test moves the clock, with the tick's time as its id."""
    ticks: list[str] = []
    async with TestShop(greeter(ticks)) as shop:
        assert ticks == []
        await shop.advance(60)
        await shop.advance(120)
        assert len(ticks) == 3
        assert all(float(tick.partition("@")[2]) % 60 == 0 for tick in ticks)


async def test_a_closed_harness_says_so() -> None:
    """Asking a harness that is not open tells how to open it."""
    shop = TestShop(greeter())
    with pytest.raises(Exception, match="async with TestShop"):
        await shop.get("/greetings/word")
