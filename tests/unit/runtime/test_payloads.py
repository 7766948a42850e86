"""Payloads of every kind through a whole service: from a publisher to a handler, or to where it is parked."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from torpor import ConfigurationError, Event, Message, Raw, Service, Tx, command, event
from torpor.adapters.asyncapi.document import document
from torpor.kernel.message import Message as Sent
from torpor.runtime.binding import bind
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop


class Line(msgspec.Struct):
    sku: str


@event(topic="ticks", key="symbol")
class Tick(msgspec.Struct, frozen=True):
    symbol: str
    price: float
    lines: list[Line] = []


class Photo(Event, topic="photos", codec=Raw("image/png")):
    image: bytes


class Placed(Event, topic="placed", key="id", version=2, upcasts={1: lambda old: {**old, "currency": "EUR"}}):
    id: str
    currency: str


def _service(seen: list[Any]) -> Service:
    service = Service("payloads")

    @service.on(Tick)
    async def tick(tick: Tick, tx: Tx) -> Photo | None:
        seen.append(tick)
        tx.publish(Photo(image=tick.symbol.encode()), key=tick.symbol)
        return None

    @service.on(Photo)
    async def photo(event: Photo, message: Message) -> None:
        seen.append((event, message.key, message.attributes["datacontenttype"]))

    @service.on(Placed)
    async def placed(event: Placed) -> Tick:
        seen.append(event)
        return Tick(event.id, 1.0)

    return service


async def test_structs_and_bytes_go_through_a_service() -> None:
    """A Struct is handled as its own class, bytes with their key and type, and both are published by handlers."""
    seen: list[Any] = []
    async with TestShop(_service(seen)) as shop:
        await shop.publish(Tick("X", 2.0, [Line("a")]))
        await shop.settle()

        assert seen == [Tick("X", 2.0, [Line("a")]), (Photo(image=b"X"), "X", "image/png")]
        assert shop.published(Photo) == [Photo(image=b"X")]
        assert not await shop.parked()


async def test_an_older_version_is_handled_and_a_newer_one_is_parked() -> None:
    """A message of version 1 is led on; one of version 3 waits, with its bytes and the reason, for newer code."""
    seen: list[Any] = []
    async with TestShop(_service(seen)) as shop:
        await shop.publish(Sent("placed", b'{"id":"a"}', id="1", type="placed", key="a"))
        await shop.publish(Sent("placed", b"{}", id="2", type="placed", key="b", attributes={"dataversion": "3"}))
        await shop.settle()

        assert seen[0] == Placed(id="a", currency="EUR")
        (row,) = await shop.parked()
        assert (row.message.data, row.state) == (b"{}", "parked")
        assert "carries version 3 of Placed, and this code knows version 2" in row.reason


async def test_another_content_type_is_parked() -> None:
    """A payload of another type than its contract's is parked with both told, and its handler is not called."""
    seen: list[Any] = []
    async with TestShop(_service(seen)) as shop:
        await shop.publish(Sent("photos", b"GIF", id="1", type="", attributes={"datacontenttype": "image/gif"}))
        await shop.settle()

        assert seen == []
        (row,) = await shop.parked()
        assert row.reason.startswith("photos carries 'image/gif', and Photo is 'image/png'.")


def test_a_contract_without_a_way_to_be_read_is_told_at_binding() -> None:
    """What is wrong with a contract's versions and codec is told with the handler's place."""

    @event(topic="odd")
    class Odd:
        pass

    class Gap(Event, topic="gap", version=3, upcasts={1: dict}):
        pass

    service = Service("wrong")

    @service.on(Odd)
    async def odd(event: Odd) -> None: ...

    @service.on(Gap)
    async def gap(event: Gap) -> None: ...

    # Handlers made in a function see only what their module knows.
    odd.__annotations__, gap.__annotations__ = {"event": Odd, "return": None}, {"event": Gap, "return": None}
    with pytest.raises(ConfigurationError) as told:
        bind(service)

    first, second = told.value.problems
    assert "uses Odd, which is neither an Event nor a msgspec.Struct" in first
    assert "uses Gap, which has no upcast from version 2" in second


def test_a_command_that_is_a_struct_has_one_handler() -> None:
    """`command` says what `Command` says: two services that handle it are told."""

    @command(topic="do")
    class Do(msgspec.Struct):
        what: str

    plans = []
    for name in ("one", "two"):
        service = Service(name)

        @service.on(Do)
        async def do(order: Do) -> None: ...

        do.__annotations__ = {"order": Do, "return": None}
        plans.append(bind(service))

    (problem,) = topology_of(plans).problems()
    assert problem.startswith("The command on 'do' is handled by one and two.")


def test_every_payload_is_in_the_asyncapi_document() -> None:
    """Structs, with what they hold, and bytes are described beside models, and every reference leads somewhere."""
    made = document([bind(_service([]))], "Payloads", version="1", broker_url=None)
    schemas = made["components"]["schemas"]

    assert schemas["Photo"]["contentMediaType"] == "image/png"
    assert schemas["Tick"] == {"$ref": "#/components/schemas/Tick.Tick"}
    assert schemas["Tick.Tick"]["properties"]["lines"]["items"] == {"$ref": "#/components/schemas/Tick.Line"}
    assert set(schemas["Placed"]["properties"]) == {"id", "currency"}
    types = {
        message["contentType"] for name, message in made["components"]["messages"].items() if "photo" in name.lower()
    }
    assert types == {"image/png"}
