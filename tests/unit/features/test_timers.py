"""Timers: delayed publishing, replaced, cancelled, and fired once in the order of their times."""

from datetime import UTC, datetime, timedelta

import pytest

from torpor import ConfigurationError, Event, Retry, Service, Tx
from torpor.testing import TestShop


class Reminded(Event, topic="reminded", key="who"):
    who: str


class Asked(Event, topic="asked", key="who"):
    who: str


def reminders() -> Service:
    service = Service("reminders")

    @service.post("/remind/{who}/{seconds}")
    async def remind(who: str, seconds: float, tx: Tx, name: str | None = None) -> None:
        tx.publish(Reminded(who=who), after=seconds, timer=name)

    @service.post("/remind-at/{who}")
    async def remind_at(who: str, at: datetime, tx: Tx) -> None:
        tx.publish(Reminded(who=who), at=at)

    @service.delete("/remind/{name}")
    async def forget(name: str, tx: Tx) -> bool:
        return await tx.cancel(name)

    @service.post("/wrong/{how}")
    async def wrong(how: str, tx: Tx) -> None:
        event = Reminded(who="x")
        if how == "past":
            tx.publish(event, after=timedelta(seconds=-1))
        elif how == "endless":
            tx.publish(event, after=float("inf"))
        elif how == "naive":
            tx.publish(event, at=datetime(2026, 1, 1))  # noqa: DTZ001  # the mistake under test
        else:
            tx.publish(event, timer="x")

    return service


async def test_a_delayed_event_is_published_when_its_time_has_come() -> None:
    """Not before, and once; `after` counts from now, `at` names the time."""
    async with TestShop(reminders()) as shop:
        await shop.post("/remind/ada/100")
        at = datetime.fromtimestamp(shop.clock.time() + 50, UTC)
        await shop.post("/remind-at/bob", params={"at": at.isoformat()})
        await shop.advance(49)
        assert shop.published(Reminded) == []
        await shop.advance(1.1)
        assert shop.published(Reminded) == [Reminded(who="bob")]
        await shop.advance(50)
        assert shop.published(Reminded) == [Reminded(who="bob"), Reminded(who="ada")]
        await shop.advance(1000)
        assert len(shop.published(Reminded)) == 2


async def test_a_named_timer_is_replaced_and_cancelled() -> None:
    """A later one of its name takes its place; cancelled, it is never published, and that is told."""
    async with TestShop(reminders()) as shop:
        await shop.post("/remind/ada/10?name=x")
        await shop.post("/remind/ada/100?name=x")
        await shop.advance(60)
        assert shop.published(Reminded) == []
        assert (await shop.request("DELETE", "/remind/x")).json() is True
        assert (await shop.request("DELETE", "/remind/x")).json() is False
        await shop.advance(1000)
        assert shop.published(Reminded) == []


async def test_many_timers_fire_in_the_order_of_their_times() -> None:
    """More than one batch that fell due while nothing ran is published in order."""
    async with TestShop(reminders()) as shop:
        for number in range(250):
            await shop.post(f"/remind/{number}/{1000 - number}")
        await shop.advance(2000)
        assert [event.who for event in shop.published(Reminded)] == [str(number) for number in reversed(range(250))]


@pytest.mark.parametrize("how", ["past", "endless", "naive", "pointless"])
async def test_a_wait_that_makes_no_sense_is_refused(how: str) -> None:
    """A wait into the past or without an end, a time without a zone, and a name without a wait are told."""
    async with TestShop(reminders()) as shop:
        with pytest.raises(ConfigurationError, match=r"tx\.publish"):
            await shop.post(f"/wrong/{how}")


async def test_timed_retries_go_by_the_clock() -> None:
    """A message whose handler fails at first is tried again after its wait, and its key's next one follows it."""
    failures = {"ada": 2}
    handled: list[str] = []
    service = Service("patient")

    @service.on(Asked, retry=Retry(attempts=1, later=[30, 30]))
    async def ask(event: Asked) -> None:
        if failures.get(event.who, 0):
            failures[event.who] -= 1
            raise LookupError("not yet")
        handled.append(event.who)

    async with TestShop(service) as shop:
        await shop.publish(Asked(who="ada"))
        await shop.publish(Asked(who="ada"))
        await shop.publish(Asked(who="bob"))
        await shop.settle()
        assert handled == ["bob"]
        await shop.advance(31)
        await shop.advance(31)
        await shop.advance(5)
        assert handled == ["bob", "ada", "ada"]
        assert await shop.parked() == []
