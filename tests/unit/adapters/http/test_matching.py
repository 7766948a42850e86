"""Conditional writes, through the application: two editors do not overwrite each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import Response  # noqa: TC002  # read when a route is bound
from fastapi.responses import JSONResponse

from torpor import Compressed, ConfigurationError, ETags, Idempotent, Match, MustMatch, Router, Service, Tx
from torpor.runtime.binding import bind
from torpor.testing import TestShop

if TYPE_CHECKING:
    import httpx

MIGRATIONS = {"0001_note.sql": "CREATE TABLE note (id TEXT PRIMARY KEY, text TEXT NOT NULL, version INTEGER NOT NULL)"}
EDIT = "UPDATE note SET text = $2, version = version + 1 WHERE id = $1 RETURNING version"
MAKE = "INSERT INTO note VALUES ($1, $2, 1) ON CONFLICT (id) DO NOTHING RETURNING version"

notes = Service("notes", migrations=MIGRATIONS, public=True, rules=[ETags(), Compressed(0)])
strict = Router(prefix="/strict", rules=[MustMatch()])


@notes.get("/notes/{id}")
async def read(id: str, match: Match, tx: Tx) -> str:
    note = await tx.fetch_one("SELECT text, version FROM note WHERE id = $1", id)
    match.require(None if note is None else note["version"])
    return "" if note is None else note["text"]


@strict.put("/{id}", name="change_strictly")
@notes.put("/notes/{id}")
async def change(id: str, text: str, match: Match, tx: Tx) -> None:
    made = await tx.fetch_one(MAKE, id, text)
    if made is not None:
        match.require(None)
        match.show(1)
        return
    edited = await tx.fetch_one(EDIT, id, text)
    version = edited["version"] if edited else 0
    match.require(version - 1)
    match.show(version)


@strict.delete("/{id}")
async def remove(id: str, match: Match, tx: Tx) -> Response:
    note = await tx.fetch_one("DELETE FROM note WHERE id = $1 RETURNING version", id)
    match.require(None if note is None else note["version"])
    match.show("gone")
    return JSONResponse({}, 202)


@notes.post("/once/{id}", idempotency=Idempotent())
async def once(id: str, match: Match, tx: Tx) -> None:
    await tx.execute("INSERT INTO note VALUES ($1, '', 1)", id)
    match.require(9 if id == "known" else None)
    match.show(1)


@strict.post("/{id}/copies")
async def copy(id: str) -> str:
    return id


notes.include(strict)


async def put(shop: TestShop, text: str, path: str = "/notes/a", **headers: str) -> httpx.Response:
    """Writes a note under conditions."""
    named = {name.replace("_", "-"): said for name, said in headers.items()}
    return await shop.put(f"{path}?text={text}", headers=named)


async def test_the_second_of_two_editors_is_refused_and_changes_nothing() -> None:
    """412 with the present tag, and the transaction is undone; having read again, the editor goes on."""
    async with TestShop(notes) as shop:
        assert (await put(shop, "one", if_none_match="*")).headers["etag"] == '"1"'
        seen = (await shop.get("/notes/a", headers={"accept-encoding": "identity"})).headers["etag"]
        first, second = [await put(shop, text, if_match=seen) for text in ("mine", "yours")]
        assert (first.status_code, first.headers["etag"]) == (200, '"2"')
        assert (second.status_code, second.headers["etag"]) == (412, '"2"')
        assert second.headers["content-type"] == "application/problem+json"
        assert second.json()["title"] == "Precondition Failed"
        assert (await shop.get("/notes/a")).json() == "mine"
        assert (await put(shop, "yours", if_match=second.headers["etag"])).status_code == 200
        assert (await put(shop, "again", if_none_match="*")).status_code == 412
        assert (await put(shop, "unconditional")).headers["etag"] == '"4"'


async def test_a_tag_that_compression_has_changed_is_still_the_notes() -> None:
    """What a browser was sent compressed it may edit, and is not sent again."""
    async with TestShop(notes) as shop:
        await put(shop, "one")
        seen = await shop.get("/notes/a", headers={"accept-encoding": "gzip"})
        assert (seen.headers["etag"], seen.headers["content-encoding"]) == ('"1;gzip"', "gzip")
        again = await shop.get("/notes/a", headers={"if-none-match": seen.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"1"')
        assert (await put(shop, "two", if_match=seen.headers["etag"])).status_code == 200


async def test_editors_at_once_are_let_through_one_after_the_other() -> None:
    """Of ten that rest on one state, one wins."""
    async with TestShop(notes) as shop:
        await put(shop, "one")
        answers = await asyncio.gather(*(put(shop, str(number), if_match='"1"') for number in range(10)))
        assert sorted(answer.status_code for answer in answers) == [200, *[412] * 9]


async def test_who_must_match_and_says_nothing_is_told_to() -> None:
    """428 before the handler, for PUT, PATCH and DELETE; a POST below the rule goes through."""
    async with TestShop(notes) as shop:
        refused = await put(shop, "x", "/strict/a")
        assert (refused.status_code, refused.json()["title"]) == (428, "Precondition Required")
        assert "needs an If-Match" in refused.json()["detail"]
        assert (await put(shop, "x", "/strict/a", if_match='"1"')).status_code == 412
        assert (await put(shop, "x", "/strict/a", if_match="1")).status_code == 400
        assert (await put(shop, "x", "/strict/a", if_none_match="*")).status_code == 200
        assert (await shop.request("DELETE", "/strict/a")).status_code == 428
        gone = await shop.request("DELETE", "/strict/a", headers={"if-match": '"1"'})
        assert (gone.status_code, gone.headers["etag"]) == (202, '"gone"')
        assert (await shop.post("/strict/a/copies")).status_code == 200


async def test_lists_over_several_lines_are_one() -> None:
    """A header that comes twice is read whole."""
    async with TestShop(notes) as shop:
        await put(shop, "one")
        headers: Any = [("if-match", '"7"'), ("if-match", '"1"')]
        assert (await shop.put("/notes/a?text=two", headers=headers)).status_code == 200


async def test_a_request_that_comes_again_is_compared_once() -> None:
    """What was refused is not kept under its key, and what was done is answered again with its tag."""
    async with TestShop(notes) as shop:
        key = {"Idempotency-Key": "k", "if-none-match": "*"}
        assert (await shop.post("/once/known", headers=key)).status_code == 412
        assert (await shop.get("/notes/known")).json() == ""
        answers = [await shop.post("/once/new", headers={**key, "Idempotency-Key": "n"}) for _ in range(2)]
        assert [(answer.status_code, answer.headers["etag"]) for answer in answers] == [(200, '"1"')] * 2


async def test_openapi_tells_the_headers_and_the_answers() -> None:
    """The conditions as parameters by their names, 412 and 400 of writes, 428 where it must, 304 of reads."""
    async with TestShop(notes) as shop:
        paths = (await shop.get("/openapi.json")).json()["paths"]
    write, must, get = paths["/notes/{id}"]["put"], paths["/strict/{id}"]["put"], paths["/notes/{id}"]["get"]
    headers = [{one["name"] for one in each["parameters"] if one["in"] == "header"} for each in (write, get)]
    assert headers == [{"If-Match", "If-None-Match", "If-Unmodified-Since"}, {"If-None-Match", "If-Modified-Since"}]
    assert {"400", "412"} <= write["responses"].keys()
    assert "428" in must["responses"]
    assert "428" not in write["responses"]
    assert "304" in get["responses"]
    assert write["responses"]["412"]["content"].keys() == {"application/problem+json"}
    assert "ETag" in get["responses"]["200"]["headers"]


def test_a_write_below_the_rule_must_compare() -> None:
    """A PUT that asks for no Match would be guarded by nothing, and a schedule has no request."""
    service = Service("wrong", rules=[MustMatch()])

    @service.put("/a")
    async def unguarded() -> None: ...

    @service.every(60)
    async def tick(match: Match) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    assert "is below MustMatch(), and compares no tags" in str(caught.value)
    assert "asks for 'match: Match', which Torpor cannot fill" in str(caught.value)
