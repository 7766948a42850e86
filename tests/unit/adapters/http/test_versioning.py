"""Versions by header, through the application: paths, refusals, rules, preflights and documents."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from torpor import (
    ApiKeys,
    BodyLimit,
    ConfigurationError,
    Cors,
    Deprecated,
    Idempotent,
    Keyset,
    Limit,
    Router,
    Service,
    Tx,
    Versioned,
)
from torpor.assembly import plans_of
from torpor.runtime.binding import bind
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop

OLD, NEW = "2025-01-31", "2026-01-31"
PAGE = "https://shop.example.com"
LATER = Keyset({"id": str})

books = Service("books", migrations={"0001_book.sql": "CREATE TABLE book (id TEXT PRIMARY KEY)"}, public=True)
old = Router(prefix="/books", rules=[Versioned(OLD), Deprecated(date(2026, 1, 31)), Cors(PAGE), BodyLimit(10)])
new = Router(rules=[Versioned(NEW), Cors(PAGE, headers=["x-mine"]), BodyLimit(100)])


class Book(BaseModel):
    id: str
    pages: int = 1


@old.get("/{id}")
async def show(id: str) -> str:
    return f"old {id}"


@new.get("/books/{book_id}", name="show_new")
async def show_new(book_id: str, full: bool = False) -> Book:  # noqa: FBT001, FBT002  # a query
    return Book(id=book_id, pages=2 if full else 1)


@old.post("", status_code=201)
async def add(book: Book) -> str:
    return book.id


@old.put("/{id}", idempotency=Idempotent())
async def put(id: str, tx: Tx) -> str:
    await tx.execute("INSERT INTO book VALUES ($1)", id)
    return id


@new.delete("/books/{id}")
async def remove(id: str) -> None: ...


@books.get("/plain")
async def plain() -> str:
    return "plain"


books.include(old)
books.include(new)


def asked(version: str, **more: str) -> dict[str, str]:
    """The headers of a request."""
    return {"API-Version": version, **more}


async def test_the_header_chooses_the_handler() -> None:
    """Same path, other handler, with its own parameters; the answer tells the version, and that it depends on it."""
    async with TestShop(books) as shop:
        by = {said: await shop.get("/books/7?full=1", headers=asked(said)) for said in (OLD, NEW)}
        assert by[OLD].json() == "old 7"
        assert by[NEW].json() == {"id": "7", "pages": 2}
        assert {said: answer.headers["api-version"] for said, answer in by.items()} == {OLD: OLD, NEW: NEW}
        assert all("API-Version" in answer.headers.get_list("vary") for answer in by.values())
        unsaid = await shop.get("/books/7")
        assert (unsaid.json(), unsaid.headers["api-version"]) == ("old 7", OLD)
        assert "api-version" not in (await shop.get("/plain", headers=asked("x"))).headers


async def test_what_has_not_changed_is_answered_in_later_versions() -> None:
    """The old handler answers for the new version, and what is only in the new is not there in the old: 404."""
    async with TestShop(books) as shop:
        assert (await shop.post("/books", json={"id": "a"}, headers=asked(NEW))).headers["api-version"] == NEW
        assert (await shop.request("DELETE", "/books/7", headers=asked(NEW))).status_code == 200
        refused = await shop.request("DELETE", "/books/7", headers=asked(OLD))
        assert (refused.status_code, refused.headers.get_list("vary")) == (404, ["API-Version", "Origin"])
        assert refused.json()["detail"] == f"This is not there in version {OLD}. API-Version may be: {NEW}."
        assert (await shop.request("DELETE", "/books/7")).status_code == 200


@pytest.mark.parametrize("said", ["x", "", "2027-01-01", f"{OLD}, {NEW}"])
async def test_an_unknown_version_is_told_the_known(said: str) -> None:
    """400, a problem, which a page of an allowed origin may read."""
    async with TestShop(books) as shop:
        refused = await shop.get("/books/7", headers=asked(said, origin=PAGE))
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
        assert f"API-Version may be: {OLD}, {NEW}." in refused.json()["detail"]
        assert refused.headers["access-control-allow-origin"] == PAGE


async def test_rules_are_those_of_the_handler_that_answers() -> None:
    """Deprecation of the old, not of the new, and keys of requests as for any route."""
    async with TestShop(books) as shop:
        deprecated = {
            said: "deprecation" in (await shop.get("/books/7", headers=asked(said))).headers for said in (OLD, NEW)
        }
        assert deprecated == {OLD: True, NEW: False}
        key = asked(OLD, **{"Idempotency-Key": "k"})
        first, second = [await shop.put("/books/a", headers=key) for _ in range(2)]
        assert (first.status_code, second.headers["idempotency-replayed"]) == (200, "true")


async def test_other_methods_and_paths_are_told_as_ever() -> None:
    """404 and 405 with all methods of the path, and HEAD is no GET."""
    async with TestShop(books) as shop:
        refused = await shop.request("PATCH", "/books/7", headers=asked(NEW))
        assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, OPTIONS, PUT")
        assert (await shop.request("HEAD", "/books/7")).status_code == 405
        assert (await shop.get("/nothing", headers=asked(NEW))).status_code == 404


async def test_a_preflight_lets_the_version_be_said() -> None:
    """A browser asks before it may say which version it wants, so the header is allowed."""
    async with TestShop(books) as shop:
        headers = {"origin": PAGE, "access-control-request-method": "GET"}
        answer = await shop.request("OPTIONS", "/books/7", headers=headers)
        assert answer.status_code == 204
        assert "api-version" in answer.headers["access-control-allow-headers"]


async def test_each_version_has_its_document() -> None:
    """The plain one tells what is answered to who says nothing; by query or header there is one for each version."""
    async with TestShop(books) as shop:
        plain, early, late = [
            (await shop.get(f"/openapi.json{query}")).json() for query in ("", f"?version={OLD}", f"?version={NEW}")
        ]
        assert (await shop.get("/openapi.json", headers=asked(NEW))).json() == late
        refused = await shop.get("/openapi.json?version=1")
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    assert (early["info"]["version"], late["info"]["version"]) == (OLD, NEW)
    assert plain["paths"]["/books/{id}"].keys() == {"get", "put", "delete"}
    assert early["paths"].keys() == {"/plain", "/books", "/books/{id}"}
    assert early["paths"]["/books/{id}"].keys() == {"get", "put"}
    assert late["paths"].keys() == {"/plain", "/books", "/books/{id}", "/books/{book_id}"}
    assert early["paths"]["/books/{id}"]["get"]["deprecated"]
    assert "Book" in late["components"]["schemas"]
    for document, path, version, needed in ((plain, "{id}", OLD, False), (late, "{book_id}", NEW, True)):
        (header,) = [one for one in document["paths"][f"/books/{path}"]["get"]["parameters"] if one["in"] == "header"]
        assert (header["name"], header["required"], header["schema"]["enum"]) == ("API-Version", needed, [version])
    answers = late["paths"]["/books/{book_id}"]["get"]["responses"]
    assert answers["400"]["content"].keys() == {"application/problem+json"}
    assert "API-Version" in answers["200"]["headers"]
    assert "parameters" not in plain["paths"]["/plain"]["get"]


async def test_a_body_is_held_to_its_routes_limit_or_the_laxest() -> None:
    """Which version a body is for is known only later, so what comes in is held to the laxest of a path."""
    service = Service("bodies", public=True)
    for version, size in (("1", 10), ("2", 100)):
        router = Router(rules=[Versioned(version), BodyLimit(size)])
        router.post("/in", name=f"take{version}")(taking())
        service.include(router)
    async with TestShop(service) as shop:
        assert (await shop.post("/in", content=b"x" * 50, headers=asked("2"))).status_code == 200
        assert (await shop.post("/in", content=b"x" * 101, headers=asked("2"))).status_code == 413
    service.post("/in", name="take3", rules=[Versioned("3")])(taking())
    async with TestShop(service) as shop:
        assert (await shop.post("/in", content=b"x" * 101, headers=asked("3"))).status_code == 200


def taking() -> Any:
    """A handler."""

    async def take() -> None: ...

    return take


async def test_a_guard_and_a_limit_are_those_of_the_version() -> None:
    """One version may be open, and the other for those with a key."""
    service = Service("guarded")
    first = Router(rules=[Versioned("1"), Limit(1, per=60)], public=True)
    second = Router(rules=[Versioned("2")], auth=ApiKeys({}))
    first.get("/a", name="one")(taking())
    second.get("/a", name="two")(taking())
    service.include(first)
    service.include(second)
    async with TestShop(service) as shop:
        answers = [(await shop.get("/a", headers=asked(said))).status_code for said in ("2", "1", "1", "2")]
    assert answers == [401, 200, 429, 401]


def test_what_cannot_be_told_apart_is_refused() -> None:
    """One version twice, in one text or two, one with and one without, two headers for a path, two defaults."""
    service = Service("wrong", public=True)
    pairs: list[tuple[Any, Any, str]] = [
        (Versioned("1"), Versioned("1"), "answers GET /0 in Versioned('1'), and so does"),
        (Versioned("1"), None, "Give both a Versioned"),
        (Versioned("1"), Versioned("2", header="X-Version"), "Choose by one header"),
        (Versioned("3", default=True), Versioned("4", default=True), "One version is the default"),
        (Versioned("1.5"), Versioned("1-5"), "answers GET /4 in Versioned('1-5'), and so does"),
    ]
    for number, (one, other, _) in enumerate(pairs):
        for name, version in (("a", one), ("b", other)):
            rules = [version] if version else []
            service.get(f"/{number}", name=f"{name}{number}", rules=rules)(taking())
    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    assert len(caught.value.problems) == len(pairs)
    for _, _, told in pairs:
        assert told in str(caught.value)


def test_the_topology_tells_the_version_of_a_route() -> None:
    """Two handlers of one path are told apart there too."""
    routes = topology_of([bind(books)]).to_dict()["services"][0]["routes"]
    versions = {route["name"]: route.get("version") for route in routes}
    assert (versions["books.show"], versions["books.show_new"], versions["books.plain"]) == (OLD, NEW, None)


def test_two_services_cannot_share_a_path_by_versions() -> None:
    """The versions of a path are one service's; elsewhere nobody would know which are all."""
    one, two = (
        Service(name, public=True, rules=[Versioned(version)]) for name, version in (("one", "1"), ("two", "2"))
    )
    one.get("/a", name="a")(taking())
    two.get("/a", name="b")(taking())
    with pytest.raises(ConfigurationError, match="Change one path, or give one service a prefix"):
        plans_of([one, two])
