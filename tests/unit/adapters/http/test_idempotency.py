"""Requests with an `Idempotency-Key`: one effect, one answer, however often they come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import fastapi
import pytest
from fastapi import BackgroundTasks, Form, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from torpor import Event, Idempotent, Service, Tx, new_id
from torpor.adapters.http.guarding import CALLER
from torpor.testing import TestShop

if TYPE_CHECKING:
    import httpx

    from tests.unit.adapters.http.conftest import Opener

MIGRATIONS = {"0001_purchase.sql": "CREATE TABLE purchase (id TEXT PRIMARY KEY, cents INTEGER NOT NULL)"}
REPLAYED = "Idempotency-Replayed"


class Placed(Event, topic="orders.placed", key="order_id"):
    order_id: str


class NewOrder(BaseModel):
    cents: int = Field(gt=0)


def keyed(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Idempotency-Key": key}


def service(**policy: Any) -> Service:
    """A service that takes orders, and tells how many it has taken."""
    orders = Service("orders", migrations=MIGRATIONS)

    @orders.post("/orders", status_code=201, idempotency=Idempotent(**policy))
    async def place(order: NewOrder, tx: Tx, response: Response) -> dict[str, str]:
        id = new_id()
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, $2)", id, order.cents)
        tx.publish(Placed(order_id=id))
        response.headers["Location"] = f"/orders/{id}"
        response.set_cookie("session", "secret")
        return {"id": id}

    @orders.get("/count")
    async def count(tx: Tx) -> int:
        return len(await tx.fetch("SELECT 1 FROM purchase"))

    return orders


async def test_a_request_that_comes_again_is_answered_as_before() -> None:
    """The same status, headers and bytes come back, marked as replayed; there is one effect and one event."""
    async with TestShop(service()) as shop:
        first = await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))
        again = [await shop.post("/orders", json={"cents": 5}, headers=keyed("k")) for _ in range(3)]
        assert first.status_code == 201
        assert REPLAYED not in first.headers
        for answer in again:
            assert (answer.status_code, answer.content) == (first.status_code, first.content)
            assert answer.headers[REPLAYED] == "true"
            for name in ("content-type", "content-length", "location"):
                assert answer.headers[name] == first.headers[name]
            assert "set-cookie" not in answer.headers
        assert (await shop.get("/count")).json() == 1
        await shop.settle()
        assert len(shop.published(Placed)) == 1
        (host,) = shop.hosts
        assert host.metrics.of("orders.place").duplicate == 3


async def test_without_a_key_each_request_runs() -> None:
    """A route that does not require a key handles requests without one as any route does."""
    async with TestShop(service()) as shop:
        for _ in range(2):
            assert (await shop.post("/orders", json={"cents": 5})).status_code == 201
        assert (await shop.get("/count")).json() == 2


async def test_a_key_that_is_required_and_missing_is_refused() -> None:
    """Without its key the request is answered 400, and nothing runs."""
    async with TestShop(service(required=True)) as shop:
        answer = await shop.post("/orders", json={"cents": 5})
        assert answer.status_code == 400
        assert "Idempotency-Key" in answer.json()["detail"]
        assert (await shop.get("/count")).json() == 0


@pytest.mark.parametrize(
    "headers",
    [
        [("Idempotency-Key", "")],
        [("Idempotency-Key", '""')],
        [("Idempotency-Key", "x" * 256)],
        [("Idempotency-Key", b"caf\xe9")],
        [("Idempotency-Key", "a"), ("Idempotency-Key", "b")],
    ],
    ids=["empty", "quoted-empty", "long", "not-ascii", "twice"],
)
async def test_a_malformed_key_is_refused(headers: list[tuple[str, str | bytes]]) -> None:
    """A key must be one printable ASCII text of at most 255 characters."""
    async with TestShop(service()) as shop:
        sent: Any = [(name.encode(), text if isinstance(text, bytes) else text.encode()) for name, text in headers]
        answer = await shop.post("/orders", json={"cents": 5}, headers=sent)
        assert answer.status_code == 400
        assert "255" in answer.json()["detail"]


async def test_the_quotes_of_a_key_are_not_part_of_it() -> None:
    """The draft's quoted form and the bare form name the same key; the longest key is taken."""
    async with TestShop(service()) as shop:
        key = "x" * 255
        first = await shop.post("/orders", json={"cents": 5}, headers=keyed(f'"{key}"'))
        again = await shop.post("/orders", json={"cents": 5}, headers=keyed(key))
        assert (first.status_code, first.content) == (201, again.content)


async def test_a_key_that_is_used_for_another_request_is_refused() -> None:
    """Another body or query with a known key is answered 422, and the first answer stays."""
    async with TestShop(service()) as shop:
        first = await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))
        for path, cents in (("/orders", 6), ("/orders?x=1", 5)):
            answer = await shop.post(path, json={"cents": cents}, headers=keyed("k"))
            assert answer.status_code == 422
            assert "another request" in answer.json()["detail"]
        again = await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))
        assert again.content == first.content
        assert (await shop.get("/count")).json() == 1


async def test_two_at_once_run_once() -> None:
    """While the first is handled, another with its key is answered 409, at once; then it is replayed."""
    orders = service()
    entered, leave = asyncio.Event(), asyncio.Event()

    @orders.post("/slow", idempotency=Idempotent())
    async def slow(tx: Tx) -> str:
        entered.set()
        await leave.wait()
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
        return "done"

    async with TestShop(orders) as shop:
        first = asyncio.create_task(shop.post("/slow", headers=keyed("k")))
        await entered.wait()
        second = await shop.post("/slow", headers=keyed("k"))
        assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
        leave.set()
        assert (await first).json() == "done"
        again = await shop.post("/slow", headers=keyed("k"))
        assert (again.status_code, again.json(), again.headers[REPLAYED]) == (200, "done", "true")
        assert (await shop.get("/count")).json() == 1


async def test_a_request_that_is_cancelled_gives_its_key_back() -> None:
    """When the server drops a request under way, nothing of it is left, and the next with its key runs."""
    orders = service()
    entered = asyncio.Event()
    calls: list[str] = []

    @orders.post("/slow", idempotency=Idempotent())
    async def slow(tx: Tx) -> str:
        calls.append("called")
        if len(calls) == 1:
            tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
            entered.set()
            await asyncio.Event().wait()
        return "done"

    async with TestShop(orders) as shop:
        first = asyncio.create_task(shop.post("/slow", headers=keyed("k")))
        await entered.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await shop.post("/slow", headers=keyed("k"))).json() == "done"
        assert (await shop.get("/count")).json() == 0


async def test_what_fails_is_not_kept_and_runs_again(client_of: Opener) -> None:
    """An exception, an HTTPException and a returned 5xx roll back and keep no answer; the next try runs."""
    orders = service()
    failures: list[Any] = [RuntimeError("no"), HTTPException(404, "not yet"), JSONResponse({"wait": True}, 503)]

    @orders.post("/tries", status_code=201, idempotency=Idempotent())
    async def attempt(tx: Tx) -> Any:
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
        failure = failures.pop(0) if failures else None
        if isinstance(failure, Exception):
            raise failure
        return failure or "done"

    client = await client_of(orders)
    statuses = [(await client.post("/tries", headers=keyed("k"))).status_code for _ in range(5)]
    assert statuses == [500, 404, 503, 201, 201]
    assert (await client.get("/count")).json() == 1


async def test_a_request_that_is_not_valid_keeps_no_answer() -> None:
    """FastAPI's own 422 is not kept, so the client may mend the request and use the key again."""
    async with TestShop(service()) as shop:
        assert (await shop.post("/orders", json={"cents": -5}, headers=keyed("k"))).status_code == 422
        assert (await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))).status_code == 201


async def test_a_returned_refusal_is_an_answer_and_is_kept() -> None:
    """A 4xx that a route returns, and does not raise, commits; so it is kept and replayed."""
    orders = service()

    @orders.post("/refuse", idempotency=Idempotent())
    async def refuse(tx: Tx) -> Any:
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
        return PlainTextResponse("no money", 402)

    async with TestShop(orders) as shop:
        answers = [await shop.post("/refuse", headers=keyed("k")) for _ in range(2)]
        assert [(answer.status_code, answer.text) for answer in answers] == [(402, "no money")] * 2
        assert answers[1].headers["content-type"] == "text/plain; charset=utf-8"
        assert (await shop.get("/count")).json() == 1


async def test_an_answer_is_kept_for_its_time() -> None:
    """After `keep` seconds the key is new again, also before the cleanup has removed the answer."""
    orders = service(keep=60.0)

    @orders.get("/kept")
    async def kept(tx: Tx) -> int:
        return len(await tx.fetch("SELECT 1 FROM torpor_answer"))

    async with TestShop(orders) as shop:
        first = await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))
        await shop.advance(59)
        assert (await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))).content == first.content
        await shop.advance(2)
        assert (await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))).content != first.content
        assert (await shop.get("/kept")).json() == 1
        await shop.advance(3600)
        assert (await shop.get("/kept")).json() == 0
        assert (await shop.post("/orders", json={"cents": 7}, headers=keyed("k"))).status_code == 201


async def test_routes_and_callers_have_keys_of_their_own() -> None:
    """The same key on another route, or from another caller that is known, is another key."""
    orders = service()

    @orders.post("/others", idempotency=Idempotent())
    async def other(tx: Tx, request: Request) -> str:
        return str(request.scope.get(CALLER))

    async with TestShop(orders) as shop:
        await shop.post("/orders", json={"cents": 5}, headers=keyed("k"))
        assert (await shop.post("/others", headers=keyed("k"))).json() == "None"
        app = shop._running.app  # the application that the test stands in front of
        import httpx

        for caller in ("ada", "bob", "ada"):

            async def named(scope: Any, receive: Any, send: Any, caller: str = caller) -> None:
                scope[CALLER] = caller
                await app(scope, receive, send)

            transport = httpx.ASGITransport(named)
            async with httpx.AsyncClient(transport=transport, base_url="http://torpor.test") as client:
                assert (await client.post("/others", headers=keyed("k"))).json() == caller


async def test_who_may_not_ask_is_not_told_what_was_answered() -> None:
    """FastAPI's dependencies run for each request, so a guard refuses a replay too; and one may name the caller."""
    orders = service()

    async def guard(request: Request) -> None:
        if "authorization" not in request.headers:
            raise HTTPException(401, "Say who you are.")
        request.scope[CALLER] = request.headers["authorization"]

    @orders.post("/guarded", idempotency=Idempotent())
    async def guarded(tx: Tx, guarded: None = fastapi.Depends(guard)) -> str:
        return tx.step_key("x")

    async with TestShop(orders) as shop:
        ada, bob = ({**keyed("k"), "Authorization": name} for name in ("ada", "bob"))
        first = await shop.post("/guarded", headers=ada)
        assert (await shop.post("/guarded", headers=keyed("k"))).status_code == 401
        assert (await shop.post("/guarded", headers=ada)).content == first.content
        assert (await shop.post("/guarded", headers=bob)).content != first.content


async def test_a_form_and_a_task_behind_the_answer_work_as_ever() -> None:
    """FastAPI reads a form from the body that was read before; a background task runs once, after the first."""
    orders = service()
    ran: list[str] = []

    @orders.post("/forms", idempotency=Idempotent())
    async def form(tx: Tx, tasks: BackgroundTasks, name: str = Form()) -> str:
        tasks.add_task(ran.append, name)
        return name

    async with TestShop(orders) as shop:
        for _ in range(2):
            assert (await shop.post("/forms", data={"name": "ada"}, headers=keyed("k"))).json() == "ada"
        assert ran == ["ada"]


async def test_an_answer_whose_bytes_cannot_be_kept_fails_the_request(client_of: Opener) -> None:
    """A stream, or more than a mebibyte, is told as a mistake, and the effects are rolled back."""
    orders = service()

    @orders.post("/stream", idempotency=Idempotent())
    async def stream(tx: Tx) -> Any:
        tx.write("INSERT INTO purchase (id, cents) VALUES ($1, 1)", new_id())
        return StreamingResponse(iter([b"x"]))

    @orders.post("/large", idempotency=Idempotent())
    async def large(tx: Tx) -> Any:
        return PlainTextResponse("x" * 1_048_577)

    client: httpx.AsyncClient = await client_of(orders)
    for path in ("/stream", "/large"):
        assert (await client.post(path, headers=keyed("k"))).status_code == 500
    assert (await client.get("/count")).json() == 0


async def test_openapi_tells_of_the_key() -> None:
    """The document shows the header, whether it is required, and the answers 400, 409 and 422."""
    async with TestShop(service(required=True)) as shop:
        operation = (await shop.get("/openapi.json")).json()["paths"]["/orders"]["post"]
        (parameter,) = operation["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == ("Idempotency-Key", "header", True)
        assert {"201", "400", "409", "422"} <= operation["responses"].keys()
        assert "content" in operation["responses"]["422"]  # what is not valid is described as ever
