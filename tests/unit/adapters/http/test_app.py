"""Routes: FastAPI's own rules, around what Torpor fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator  # noqa: TC003  # read when a lifespan is bound
from typing import TYPE_CHECKING, Annotated, Any

import fastapi
import pytest
from fastapi import BackgroundTasks, Body, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from torpor import Depends, Router, Service, Tx
from torpor.adapters.http.app import build_app
from torpor.adapters.http.operations import Operations
from torpor.kernel.errors import ConfigurationError
from torpor.testing import TestShop

if TYPE_CHECKING:
    from tests.unit.adapters.http.conftest import Opener


class NewOrder(BaseModel):
    sku: str
    quantity: int = Field(gt=0)


class Accepted(BaseModel):
    id: str
    note: str | None = None


class Clock:
    def __init__(self, now: int) -> None:
        self.now = now


closed: list[str] = []


class Strange:
    """No type that FastAPI could fill."""


def page(limit: int = 10) -> int:
    """A dependency of FastAPI's, with a parameter of its own."""
    return limit * 2


def session() -> Iterator[str]:
    """A dependency of FastAPI's that is closed."""
    yield "open"
    closed.append("session")


def clock() -> Clock:
    """A dependency of Torpor's."""
    return Clock(7)


async def shared() -> AsyncIterator[Clock]:
    """A lifespan."""
    yield Clock(1)


def everything() -> Service:
    """A service that uses the ways of FastAPI."""
    service = Service("everything")

    @service.get("/things/{thing_id}")
    async def show(
        thing_id: Annotated[int, Path(ge=1)],
        tx: Tx,
        request: Request,
        size: Annotated[int, fastapi.Depends(page)],
        opened: str = fastapi.Depends(session),
        *,
        tag: Annotated[list[str] | None, Query()] = None,
        user_agent: str = Header(),
        time: Annotated[Clock, Depends(clock)],
    ) -> dict[str, Any]:
        rows = await tx.fetch("SELECT 42 AS answer")
        return {
            "id": thing_id, "path": request.url.path, "size": size, "opened": opened, "tags": tag,
            "agent": user_agent, "answer": rows[0]["answer"], "now": time.now,
        }  # fmt: skip

    return service


async def test_a_route_mixes_fastapis_parameters_with_torpors(client_of: Opener) -> None:
    """Path, query, header, request and FastAPI's dependencies are filled beside Tx and Torpor's own."""
    closed.clear()
    client = await client_of(everything())
    answer = await client.get("/things/3?limit=4&tag=a&tag=b", headers={"user-agent": "me"})
    assert answer.json() == {
        "id": 3, "path": "/things/3", "size": 8, "opened": "open", "tags": ["a", "b"],
        "agent": "me", "answer": 42, "now": 7,
    }  # fmt: skip
    assert closed == ["session"]


async def test_a_wrong_request_is_answered_in_fastapis_form(client_of: Opener) -> None:
    """Validation answers 422 with FastAPI's list of mistakes, a malformed body included."""
    service = Service("orders")

    @service.post("/orders", status_code=202)
    async def place(order: NewOrder, tx: Tx) -> Accepted:
        return Accepted(id=order.sku)

    client = await client_of(service)
    wrong = await client.post("/orders", json={"sku": "a", "quantity": 0})
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["loc"] == ["body", "quantity"]
    malformed = await client.post("/orders", content="{", headers={"content-type": "application/json"})
    assert malformed.status_code == 422
    assert malformed.json()["detail"][0]["type"] == "json_invalid"
    right = await client.post("/orders", json={"sku": "a", "quantity": 1})
    assert (right.status_code, right.json()) == (202, {"id": "a", "note": None})


async def test_options_reach_fastapi(client_of: Opener) -> None:
    """Status, tags, model, summary and the like mean what they mean in FastAPI."""
    service = Service("orders")
    router = Router(prefix="/v1", tags=["v1"])

    @router.put(
        "/orders/{order_id}",
        status_code=201,
        tags=["writing"],
        response_model=Accepted,
        response_model_exclude_none=True,
        responses={404: {"description": "No such order"}},
        summary="Replace it",
        deprecated=True,
        operation_id="replaceOrder",
    )
    async def replace(order_id: str, secret: Annotated[str, Body(embed=True)]) -> dict[str, Any]:
        """Never told, as the summary is."""
        return {"id": order_id, "secret": secret}

    @router.get("/hidden", include_in_schema=False, name="unseen", description="nobody reads this")
    async def hidden() -> None:
        return None

    service.include(router)
    client = await client_of(service)
    answer = await client.put("/v1/orders/7", json={"secret": "s"})
    assert (answer.status_code, answer.json()) == (201, {"id": "7"})
    assert (await client.get("/v1/hidden")).json() is None
    schema = (await client.get("/openapi.json")).json()
    assert list(schema["paths"]) == ["/v1/orders/{order_id}"]
    operation = schema["paths"]["/v1/orders/{order_id}"]["put"]
    assert operation["tags"] == ["orders", "v1", "writing"]
    assert operation["summary"] == "Replace it"
    assert operation["deprecated"] is True
    assert operation["operationId"] == "replaceOrder"
    assert operation["responses"]["404"]["description"] == "No such order"
    assert operation["responses"]["201"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/Accepted"
    }


async def test_openapi_names_operations_after_handlers(client_of: Opener) -> None:
    """Two services' handlers of one name have ids, summaries and descriptions of their own, and no parameter `tx`."""
    first, second = Service("first"), Service("second")

    @first.get("/first/{name}")
    async def show_one(name: str, tx: Tx) -> Accepted:
        """Shows one of the first."""
        return Accepted(id=name)

    @second.get("/second/{name}", name="show_one")
    async def other(name: str) -> str:
        return name

    client = await client_of(first, second)
    schema = (await client.get("/openapi.json")).json()
    assert schema["info"]["title"] == "first, second"
    one, two = schema["paths"]["/first/{name}"]["get"], schema["paths"]["/second/{name}"]["get"]
    assert one["operationId"] == "show_one_first__name__get"
    assert two["operationId"] == "show_one_second__name__get"
    assert (one["summary"], one["description"]) == ("Show One", "Shows one of the first.")
    assert [parameter["name"] for parameter in one["parameters"]] == ["name"]


async def test_a_route_may_answer_for_itself(client_of: Opener) -> None:
    """A Response is sent as it is, a stream too, 204 has no body, and an HTTPException keeps its status and headers."""
    service = Service("raw")

    @service.get("/plain")
    async def plain() -> Response:
        return PlainTextResponse("as it is", 203)

    @service.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            yield "two"

        return StreamingResponse(parts())

    @service.delete("/gone", status_code=204)
    async def gone(tx: Tx) -> None:
        await tx.fetch("SELECT 1 AS one")

    @service.get("/headers")
    async def headers(response: Response) -> int:
        response.headers["x-mark"] = "yes"
        return 1

    @service.get("/missing")
    async def missing(tx: Tx) -> int:
        raise HTTPException(404, "no such thing", headers={"x-why": "not here"})

    client = await client_of(service)
    assert ((await client.get("/plain")).status_code, (await client.get("/plain")).text) == (203, "as it is")
    assert (await client.get("/stream")).text == "one two"
    answer = await client.delete("/gone")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.get("/headers")).headers["x-mark"] == "yes"
    missing_answer = await client.get("/missing")
    assert (missing_answer.status_code, missing_answer.json()["detail"]) == (404, "no such thing")
    assert missing_answer.headers["x-why"] == "not here"


async def test_background_tasks_run_after_the_commit(client_of: Opener) -> None:
    """A task that a route leaves behind runs once the response is out, and so after the transaction."""
    service = Service("later")
    order: list[str] = []

    @service.post("/later")
    async def later(tasks: BackgroundTasks, tx: Tx) -> str:
        tasks.add_task(order.append, "task")
        order.append("handler")
        return "soon"

    client = await client_of(service)
    assert (await client.post("/later")).json() == "soon"
    assert order == ["handler", "task"]


async def test_a_lifespan_serves_every_request(client_of: Opener) -> None:
    """What a lifespan yields is handed to routes, and the application itself starts nothing."""
    service = Service("served")

    service.lifespan(shared)

    @service.get("/now")
    async def show(value: Annotated[Clock, Depends(shared)]) -> int:
        value.now += 1
        return value.now

    client = await client_of(service)
    assert [(await client.get("/now")).json() for _ in range(2)] == [2, 3]


async def test_the_root_is_the_services(client_of: Opener) -> None:
    """`GET /` is 404 where no service has it, and the service's where one does."""
    service = Service("root")
    client = await client_of(Service("none"))
    assert (await client.get("/")).status_code == 404

    @service.get("/")
    async def root() -> str:
        return "mine"

    client = await client_of(service)
    assert (await client.get("/")).json() == "mine"


async def test_what_fastapi_cannot_serve_is_told_together() -> None:
    """Every route that FastAPI refuses, and every path that two services claim, is told with its place."""
    first, second = Service("first"), Service("second")

    @first.get("/strange")
    async def strange(value: Strange) -> None: ...

    @first.delete("/body", status_code=204)
    async def body() -> Accepted:
        return Accepted(id="1")

    @first.get("/same/{one}")
    async def same(one: str) -> None: ...

    @second.get("/same/{two}")
    async def also(two: str) -> None: ...

    @second.get("/docs")
    async def docs() -> None: ...

    async with TestShop(first, second, waits=False) as shop:
        operations = Operations(shop.hosts, asyncapi=dict, metrics=lambda: (b"", ""), topology=dict)
        with pytest.raises(ConfigurationError) as raised:
            build_app(shop.hosts, operations=operations, body_limit=1)
    told = "\n".join(raised.value.problems)
    assert len(raised.value.problems) == 4
    assert "'first.strange'" in told
    assert "Status code 204 must not have a response body" in told
    assert "'second.also'" in told
    assert "and so does 'first.same'" in told
    assert "FastAPI's documentation" in told
    assert told.count("test_app.py:") == 5
