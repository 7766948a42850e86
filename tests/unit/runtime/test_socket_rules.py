"""The rules of a socket: how often somebody may connect, from where, how much may be said, and for how long."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from torpor import (
    BodyLimit,
    Caller,
    Compressed,
    ConfigurationError,
    Cors,
    CustomAuth,
    Deprecated,
    ETags,
    Event,
    Limit,
    Router,
    Service,
    Socket,
    Timeout,
    Tx,
)
from torpor.runtime.binding import bind
from torpor.runtime.peer import Refused
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Mapping

SHOP, EVIL = "https://shop.example.com", "https://evil.example"


class Said(Event, topic="ruled.said"):
    text: str


async def known(headers: Mapping[str, str]) -> Caller | None:
    """Who says a name is believed."""
    name = headers.get("x-name")
    return None if name is None else Caller(name, kind="custom")


def ruled(*rules: Any, above: tuple[Any, ...] = (), **access: Any) -> Service:
    """A service with a route and a socket, and rules above them and on the socket."""
    service = Service("ruled", rules=above, **(access or {"public": True}))

    @service.get("/asked")
    async def asked() -> str:
        return "asked"

    @service.socket("/echo", rules=rules)
    async def echo(message: str) -> str:
        return message

    return service


async def refusal(shop: TestShop, **headers: str) -> Refused | None:
    """How a client is refused, or that it is not."""
    try:
        async with shop.connect("/echo", headers=headers):
            return None
    except Refused as refused:
        return refused


async def status(shop: TestShop, **headers: str) -> int:
    """What a client is answered that wants to connect."""
    refused = await refusal(shop, **headers)
    return 101 if refused is None else refused.status


async def test_who_connects_too_often_is_told_when_to_come_again() -> None:
    """429, with the same headers as a request, and no handler has run."""
    async with TestShop(ruled(Limit(2, per=10))) as shop:
        assert [await status(shop) for _ in range(2)] == [101, 101]
        refused = await refusal(shop)
        assert refused is not None
        assert refused.status == 429
        assert refused.headers == {
            "ratelimit-policy": '"client";q=2;w=10',
            "ratelimit": '"client";r=0;t=5',
            "retry-after": "5",
        }
        await shop.clock.advance(5)
        assert await status(shop) == 101


async def test_a_limit_above_counts_requests_and_connections_together() -> None:
    """What a client has asked of a route is gone for the socket."""
    async with TestShop(ruled(above=(Limit(2, per=100, by="everyone"),))) as shop:
        assert (await shop.get("/asked")).status_code == 200
        assert await status(shop) == 101
        assert await status(shop) == 429
        assert (await shop.get("/asked")).status_code == 429


async def test_messages_are_no_requests_to_a_limit() -> None:
    """Who is connected is not counted any more."""
    async with TestShop(ruled(Limit(1, per=100))) as shop, shop.connect("/echo") as client:
        for number in range(5):
            await client.send(str(number))
        assert len(client.received) == 5


async def test_callers_and_headers_have_buckets_of_their_own() -> None:
    """A caller is counted once he is known, by routes and sockets alike; a header by its value."""
    above = (Limit(2, per=100, by="caller"),)
    async with TestShop(ruled(above=above, auth=CustomAuth(known))) as shop:
        assert await status(shop) == 401
        assert (await shop.get("/asked", headers={"x-name": "ada"})).status_code == 200
        assert [await status(shop, **{"x-name": "ada"}) for _ in range(2)] == [101, 429]
        assert await status(shop, **{"x-name": "grace"}) == 101
    async with TestShop(ruled(Limit(1, per=100, by="header:X-Tenant"))) as shop:
        tenants = ("a", "a", "b")
        assert [await status(shop, **{"x-tenant": tenant}) for tenant in tenants] == [101, 429, 101]


@pytest.mark.parametrize(
    ("rules", "above", "allowed"),
    [
        ((), (), ()),
        ((Cors(SHOP),), (), (SHOP,)),
        ((Cors("*"),), (), (SHOP, EVIL)),
        ((), (Cors(SHOP, credentials=True),), (SHOP,)),
        ((), (Cors(SHOP),), ()),
        ((), (Cors("*"),), ()),
        ((Cors(EVIL),), (Cors(SHOP, credentials=True),), (EVIL,)),
    ],
    ids=["none", "own", "all", "above with cookies", "above without", "all above", "the nearest"],
)
async def test_a_page_connects_that_was_named_for_its_cookies(
    rules: tuple[Any, ...], above: tuple[Any, ...], allowed: tuple[str, ...]
) -> None:
    """A browser sends cookies along for any page: of other origins those may connect that are named for it."""
    async with TestShop(ruled(*rules, above=above)) as shop:
        for origin in (SHOP, EVIL, "null", "", f"{SHOP}, {EVIL}", f"{SHOP}.evil.example"):
            is_allowed = origin in allowed or (allowed == (SHOP, EVIL))
            assert await status(shop, origin=origin) == (101 if is_allowed else 403), origin
        assert await status(shop) == 101  # no browser
        assert await status(shop, origin="https://torpor.test") == 101  # its own pages


async def test_a_page_of_another_origin_uses_up_nothing() -> None:
    """A refused page takes nothing from the limit of its visitor."""
    async with TestShop(ruled(Limit(1, per=100))) as shop:
        assert await status(shop, origin=EVIL) == 403
        assert await status(shop) == 101


@pytest.mark.parametrize(
    ("rules", "above", "largest"),
    [
        ((), (), 65_536),
        ((BodyLimit(100_000),), (BodyLimit(10),), 100_000),
        ((), (BodyLimit(1000),), 1000),
        ((), (BodyLimit(20_000_000),), 65_536),
    ],
)
async def test_the_largest_message(rules: tuple[Any, ...], above: tuple[Any, ...], largest: int) -> None:
    """A socket's own rule says it; from above only what is stricter holds."""
    async with TestShop(ruled(*rules, above=above)) as shop, shop.connect("/echo") as client:
        await client.send("x" * largest)
        assert client.close_code is None
        await client.send("x" * (largest + 1))
        assert client.close_code == 1009


async def test_a_handler_that_takes_too_long_is_given_up() -> None:
    """Its unit is undone, nothing of it is sent or published, and its client is closed with 1013."""
    service = Service("slow", public=True, rules=[Timeout(60)])
    ended: list[str] = []

    async def come(socket: Socket) -> None:
        if socket.query.get("wait"):
            await asyncio.Event().wait()

    async def go(socket: Socket) -> None:
        ended.append(str(socket.close_code))

    @service.socket("/slow", connect=come, disconnect=go, rules=[Timeout(0.05)], publishes=[Said])
    async def talk(message: str, socket: Socket, tx: Tx) -> None:
        tx.publish(Said(text=message))
        socket.send("heard")
        if message == "wait":
            await asyncio.Event().wait()

    async with TestShop(service) as shop:
        async with shop.connect("/slow") as client:
            await client.send("hello")
            await client.send("wait")
            assert (client.received, client.close_code) == (["heard"], 1013)
            assert client.close_reason == "it took too long"
        assert shop.published(Said) == [Said(text="hello")]
        assert ended == ["1013"]
        with pytest.raises(Refused) as caught:
            async with shop.connect("/slow?wait=1"):
                pass
        assert caught.value.status == 504


async def test_the_time_of_ones_own_calls_is_another() -> None:
    """A TimeoutError of the handler's own is a failure like any."""
    service = Service("own", public=True)

    @service.socket("/own", rules=[Timeout(60)])
    async def talk(message: str) -> None:
        raise TimeoutError(message)

    async with TestShop(service) as shop, shop.connect("/own") as client:
        await client.send("x")
        assert client.close_code == 1011


def test_rules_of_answers_mean_nothing_to_a_socket() -> None:
    """On the socket itself they are told as mistakes; those of a service or a router are passed over."""
    above = (ETags(), Compressed(), Deprecated(date(2026, 1, 1)))
    (binding,) = bind(ruled(above=above)).sockets
    assert binding.message_size == 65_536
    with pytest.raises(ConfigurationError) as caught:
        bind(ruled(*above, 3, Limit(1, by="caller")))
    text = str(caught.value)
    for rule in above:
        assert f"has {rule!r} among its rules=, which is for requests. Drop it; a socket takes Limit" in text
    assert text.count("has 3 among its rules=. Expected values of: Limit") == 1
    assert text.count("nothing finds out who calls") == 1


def test_the_rules_of_a_socket_are_told_once() -> None:
    """A mistake above it is not told for each of its handlers."""
    service = Service("thrice", public=True)
    router = Router(rules=[Limit(1, by="caller")])

    async def come() -> None: ...
    async def go() -> None: ...

    router.socket("/a", name="talk", connect=come, disconnect=go)(_talk)
    service.include(router)
    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    assert len(caught.value.problems) == 1


async def _talk(message: str) -> None: ...


def test_the_topology_lists_sockets() -> None:
    """With the path, and what all handlers of it publish."""
    service = Service("listed", public=True)

    async def come(tx: Tx) -> None:
        tx.publish(Said(text="hello"))

    @service.socket("/listed/{number}", connect=come)
    async def talk(message: str, number: int) -> None: ...

    (told,) = topology_of([bind(service)]).to_dict()["services"]
    assert told["sockets"] == [{"name": "listed.talk", "path": "/listed/{number}", "publishes": ["Said"]}]
