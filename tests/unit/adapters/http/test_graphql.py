"""GraphQL, through the application: transactions, refusals, limits, what is told and what is not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import strawberry
from fastapi import HTTPException
from strawberry.dataloader import DataLoader

from torpor import (
    ApiKeys,
    Caller,
    ConfigurationError,
    Event,
    GraphQL,
    GraphQLContext,
    Limit,
    QueryLimits,
    Router,
    Service,
    Versioned,
)
from torpor.adapters.http.app import open_to_developers
from torpor.kernel.errors import StoreUnavailable
from torpor.runtime.binding import bind
from torpor.runtime.topology import topology_of
from torpor.testing import TestShop

if TYPE_CHECKING:
    import httpx

Info = strawberry.Info[GraphQLContext]
MIGRATIONS = {"0001_book.sql": "CREATE TABLE book (id TEXT PRIMARY KEY, title TEXT NOT NULL)"}
KEYS = ApiKeys({sha256(b"a" * 32).hexdigest(): Caller("ada")})
OWN_TYPE = "application/graphql-response+json"


class BookAdded(Event, topic="books.added", key="id"):
    id: str


class Shelf:
    """What `context=` makes."""

    def __init__(self) -> None:
        self.name = "shelf"


@strawberry.type
class Book:
    id: str
    title: str

    @strawberry.field
    async def again(self, info: Info) -> Book:
        async with info.context.tx() as tx, info.context.tx() as same:
            assert tx is same
            row = await tx.fetch_one("SELECT * FROM book WHERE id = $1", self.id)
        assert row is not None
        return Book(**row)

    @strawberry.field
    def me(self) -> Book:
        return self


@strawberry.type
class Query:
    @strawberry.field
    async def books(self, info: Info) -> list[Book]:
        async with info.context.tx() as tx:
            await asyncio.sleep(0)
            return [Book(**row) for row in await tx.fetch("SELECT id, title FROM book ORDER BY id")]

    @strawberry.field
    def who(self, info: Info) -> str:
        caller = info.context.caller
        return (
            f"{caller.subject if caller else 'nobody'} at {info.context.value.name} of {info.context.request.url.path}"
        )

    @strawberry.field
    def broken(self) -> int | None:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def missing(self) -> int | None:
        raise HTTPException(404, "There is no such book.")

    @strawberry.field
    def away(self) -> int | None:
        raise StoreUnavailable("postgres://user:password@host is away")

    @strawberry.field
    async def long_title(self, id: str) -> int:
        return len(await TITLES.load(id))


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def add(self, info: Info, id: str, title: str) -> Book:
        async with info.context.tx() as tx:
            await tx.execute("INSERT INTO book VALUES ($1, $2)", id, title)
            tx.publish(BookAdded(id=id))
        return Book(id=id, title=title)

    @strawberry.mutation
    async def fail(self) -> int | None:
        raise ValueError("no")


async def titles(ids: list[str]) -> list[str]:
    """Many at once."""
    return [f"title {id}" for id in ids]


TITLES: DataLoader[str, str] = DataLoader(titles, cache=False)
SCHEMA = strawberry.Schema(Query, mutation=Mutation)


def library(**options: Any) -> Service:
    """A service that answers GraphQL."""
    service = Service("library", migrations=MIGRATIONS)
    if "auth" not in options:
        options.setdefault("public", True)
    service.include(GraphQL("/graphql", SCHEMA, context=Shelf, **options))
    return service


async def ask(shop: TestShop, query: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    """Asks by POST."""
    return await shop.post("/graphql", json={"query": query, **more}, headers=headers)


async def test_queries_and_mutations_are_answered() -> None:
    """With variables and operation names; what a mutation writes is committed and published."""
    async with TestShop(library()) as shop:
        query = (
            'mutation Add($id: String!) { add(id: $id, title: "T") { id again { title } } } query All { books { id } }'
        )
        added = await ask(shop, query, variables={"id": "1"}, operationName="Add")
        assert added.json() == {"data": {"add": {"id": "1", "again": {"title": "T"}}}}
        assert (added.status_code, added.headers["content-type"]) == (200, "application/json")
        assert (await ask(shop, query, operationName="All")).json() == {"data": {"books": [{"id": "1"}]}}
        assert (await ask(shop, "{ who }")).json() == {"data": {"who": "nobody at shelf of /graphql"}}
        await shop.settle()
        assert shop.published(BookAdded) == [BookAdded(id="1")]


async def test_a_mutation_is_done_whole_or_not_at_all() -> None:
    """One of two fails: nothing is written or published, and nothing is told as done."""
    async with TestShop(library()) as shop:
        answer = await ask(shop, 'mutation { add(id: "1", title: "T") { id } fail }')
        assert (answer.status_code, answer.json()["data"]) == (200, None)
        assert answer.json()["errors"][0]["path"] == ["fail"]
        assert (await ask(shop, "{ books { id } }")).json() == {"data": {"books": []}}
        await shop.settle()
        assert shop.published(BookAdded) == []
        twice = await ask(shop, 'mutation { a: add(id: "1", title: "T") { id } b: add(id: "1", title: "T") { id } }')
        assert twice.json()["data"] is None
        assert (await ask(shop, "{ books { id } }")).json() == {"data": {"books": []}}


async def test_resolvers_side_by_side_share_the_transaction() -> None:
    """They take turns, and a resolver may take it twice; a loader still gathers what they ask."""
    async with TestShop(library()) as shop:
        await ask(shop, 'mutation { a: add(id: "1", title: "T") { id } b: add(id: "2", title: "U") { id } }')
        answer = await ask(shop, "{ a: books { again { title } } b: books { again { again { id } } } }")
        assert answer.json() == {
            "data": {
                "a": [{"again": {"title": "T"}}, {"again": {"title": "U"}}],
                "b": [{"again": {"again": {"id": "1"}}}, {"again": {"again": {"id": "2"}}}],
            }
        }
        assert (await ask(shop, '{ a: longTitle(id: "1") b: longTitle(id: "22") }')).json()["data"] == {"a": 7, "b": 8}


async def test_a_failure_is_not_told_what_it_was(caplog: pytest.LogCaptureFixture) -> None:
    """A resolver's exception is logged with the trace, and answered as a failure; what it says on purpose is told."""
    async with TestShop(library()) as shop:
        answer = (await ask(shop, "{ broken missing who }")).json()
    broken, missing = sorted(answer["errors"], key=lambda error: error["path"])
    assert broken["message"] == "This failed."
    assert broken["extensions"]["trace_id"] in {record.__dict__.get("trace_id") for record in caplog.records}
    assert (missing["message"], missing["extensions"]) == ("There is no such book.", {"status": 404})
    assert answer["data"]["who"]
    assert "hunter2" not in str(answer)
    assert "hunter2" in caplog.text


async def test_a_database_that_is_away_is_told_as_ever() -> None:
    """503 with Retry-After, a problem, and nothing of the address."""
    async with TestShop(library()) as shop:
        answer = await ask(shop, "{ away }")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "password" not in answer.text


@pytest.mark.parametrize(
    ("content", "type"),
    [
        (b"{", "application/json"), (b"[]", "application/json"), (b"{}", "application/json"),
        (b'{"query": ""}', "application/json"), (b'{"query": 1}', "application/json"),
        (b'{"query": "{who}", "variables": []}', "application/json"), (b'{"query": "{who}"}', "text/plain"),
        (b"query={who}", "application/x-www-form-urlencoded"), (b"{who}", "application/graphql"),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_a_problem(content: bytes, type: str) -> None:
    """A body that is none, and one that a form of another page could send, are refused before anything is looked at."""
    async with TestShop(library()) as shop:
        answer = await shop.post("/graphql", content=content, headers={"content-type": type})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("{", "Syntax Error"), ("{ nothing }", "Cannot query field 'nothing'"),
        ("query A {who} query B {who}", "operationName"), ("fragment F on Query { who }", "operationName"),
        ("subscription { who }", "Subscriptions are not to be had here"), ("{ books }", "must have a selection"),
        ("{ ...F } fragment F on Query { ...F }", "Cannot spread fragment"),
        ("{ __schema { types { name } } }", "Introspection is off"),
        ('{ ...F } fragment F on Query { __type(name: "A") { name } }', "Introspection is off"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told(query: str, told: str) -> None:
    """200 as JSON, and 400 by GraphQL's own type; nothing is executed."""
    async with TestShop(library()) as shop:
        plain = await ask(shop, query)
        own = await ask(shop, query, headers={"accept": OWN_TYPE})
    assert plain.status_code == 200
    assert (own.status_code, own.headers["content-type"]) == (400, f"{OWN_TYPE}; charset=utf-8")
    assert plain.json() == own.json()
    assert "data" not in plain.json()
    assert told in plain.json()["errors"][0]["message"]


def bomb(steps: int) -> str:
    """Fragments that each use the next twice."""
    fragments = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(steps)]
    return " ".join(["{ ...F0 }", *fragments, f"fragment F{steps} on Query {{ who }}"])


@pytest.mark.parametrize(
    "query",
    [
        "{ books { me { me { me { me { me { me { me { me { me { id } } } } } } } } } } }",
        "{ ...F } fragment F on Query { books { me { me { me { me { me { me { me { me { me { id } } } } } } } } } } }",
        "{" + " ".join(f"a{n}: who" for n in range(31)) + "}",
        "{" + "who " * 301 + "}",
        "{" + "who " * 2001 + "}",
        "{" * 900,
        "{ books " * 900 + "}" * 900,
        "{ who(a: " + "[" * 1500 + "]" * 400 + ") }",
        bomb(40),
        "{ " + "...F " * 301 + "} fragment F on Query { who }",
    ],
    ids=range(10),
)  # fmt: skip
async def test_a_query_that_asks_for_too_much_is_refused_at_once(query: str) -> None:
    """Too deep, too many fields, aliases or tokens, through fragments too: told before it is validated."""
    async with TestShop(library()) as shop:
        began = time.process_time()
        answer = await ask(shop, query)
        assert time.process_time() - began < 5  # and not minutes
    assert answer.status_code == 200
    assert answer.json().keys() == {"errors"}


async def test_limits_are_as_they_are_told() -> None:
    """What is just within goes through, and what is just beyond does not."""
    limits = QueryLimits(depth=2, fields=3, aliases=1, tokens=12)
    async with TestShop(library(limits=limits)) as shop:
        for query, is_within in (
            ("{ books { id } }", True), ("{ books { me { id } } }", False), ("{ who broken missing }", True),
            ("{ a: who }", True), ("{ a: who b: who }", False), ("{ who who who who }", False),
            ("{ who who who } # a comment is no token", True), ('{ longTitle(id: "1") a: who }', True),
            ('{ longTitle(id: "1") a: who missing broken }', False),
        ):  # fmt: skip
            assert ("data" in (await ask(shop, query)).json()) is is_within, query
    with pytest.raises(ConfigurationError, match="lets no query in"):
        QueryLimits(depth=0)


async def test_introspection_and_the_page_are_for_developers() -> None:
    """On in `torpor dev` and where it is asked, off elsewhere; what a tool asks then is within the limits."""
    from graphql import get_introspection_query

    async with TestShop(library()) as shop:
        assert (await shop.get("/graphql")).status_code == 405
        assert (await shop.get("/graphql")).headers["allow"] == "POST"
        open_to_developers(shop._running.app)
        assert "<html" in (await shop.get("/graphql")).text
        told = (await ask(shop, get_introspection_query())).json()
        assert "Query" in str(told["data"]["__schema"])
    async with TestShop(library(explorable=True)) as shop:
        assert "data" in (await ask(shop, "{ __schema { types { name } } }")).json()
        assert (await shop.get("/graphql")).headers["content-type"] == "text/html; charset=utf-8"
    async with TestShop(library(explorable=False)) as shop:
        assert (await shop.get("/graphql")).status_code == 405
        assert (await ask(shop, "{ __typename }")).json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    ("options", "elsewhere", "developing"),
    [
        ({}, "POST", "GET, POST"),
        ({"explorable": True}, "GET, POST", "GET, POST"),
        ({"explorable": False}, "POST", "POST"),
        ({"rules": [Versioned("2026-01-31")]}, "POST", "GET, POST"),
    ],
)
async def test_the_methods_that_are_allowed_are_told(options: dict[str, Any], elsewhere: str, developing: str) -> None:
    """`Allow` names GET where there is a page, in a version as well, and nowhere else."""
    async with TestShop(library(**options)) as shop:
        for allowed in (elsewhere, developing):
            answers = [await shop.request(method, "/graphql") for method in ("PUT", "HEAD", "OPTIONS", "GET")]
            assert {answer.headers["allow"] for answer in answers if answer.status_code == 405} == {allowed}
            assert (answers[-1].status_code == 200) == ("GET" in allowed)
            open_to_developers(shop._running.app)


async def test_a_guard_and_rules_hold_before_it() -> None:
    """`auth=` and limits are those of a route; resolvers know the caller."""
    async with TestShop(library(auth=KEYS, rules=[Limit(2, per=60)])) as shop:
        key = {"x-api-key": "a" * 32}
        answers = [await ask(shop, "{ who }", headers=headers) for headers in ({}, key, key)]
    assert [answer.status_code for answer in answers] == [401, 200, 429]
    assert answers[1].json()["data"]["who"].startswith("ada at")


def test_it_is_known_without_running() -> None:
    """The route stands in the topology, with what its resolvers publish and whether they need a database."""
    plan = bind(library())
    (route, page) = plan.routes
    assert (route.handled.name, route.method, page.method) == ("library.graphql", "POST", "GET")
    assert route.handled.publishes == {BookAdded}
    assert plan.needs_store
    assert "/graphql" in str(topology_of([plan]).to_dict())
    bare = Service("bare")
    bare.include(GraphQL("/graphql", strawberry.Schema(Bare), public=True))
    assert not bind(bare).needs_store


@strawberry.type
class Bare:
    @strawberry.field
    async def hidden(self, info: Info) -> int | None:
        return await count(info.context)


async def count(context: GraphQLContext) -> int:
    """Asks for a transaction, where the schema does not show it."""
    async with context.tx() as tx:
        return len(await tx.fetch("SELECT 1 FROM book"))


async def test_a_transaction_that_nobody_told_of_is_asked_for_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what to write, and with it, it works."""
    for database, data in ((False, None), (True, 0)):
        service = Service("bare", migrations=MIGRATIONS)
        service.include(GraphQL("/graphql", strawberry.Schema(Bare), public=True, database=database))
        async with TestShop(service) as shop:
            assert (await ask(shop, "{ hidden }")).json()["data"] == {"hidden": data}
    assert "database=True" in caplog.text


async def test_it_stands_under_a_prefix_and_in_openapi() -> None:
    """A router may hold it, and the document tells how it is asked."""
    router, service = Router(prefix="/api"), Service("library", migrations=MIGRATIONS, public=True)
    router.include(GraphQL("/graphql", SCHEMA, context=Shelf))
    service.include(router)
    async with TestShop(service) as shop:
        assert (await shop.post("/api/graphql", json={"query": "{ who }"})).status_code == 200
        document = (await shop.get("/openapi.json")).json()
    operations = document["paths"]["/api/graphql"]
    assert operations.keys() == {"post"}
    assert operations["post"]["requestBody"]["required"]
    assert "errors" in str(document["components"]["schemas"]["Told"])


def test_what_cannot_be_served_is_told() -> None:
    """Another thing than a schema, an option that is none, and a context that would have a transaction of its own."""

    def wrong(tx: Any) -> None: ...

    from torpor import Tx

    wrong.__annotations__ = {"tx": Tx}
    with pytest.raises(ConfigurationError) as caught:
        GraphQL("/graphql", "type Query", limit=1, context=wrong)  # type: ignore[call-arg]
    told = str(caught.value)
    assert "Expected a schema: strawberry.Schema(" in told
    assert "unknown option 'limit'. Did you mean 'limits'?" in told
    assert "which asks for Tx. Resolvers have theirs" in told


def test_the_extra_is_named_when_it_is_missing() -> None:
    """Without strawberry the error says what to install, and nothing else of Torpor needs it."""
    code = (
        "import sys; sys.modules['strawberry'] = None\n"
        "import torpor.adapters.http.app, torpor\n"
        "try:\n    torpor.GraphQL('/graphql', None)\n"
        "except torpor.ConfigurationError as error:\n    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "GraphQL needs strawberry. Install torpor[graphql]." in run.stdout, run.stderr


def test_nobody_loads_it_who_does_not_ask() -> None:
    """An application without GraphQL imports neither strawberry nor graphql."""
    code = "import sys, torpor.adapters.http.app; print([m for m in ('strawberry', 'graphql') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
