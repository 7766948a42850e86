"""How answers go out: tagged, compressed, or marked as on their way out."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator  # noqa: TC003  # read when a route is bound
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Response  # noqa: TC002  # read when a route is bound
from fastapi.responses import PlainTextResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as some

from torpor import Compressed, ConfigurationError, Deprecated, ETags, Router, Service
from torpor.adapters.http.representing import _has, takes_gzip

if TYPE_CHECKING:
    from tests.unit.adapters.http.conftest import Opener

LONG = "word " * 1000


def library(*rules: Any) -> Service:
    """A service of texts."""
    service = Service("library", rules=rules)

    @service.get("/text")
    async def text(response: Response, own: str | None = None) -> str:
        if own:
            response.headers["etag"] = own
        return LONG

    @service.get("/plain")
    async def plain(kind: str = "text/plain", cache: str = "", size: int = 5000) -> Response:
        headers = {"cache-control": cache} if cache else {}
        return PlainTextResponse("x" * size, media_type=kind, headers=headers)

    @service.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "one "
            yield "two"

        return StreamingResponse(parts(), media_type="text/plain")

    @service.post("/text", status_code=200)
    async def write() -> str:
        return LONG

    return service


async def test_who_has_it_is_not_sent_it_again(client_of: Opener) -> None:
    """An answer has a strong tag; a GET that names it, or anything, is answered 304 without a body."""
    client = await client_of(library(ETags()))
    tag = (await client.get("/text")).headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get("/text", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
    assert (await client.get("/text", headers={"if-none-match": '"other"'})).json() == LONG
    assert (await client.get("/text?own=W/%22v7%22")).headers["etag"] == 'W/"v7"'
    assert (await client.get("/text?own=W/%22v7%22", headers={"if-none-match": '"v7"'})).status_code == 304
    assert "etag" not in (await client.post("/text")).headers
    stream = await client.get("/stream")
    assert (stream.text, "etag" in stream.headers) == ("one two", False)


async def test_text_is_compressed_for_who_takes_it(client_of: Opener) -> None:
    """Gzip when it is accepted; the length is that of what is sent, and caches are told that it differs."""
    client = await client_of(library(Compressed()))
    packed = await client.get("/text", headers={"accept-encoding": "br, gzip;q=0.5"})
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert packed.json() == LONG
    assert int(packed.headers["content-length"]) < 200
    for refused in ("identity", "gzip;q=0", "*;q=0, br"):
        plain = await client.get("/text", headers={"accept-encoding": refused})
        assert ("content-encoding" in plain.headers, plain.headers["vary"]) == (False, "Accept-Encoding")
        assert plain.json() == LONG


@pytest.mark.parametrize(
    "query", ["kind=image/png", "kind=application/zip", "cache=public,%20no-transform", "size=1023"]
)
async def test_what_is_not_to_be_compressed_is_not(client_of: Opener, query: str) -> None:
    """Neither other types, nor what forbids it, nor what is short."""
    client = await client_of(library(Compressed()))
    answer = await client.get(f"/plain?{query}", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers
    assert (await client.get("/stream", headers={"accept-encoding": "gzip"})).text == "one two"


async def test_a_tag_is_that_of_the_bytes_that_are_sent(client_of: Opener) -> None:
    """Compressed and plain have different strong tags, a handler's own too, which is told apart at its end."""
    client = await client_of(library(Compressed(), ETags()))
    packed = await client.get("/text", headers={"accept-encoding": "gzip"})
    plain = await client.get("/text", headers={"accept-encoding": "identity"})
    assert packed.headers["etag"] != plain.headers["etag"]
    again = {"accept-encoding": "gzip", "if-none-match": packed.headers["etag"]}
    assert (await client.get("/text", headers=again)).status_code == 304
    own = await client.get("/text?own=%22v7%22", headers={"accept-encoding": "gzip"})
    assert own.headers["etag"] == '"v7;gzip"'
    weak = await client.get("/text?own=W/%22v7%22", headers={"accept-encoding": "gzip"})
    assert weak.headers["etag"] == 'W/"v7"'


async def test_a_long_text_is_compressed_too(client_of: Opener) -> None:
    """What would hold up the loop is compressed beside it."""
    client = await client_of(library(Compressed(0)))
    answer = await client.get("/plain?size=300000", headers={"accept-encoding": "*"})
    assert (answer.headers["content-encoding"], len(answer.text)) == ("gzip", 300_000)
    assert gzip.compress(b"x", mtime=0) == gzip.compress(b"x", mtime=0)


async def test_what_is_on_its_way_out_says_so(client_of: Opener) -> None:
    """Deprecation, Sunset and a link, in every answer of the router and in OpenAPI."""
    service = Service("versions")
    rule = Deprecated(date(2026, 1, 31), sunset=datetime(2026, 12, 31, 12, tzinfo=UTC), link="/docs/v2")
    old = Router(prefix="/v1", rules=[rule])

    @old.get("/items")
    async def items() -> list[int]:
        return [1]

    @service.get("/v2/items", rules=[ETags()])
    async def new_items() -> list[int]:
        return [1]

    service.include(old)
    client = await client_of(service)
    answer = await client.get("/v1/items")
    assert answer.headers["deprecation"] == "@1769817600"
    assert answer.headers["sunset"] == "Thu, 31 Dec 2026 12:00:00 GMT"
    assert answer.headers["link"] == '</docs/v2>; rel="deprecation"; type="text/html"'
    assert "deprecation" not in (await client.get("/v2/items")).headers
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert paths["/v1/items"]["get"]["deprecated"] is True
    assert "deprecated" not in paths["/v2/items"]["get"]
    assert "304" in paths["/v2/items"]["get"]["responses"]


def test_values_that_make_no_sense_are_refused() -> None:
    """A sunset before the deprecation, and a negative size, are mistakes; a value shows what it is."""
    with pytest.raises(ConfigurationError, match="ends before it begins"):
        Deprecated(date(2026, 2, 1), sunset=date(2026, 1, 1))
    with pytest.raises(ConfigurationError, match="number of bytes"):
        Compressed(-1)
    naive = datetime(2026, 2, 1)  # noqa: DTZ001  # taken as UTC
    assert repr(Deprecated(naive)) == "Deprecated(2026-02-01, sunset=None)"
    assert [repr(ETags()), repr(Compressed(5))] == ["ETags()", "Compressed(5)"]


@given(some.binary(max_size=60))
def test_no_header_breaks_the_reading_of_it(value: bytes) -> None:
    """Whatever stands in Accept-Encoding or If-None-Match is read, or read as nothing."""
    assert takes_gzip(value) in {True, False}
    assert _has(value, b'"a"') in {True, False}


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        (b"gzip", True),
        (b"GZIP ; q=0.001", True),
        (b"gzip;q=0.000", False),
        (b"*", True),
        (b"gzip;q=0, *", False),
        (b"", False),
    ],
)
def test_weights_are_read(accepted: bytes, is_taken: bool) -> None:  # noqa: FBT001
    """A weight of 0 refuses, and a name counts more than `*`."""
    assert takes_gzip(accepted) is is_taken
