"""What is wrong with a request is told by RFC 9457."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import HTTPException
from pydantic import BaseModel

from torpor import BodyLimit, Limit, Service, Timeout
from torpor.kernel.errors import StoreUnavailable

if TYPE_CHECKING:
    import httpx

    from tests.unit.adapters.http.conftest import Opener

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Note(BaseModel):
    text: str


def troubled() -> Service:
    """A service with whatever may go wrong."""
    service = Service("troubled")

    @service.get("/raised")
    async def raised() -> None:
        raise HTTPException(409, "taken", headers={"x-why": "yes"})

    @service.put("/raised")
    async def put() -> None: ...

    @service.get("/listed")
    async def listed() -> None:
        raise HTTPException(422, [{"msg": "odd"}])

    @service.get("/moved")
    async def moved() -> None:
        raise HTTPException(303, headers={"location": "/raised"})

    @service.get("/unchanged")
    async def unchanged() -> None:
        raise HTTPException(304)

    @service.get("/away")
    async def away() -> None:
        raise StoreUnavailable("secret")

    @service.get("/broken")
    async def broken() -> None:
        raise LookupError("secret")

    @service.get("/strange")
    async def strange() -> None:
        raise HTTPException(499, "closed")

    @service.post("/notes")
    async def write(note: Note) -> None: ...

    return service


def told(answer: httpx.Response) -> dict[str, Any]:
    """The problem of an answer, whose form is checked."""
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert set(found) == {"type", "title", "status", "detail", "instance", "trace_id"}
    assert found["status"] == answer.status_code
    assert found["instance"] == answer.request.url.path
    assert len(found["trace_id"]) == 32
    return found


@pytest.mark.parametrize(
    ("method", "path", "status", "title", "detail"),
    [
        ("GET", "/raised", 409, "Conflict", "taken"),
        ("GET", "/listed", 422, HTTPStatus(422).phrase, [{"msg": "odd"}]),
        ("GET", "/away", 503, "Service Unavailable", "The database does not answer. Try again soon."),
        ("GET", "/broken", 500, "Internal Server Error", "Internal Server Error"),
        ("GET", "/nowhere", 404, "Not Found", "Not Found"),
        ("DELETE", "/raised", 405, "Method Not Allowed", "Method Not Allowed"),
        ("GET", "/strange", 499, "Error", "closed"),
    ],
)
async def test_every_failure_is_a_problem(
    client_of: Opener, method: str, path: str, status: int, title: str, detail: Any
) -> None:
    """Whoever has raised it, or whatever has happened: one form, and nothing of an error's own text."""
    answer = await (await client_of(troubled())).request(method, path)
    problem = told(answer)
    assert (problem["status"], problem["title"], problem["detail"]) == (status, title, detail)


async def test_a_body_that_does_not_fit_is_a_problem(client_of: Opener) -> None:
    """FastAPI's list of mistakes is the detail, and a body over the limit is told in the same form."""
    client = await client_of(troubled())
    problem = told(await client.post("/notes", json={"text": 3}))
    assert problem["detail"][0]["loc"] == ["body", "text"]
    assert told(await client.post("/notes", content=b"x" * 1001))["title"].endswith("Too Large")


async def test_what_json_cannot_carry_is_left_out(client_of: Opener) -> None:
    """A number that is none is not repeated, and half a character is, in ASCII."""
    client = await client_of(troubled())
    headers = {"content-type": "application/json"}
    assert "input" not in told(await client.post("/notes", content='{"text": NaN}', headers=headers))["detail"][0]
    half = await client.post("/notes", content='{"text": ["\\ud800"]}', headers=headers)
    assert told(half)["detail"][0]["input"] == ["\ud800"]


async def test_headers_and_other_answers_stay(client_of: Opener) -> None:
    """The headers of an HTTPException are sent, and one that is no error is no problem."""
    client = await client_of(troubled())
    assert (await client.get("/raised")).headers["x-why"] == "yes"
    assert (await client.request("DELETE", "/raised")).headers["allow"] == "GET, PUT"
    moved = await client.get("/moved")
    assert (moved.status_code, moved.headers["content-type"]) == (303, "application/json")
    assert ((await client.get("/unchanged")).status_code, (await client.get("/unchanged")).content) == (304, b"")


@pytest.mark.parametrize(
    ("traceparent", "is_taken"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", True),
        (f"00-{TRACE}-b7ad6b7169203331-01-more", True),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", False),
        (f"00-{TRACE}-b7ad-01", False),
        ("nonsense", False),
        ("", False),
    ],
)
async def test_the_trace_is_the_callers(client_of: Opener, traceparent: str, is_taken: bool) -> None:  # noqa: FBT001
    """The id of a `traceparent` is told; without a good one, a new id is."""
    client = await client_of(troubled())
    problem = told(await client.get("/raised", headers={"traceparent": traceparent}))
    assert (problem["trace_id"] == TRACE) is is_taken


async def test_openapi_tells_of_the_problems(client_of: Opener) -> None:
    """Each route has the answers that its declaration tells of, as problems; FastAPI's own form is in none."""
    service = Service("told")

    @service.put("/notes/{name}", rules=[Limit(100), Timeout(5)], responses={404: {"description": "No such note."}})
    async def write(name: str, note: Note) -> None: ...

    @service.get("/notes", rules=[BodyLimit(0)])
    async def notes() -> list[str]:
        return []

    schema = (await (await client_of(service)).get("/openapi.json")).json()
    put, get = schema["paths"]["/notes/{name}"]["put"]["responses"], schema["paths"]["/notes"]["get"]["responses"]
    assert set(put) == {"200", "400", "404", "413", "422", "429", "503", "504", "default"}
    assert set(get) == {"200", "413", "503", "default"}
    assert {tuple(put[status]["content"]) for status in put if status != "200"} == {("application/problem+json",)}
    assert put["404"]["description"] == "No such note."
    assert set(schema["components"]["schemas"]) == {"Note", "Problem"}
