"""The edge: limits on bodies, and answers for failures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import BackgroundTasks, Request  # noqa: TC002  # read when a route is bound
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from torpor import Service, Tx
from torpor.adapters.http.edge import Edge
from torpor.kernel.errors import BrokerUnavailable, NotRunning, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tests.unit.adapters.http.conftest import Opener


class Note(BaseModel):
    text: str


def notes() -> Service:
    """Routes that read a body in FastAPI's way and in their own."""
    service = Service("notes")

    @service.post("/notes")
    async def write(note: Note) -> int:
        return len(note.text)

    @service.post("/raw")
    async def raw(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    return service


async def chunks(count: int, size: int) -> AsyncIterator[bytes]:
    """A body of undeclared length."""
    for _ in range(count):
        yield b"x" * size


async def test_a_declared_length_over_the_limit_is_refused_at_once(client_of: Opener) -> None:
    """Content-Length alone decides, before a byte is read; the limit itself is allowed."""
    client = await client_of(notes(), body_limit=100)
    refused = await client.post("/raw", content=b"x" * 101)
    assert refused.status_code == 413
    assert "100 bytes" in refused.json()["detail"]
    assert (await client.post("/raw", content=b"x" * 100)).json() == 100
    assert (await client.post("/nowhere", content=b"x" * 101)).status_code == 413


@pytest.mark.parametrize("path", ["/raw", "/notes"])
async def test_an_undeclared_length_is_counted(client_of: Opener, path: str) -> None:
    """A chunked body is refused once it passes the limit, whether FastAPI or the handler reads it."""
    client = await client_of(notes(), body_limit=100)
    headers = {"content-type": "application/json"}
    refused = await client.post(path, content=chunks(11, 10), headers=headers)
    assert refused.status_code == 413
    assert "100 bytes" in refused.json()["detail"]


async def test_a_chunked_body_within_the_limit_arrives(client_of: Opener) -> None:
    """Counting changes nothing for a body that fits."""
    client = await client_of(notes(), body_limit=100)
    assert (await client.post("/raw", content=chunks(10, 10))).json() == 100
    assert (await client.post("/notes", json={"text": "four"})).json() == 4


async def test_a_length_beside_a_transfer_encoding_is_not_trusted() -> None:
    """A request that tells a length and sends chunks is counted all the same."""
    received: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 11, "more_body": False}

    async def send(message: Message) -> None:
        received.append(message)

    headers = [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    with pytest.raises(Exception, match="limit of 10 bytes"):
        await Edge(app, body_limit=10, bindings={})(scope, receive, send)
    assert received[0]["status"] == 500  # outside FastAPI nobody knows what a 413 is


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnavailable("postgres://app:secret@db"), "database"),
        (BrokerUnavailable("nats://app:secret@broker"), "broker"),
        (NotRunning("secret"), "starting or stopping"),
    ],
)
async def test_what_passes_is_answered_503(
    client_of: Opener, error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing database or broker is 503 with Retry-After, without a word of the error's own and no traceback."""
    service = Service("shaky")

    @service.get("/shaky")
    async def shaky() -> None:
        raise error

    client = await client_of(service, raises=True)
    answer = await client.get("/shaky")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert told in answer.json()["detail"]
    assert "secret" not in answer.text
    records = [record for record in caplog.records if record.name == "torpor.http"]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert records[0].exc_info is None


async def test_a_request_before_the_database_is_there_is_answered_503(client_of: Opener) -> None:
    """A route that asks for Tx answers 503 while its service starts."""
    service = Service("early")

    @service.get("/early")
    async def early(tx: Tx) -> None: ...

    client = await client_of(service, is_up=False)
    answer = await client.get("/early")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_failure_is_told_once_and_answered_500(client_of: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one traceback, with method, route and service; the client learns nothing of it."""
    service = Service("broken")

    @service.get("/broken/{name}")
    async def broken(name: str, tx: Tx) -> None:
        raise LookupError("secret")

    client = await client_of(service)
    answer = await client.get("/broken/3")
    assert (answer.status_code, answer.json()["detail"]) == (500, "Internal Server Error")
    assert "secret" not in answer.text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["torpor.http"]
    assert errors[0].getMessage() == "GET /broken/{name} failed"
    assert vars(errors[0])["service"] == "broken"
    assert vars(errors[0])["trace_id"] == answer.json()["trace_id"]
    assert errors[0].exc_info is not None
    assert isinstance(errors[0].exc_info[1], LookupError)


async def test_a_test_that_calls_the_app_sees_the_failure(client_of: Opener) -> None:
    """The error is raised again once it is answered, so that httpx raises it in a user's test."""
    service = Service("broken")

    @service.get("/broken")
    async def broken() -> None:
        raise LookupError("seen")

    client = await client_of(service, raises=True)
    with pytest.raises(LookupError, match="seen"):
        await client.get("/broken")


async def test_a_result_that_is_not_the_model_is_a_failure(client_of: Opener) -> None:
    """FastAPI's check of the response counts as a failure of the service, not of the client."""
    service = Service("wrong")

    @service.get("/wrong", response_model=Note)
    async def wrong() -> dict[str, int]:
        return {"text": 3}

    client = await client_of(service)
    assert (await client.get("/wrong")).status_code == 500


async def test_a_failure_after_the_response_has_begun_is_told(
    client_of: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream or a background task that fails is logged once, and no second response is sent."""
    service = Service("late")

    @service.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "one"
            raise LookupError("late")

        return StreamingResponse(parts())

    @service.get("/task")
    async def task(tasks: BackgroundTasks) -> str:
        async def fail() -> None:
            raise StoreUnavailable("late")

        tasks.add_task(fail)
        return "done"

    client = await client_of(service)
    assert (await client.get("/stream")).text == "one"
    assert (await client.get("/task")).json() == "done"
    assert [record.levelno for record in caplog.records if record.name == "torpor.http"] == [
        logging.ERROR,
        logging.WARNING,
    ]


async def test_only_requests_concern_the_edge() -> None:
    """Another kind of connection passes through untouched."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def silent(*_: object) -> None: ...

    await Edge(app, body_limit=1, bindings={})({"type": "lifespan"}, silent, silent)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


class Stamp:
    """A layer of somebody's around an application; it fails when it is asked to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Message) -> None:
            message.setdefault("headers", []).append((b"x-stamp", b"1"))
            await send(message)

        if scope["type"] == "http" and scope["path"] == "/fail":
            raise RuntimeError("the layer fails")
        await self._app(scope, receive, stamped if scope["type"] == "http" else send)


async def test_layers_around_an_application_are_kept_and_answered_for(client_of: Opener) -> None:
    """Whoever adds a layer has it asked, and FastAPI's own layers answer when it fails."""
    client = await client_of(notes())
    transport: Any = client._transport
    transport.app.add_middleware(Stamp)
    written = await client.post("/notes", json={"text": "one"})
    assert (written.status_code, written.headers["x-stamp"]) == (200, "1")
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.get("/fail")).status_code == 500


async def test_a_root_path_of_the_application_holds(client_of: Opener) -> None:
    """An application that is told its root path answers below it, and in its documents too."""
    client = await client_of(notes())
    transport: Any = client._transport
    transport.app.root_path = "/shop"
    assert (await client.post("/shop/notes", json={"text": "one"})).json() == 3
    assert (await client.get("/shop/openapi.json")).json()["servers"] == [{"url": "/shop"}]
