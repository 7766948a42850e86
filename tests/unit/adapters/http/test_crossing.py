"""CORS: closed, until it is said who may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fastapi import HTTPException

from torpor import ConfigurationError, Cors, Limit, Service

if TYPE_CHECKING:
    import httpx

    from tests.unit.adapters.http.conftest import Opener

SHOP, OTHER = "https://shop.example.com", "https://evil.example.com"


def shared(cors: Cors) -> Service:
    """A service that pages may call, and that fails in each way."""
    service = Service("shared", rules=[Limit(100), cors])

    @service.get("/items")
    async def items() -> list[int]:
        return [1]

    @service.put("/items")
    async def put() -> None: ...

    @service.get("/gone")
    async def gone() -> None:
        raise HTTPException(410)

    @service.get("/broken")
    async def broken() -> None:
        raise LookupError

    @service.get("/busy", rules=[Limit(1, per=1000)])
    async def busy() -> None: ...

    return service


async def preflight(client: httpx.AsyncClient, origin: str, method: str = "GET") -> httpx.Response:
    """What a browser asks first."""
    headers = {"origin": origin, "access-control-request-method": method}
    return await client.options("/items", headers=headers)


async def test_nobody_may_read_unless_it_is_said(client_of: Opener) -> None:
    """Without the rule no answer has a header of CORS, and a preflight finds no such method."""
    service = Service("closed")

    @service.get("/items")
    async def items() -> list[int]:
        return [1]

    client = await client_of(service)
    answer = await client.get("/items", headers={"origin": SHOP})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await preflight(client, SHOP)).status_code == 405


async def test_who_is_named_may_read(client_of: Opener) -> None:
    """An origin that is named is told so, and another is not; caches are told that it differs."""
    client = await client_of(shared(Cors(SHOP, headers=["authorization"], expose=["etag"], credentials=True)))
    answer = await client.get("/items", headers={"origin": SHOP})
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-expose-headers"] == "etag"
    assert answer.headers["vary"] == "Origin"
    other = await client.get("/items", headers={"origin": OTHER})
    assert (other.status_code, other.headers["vary"]) == (200, "Origin")
    assert "access-control-allow-origin" not in other.headers


async def test_a_browser_is_told_what_it_may_ask(client_of: Opener) -> None:
    """A preflight names the methods and headers, for an origin and a method that may; others are refused."""
    client = await client_of(shared(Cors(SHOP, headers=["authorization", "x-tenant"], max_age=60)))
    asked = await preflight(client, SHOP, "PUT")
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-methods"] == "GET, PUT"
    assert asked.headers["access-control-allow-headers"] == "authorization, x-tenant"
    assert asked.headers["access-control-max-age"] == "60"
    assert (await preflight(client, OTHER)).status_code == 403
    assert (await preflight(client, SHOP, "DELETE")).status_code == 403


async def test_failures_and_refusals_may_be_read_too(client_of: Opener) -> None:
    """A page sees why its request has failed, whoever answers it."""
    client = await client_of(shared(Cors("*")))
    await client.get("/busy")
    for path, status in (("/items", 200), ("/gone", 410), ("/broken", 500), ("/busy", 429)):
        answer = await client.get(path, headers={"origin": OTHER})
        assert (answer.status_code, answer.headers.get_list("access-control-allow-origin")) == (status, ["*"])


@pytest.mark.parametrize("made", [Cors, lambda: Cors("*", credentials=True), lambda: Cors(f"{SHOP}/path")])
def test_what_is_not_safe_is_refused(made: object) -> None:
    """Nobody, everybody with cookies, and what is no origin are mistakes."""
    with pytest.raises(ConfigurationError, match="Cors"):
        made()  # type: ignore[operator]


def test_cors_shows_its_origins() -> None:
    """The repr names who may."""
    assert repr(Cors(SHOP, "*")) == f"Cors('*', '{SHOP}')"
