"""An edited message goes through its handler, though the inbox knows its id."""

from __future__ import annotations

from torpor import Event, Message, Retry, Service
from torpor.kernel.parked import ParkedQuery
from torpor.testing import TestShop


class Paid(Event, topic="paid", key="order"):
    order: str
    cents: int


async def test_an_edited_message_is_handled_in_its_place() -> None:
    """With its new payload, its old id, and before those that waited behind it."""
    seen: list[tuple[int, str, bool]] = []
    service = Service("till")

    @service.on(Paid, retry=Retry(attempts=1))
    async def take(event: Paid, message: Message) -> None:
        if event.cents < 0:
            raise ValueError(event.cents)
        seen.append((event.cents, message.id, "editedat" in message.attributes))

    async with TestShop(service) as shop:
        await shop.publish(Paid(order="a", cents=-1), id="first")
        await shop.publish(Paid(order="a", cents=2), id="second")
        await shop.settle()
        lot = shop.hosts[0].store.parking
        first, _ = await shop.parked()
        attributes = {**first.message.attributes, "editedat": "now"}
        assert await lot.edit(first.number, b'{"order": "a", "cents": 1}', attributes=attributes, at=shop.clock.time())
        assert await lot.redrive(ParkedQuery(numbers=[first.number]), shop.clock.time()) == 1
        await shop.advance(1)
        assert seen == [(1, "first", True), (2, "second", False)]
        assert await shop.parked() == []

        await shop.publish(Paid(order="a", cents=-1), id="first")
        await shop.settle()
        assert len(seen) == 2


async def test_an_edited_message_that_fails_again_keeps_what_it_was() -> None:
    """It is parked with its new payload in its old place, and its first payload is still known."""
    service = Service("till")

    @service.on(Paid, retry=Retry(attempts=1))
    async def take(event: Paid) -> None:
        raise ValueError(event.cents)

    async with TestShop(service) as shop:
        await shop.publish(Paid(order="a", cents=-1))
        await shop.publish(Paid(order="a", cents=2))
        await shop.settle()
        lot = shop.hosts[0].store.parking
        number = (await shop.parked())[0].number
        await lot.edit(number, b'{"order": "a", "cents": -2}', attributes={}, at=shop.clock.time())
        await shop.redrive()

        assert [row.state for row in await shop.parked()] == ["parked", "waiting"]
        found = await lot.inspect(number)
        assert found is not None
        assert (found.row.message.data, found.row.reason) == (b'{"order": "a", "cents": -2}', "ValueError: -2")
        assert [edit.data for edit in found.edits] == [b'{"order":"a","cents":-1}']
