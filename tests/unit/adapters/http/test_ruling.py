"""The rules of routes: limits of requests, of time and of bodies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator  # noqa: TC003  # read when a route is bound
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Request  # noqa: TC002  # read when a route is bound
from fastapi.responses import StreamingResponse

from torpor import ApiKeys, BodyLimit, Caller, ConfigurationError, Idempotent, Limit, Router, Service, Timeout, Tx
from torpor.runtime.binding import bind
from torpor.testing import TestShop

if TYPE_CHECKING:
    from tests.unit.adapters.http.conftest import Opener

KEYS = ApiKeys({sha256(name * 32).hexdigest(): Caller(name.decode()) for name in (b"a", b"b")})


def limited(*rules: Any, **options: Any) -> Service:
    """A service of two routes with rules."""
    service = Service("limited", rules=rules, **options)

    @service.get("/one")
    async def one() -> int:
        return 1

    @service.get("/two")
    async def two() -> int:
        return 2

    return service


async def statuses(client: Any, *paths: str, **options: Any) -> list[int]:
    """What requests are answered with."""
    return [(await client.get(path, **options)).status_code for path in paths]


async def test_who_asks_too_often_is_told_when_to_come_again() -> None:
    """429 with Retry-After and the fields of the draft, until the time is over."""
    async with TestShop(limited(Limit(2, per=10))) as shop:
        first = await shop.get("/one")
        assert first.headers["ratelimit-policy"] == '"client";q=2;w=10'
        assert first.headers["ratelimit"] == '"client";r=1;t=5'
        assert await statuses(shop, "/two", "/one") == [200, 429]
        refused = await shop.get("/one")
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.headers["retry-after"], refused.headers["ratelimit"]) == ("5", '"client";r=0;t=5')
        assert "2 times in 10 s" in refused.json()["detail"]
        await shop.clock.advance(5)
        assert await statuses(shop, "/one", "/one") == [200, 429]


async def test_refusals_are_counted() -> None:
    """The numbers tell of each route with a limit how many requests that has refused, from 0 on."""
    async with TestShop(limited(Limit(2, per=10))) as shop:
        assert await statuses(shop, "/one", "/one", "/one", "/one") == [200, 200, 429, 429]
        counted = next(family for family in shop.hosts[0].metrics.families() if family.name == "torpor_limited")
    assert counted.samples == [
        ({"service": "limited", "handler": "limited.one"}, 2.0),
        ({"service": "limited", "handler": "limited.two"}, 0.0),
    ]


async def test_limits_add_up() -> None:
    """The limit of a service is shared by its routes, and a route's own holds for it besides."""
    service = Service("nested", rules=[Limit(3, per=100)])
    inner = Router(prefix="/inner", rules=[Limit(1, per=100)])

    @inner.get("/one")
    async def one() -> int:
        return 1

    @service.get("/two")
    async def two() -> int:
        return 2

    service.include(inner)
    async with TestShop(service) as shop:
        assert await statuses(shop, "/inner/one", "/inner/one", "/two", "/two") == [200, 429, 200, 429]


async def test_each_caller_has_a_limit_of_his_own() -> None:
    """`by="caller"` counts whom the guard has let in, and nobody else."""
    async with TestShop(limited(Limit(1, per=100, by="caller"), auth=KEYS)) as shop:
        for name in "ab":
            assert await statuses(shop, "/one", "/two", headers={"x-api-key": name * 32}) == [200, 429]
        assert await statuses(shop, "/one", "/one") == [401, 401]


async def test_a_header_may_say_who_is_counted() -> None:
    """Each value of a header has a bucket, and all without it have one together; `everyone` is one."""
    async with TestShop(limited(Limit(1, per=100, by="header:X-Tenant"))) as shop:
        assert await statuses(shop, "/one", "/one") == [200, 429]
        assert await statuses(shop, "/one", "/one", headers={"x-tenant": "acme"}) == [200, 429]
    async with TestShop(limited(Limit(1, per=100, by="everyone"))) as shop:
        assert await statuses(shop, "/one", "/two") == [200, 429]


async def test_clients_are_counted_by_address_and_network(client_of: Opener) -> None:
    """An IPv4 address counts for itself, and of IPv6 the network does; a socket without addresses is one client."""
    opened: Any = await client_of(limited(Limit(1, per=100)))
    app, seen = opened._transport.app, []
    for host in ("192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1"):
        transport = httpx.ASGITransport(app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://torpor.test") as client:
            seen += await statuses(client, "/one")
    assert seen == [200, 200, 200, 429, 200, 429]
    nameless: Any = None
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=nameless), base_url="http://torpor.test"
    ) as client:
        assert await statuses(client, "/one", "/two") == [200, 429]


async def test_what_takes_too_long_is_given_up_and_undone(caplog: pytest.LogCaptureFixture) -> None:
    """504, the handler is cancelled, and nothing of its unit is kept; the log tells it once."""
    service = Service("slow", migrations={"1.sql": "CREATE TABLE note (id INTEGER PRIMARY KEY)"}, rules=[Timeout(0.05)])
    ended: list[str] = []

    @service.post("/slow")
    async def slow(tx: Tx) -> None:
        await tx.execute("INSERT INTO note VALUES (1)")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @service.get("/notes", rules=[Timeout(5)])
    async def notes(tx: Tx) -> int:
        return len(await tx.fetch("SELECT * FROM note"))

    @service.post("/again", idempotency=Idempotent())
    async def again(tx: Tx) -> str:
        await tx.execute("INSERT INTO note VALUES (2)")
        if not ended:
            await asyncio.Event().wait()
        return "done"

    async with TestShop(service) as shop:
        late = await shop.post("/again", headers={"idempotency-key": "k"})
        given_up = await shop.post("/slow")
        assert (late.status_code, given_up.status_code) == (504, 504)
        assert ended == ["cancelled"]
        assert (await shop.get("/notes")).json() == 0
        assert (await shop.post("/again", headers={"idempotency-key": "k"})).json() == "done"
    records = [record for record in caplog.records if record.name == "torpor.http"]
    assert [record.levelno for record in records] == [logging.WARNING] * 2
    assert vars(records[1])["trace_id"] == given_up.json()["trace_id"]


async def test_an_answer_that_has_begun_may_last(client_of: Opener) -> None:
    """A stream and a background task are not given up, and a handler's own TimeoutError is its own."""
    service = Service("long", rules=[Timeout(0.05)])
    done: list[str] = []

    @service.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.1)
            yield "two"

        return StreamingResponse(parts())

    @service.get("/task")
    async def task(tasks: BackgroundTasks) -> None:
        async def work() -> None:
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.1)
            done.append("task")

        tasks.add_task(work)

    @service.get("/own")
    async def own() -> None:
        raise TimeoutError

    client = await client_of(service)
    assert (await client.get("/stream")).text == "one two"
    await client.get("/task")
    assert done == ["task"]
    assert (await client.get("/own")).status_code == 500


async def test_a_route_may_have_a_body_limit_of_its_own(client_of: Opener) -> None:
    """Larger or smaller than the setting, declared or counted; the other routes keep the setting's."""
    service = Service("bodies")

    async def size(request: Request) -> int:
        return len(await request.body())

    service.post("/usual", name="usual")(size)
    service.post("/large/{name:path}", name="large", rules=[BodyLimit(200)])(large)
    service.post("/small", name="small", rules=[BodyLimit(10)])(size)

    async def chunked(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x"

    client = await client_of(service, body_limit=100)
    for path, limit in (("/usual", 100), ("/large/a/b", 200), ("/small", 10)):
        for body in (lambda count: b"x" * count, chunked):
            assert (await client.post(path, content=body(limit))).json() == limit
            refused = await client.post(path, content=body(limit + 1))
            assert (refused.status_code, f"{limit} bytes" in refused.text) == (413, True)


async def large(name: str, request: Request) -> int:
    """A route that takes more."""
    return len(await request.body())


def test_rules_that_make_no_sense_are_told() -> None:
    """What is no rule, and a limit for callers that nobody knows, are told with the route."""
    with pytest.raises(ConfigurationError) as raised:
        bind(limited("often", Limit(1, by="caller")))
    told = "\n".join(raised.value.problems)
    assert told.count("'often' among its rules=. Expected values of: Limit") == 2
    assert told.count("nothing finds out who calls") == 2
