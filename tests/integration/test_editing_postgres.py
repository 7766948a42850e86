"""Two editors, and GraphQL's resolvers side by side, on PostgreSQL: where one transaction is not all others' end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import strawberry

from tests.integration.postgres_server import PostgresServer, started
from torpor import GraphQL, GraphQLContext, Match, Service, Tx
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Info = strawberry.Info[GraphQLContext]
TABLE = "CREATE TABLE note (id TEXT PRIMARY KEY, text TEXT NOT NULL, version INTEGER NOT NULL)"
EDITORS = 8


@strawberry.type
class Query:
    @strawberry.field
    async def text(self, info: Info, id: str) -> str | None:
        async with info.context.tx() as tx:
            row = await tx.fetch_one("SELECT text, pg_sleep(0.01) FROM note WHERE id = $1", id)
        return None if row is None else str(row["text"])


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def write(self, info: Info, id: str) -> str:
        async with info.context.tx() as tx:
            await tx.execute("INSERT INTO note VALUES ($1, 'new', 1)", id)
        return id


notes = Service("notes", migrations={"0001_note.sql": TABLE}, public=True)
notes.include(GraphQL("/graphql", strawberry.Schema(Query, mutation=Mutation)))


@notes.post("/notes/{id}")
async def make(id: str, tx: Tx) -> None:
    await tx.execute("INSERT INTO note VALUES ($1, '', 1)", id)


@notes.get("/notes/{id}")
async def read(id: str, tx: Tx) -> dict[str, Any] | None:
    return await tx.fetch_one("SELECT text, version FROM note WHERE id = $1", id)


@notes.put("/updated/{id}")
async def update(id: str, text: str, match: Match, tx: Tx) -> None:
    edit = "UPDATE note SET text = $2, version = version + 1 WHERE id = $1 RETURNING version"
    note = await tx.fetch_one(edit, id, text)
    match.require(note["version"] - 1 if note else None)


@notes.put("/locked/{id}")
async def lock(id: str, text: str, match: Match, tx: Tx) -> None:
    note = await tx.fetch_one("SELECT version FROM note WHERE id = $1 FOR UPDATE", id)
    match.require(note["version"] if note else None)
    await tx.execute("UPDATE note SET text = $2, version = version + 1 WHERE id = $1", id, text)


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = started()
    yield server
    server.remove()


@pytest.fixture
async def client(database: PostgresServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service."""
    deployment = assemble([notes], Settings.read({"TORPOR_DATABASE_URL": database.url()}))
    await deployment.migrate()
    await deployment.start()
    async with asyncio.timeout(30):
        while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
            await asyncio.sleep(0.01)
    transport = httpx.ASGITransport(app=deployment.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://notes.test") as opened:
        yield opened
    await deployment.stop()


@pytest.mark.parametrize("way", ["updated", "locked"])
async def test_of_editors_at_once_one_wins(client: httpx.AsyncClient, way: str) -> None:
    """All rest on one version, in transactions of their own: the others wait for the row, and are refused."""
    await client.post("/notes/a")
    headers = {"if-match": '"1"'}
    answers = await asyncio.gather(*(client.put(f"/{way}/a?text={n}", headers=headers) for n in range(EDITORS)))
    assert sorted(answer.status_code for answer in answers) == [200, *[412] * (EDITORS - 1)]
    winner = [answer.status_code for answer in answers].index(200)
    assert (await client.get("/notes/a")).json() == {"text": str(winner), "version": 2}


async def test_resolvers_side_by_side_take_turns(client: httpx.AsyncClient) -> None:
    """A connection does one thing after the other, and twenty fields that ask at once are all answered."""
    await client.post("/graphql", json={"query": 'mutation { write(id: "a") }'})
    query = "{" + " ".join(f'f{n}: text(id: "a")' for n in range(20)) + "}"
    answer = (await client.post("/graphql", json={"query": query})).json()
    assert answer == {"data": {f"f{n}": "new" for n in range(20)}}
    twice = (await client.post("/graphql", json={"query": 'mutation { x: write(id: "b") y: write(id: "b") }'})).json()
    assert (twice["data"], len(twice["errors"])) == (None, 1)
    assert (await client.get("/notes/b")).json() is None
