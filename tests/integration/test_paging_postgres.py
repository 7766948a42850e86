"""Pages of lists on PostgreSQL: the types of its columns, both ways to ask, and cursors that a client makes up."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel
from sqlmodel import Field, SQLModel, select

from tests.integration.postgres_server import PostgresServer, started
from torpor import Cursor, Keyset, Page, Service, Tx
from torpor.assembly import assemble
from torpor.runtime.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TABLE = """
CREATE TABLE entry (
    id UUID PRIMARY KEY, at TIMESTAMPTZ NOT NULL, day DATE NOT NULL, small INTEGER NOT NULL, big BIGINT NOT NULL,
    name TEXT NOT NULL, share DOUBLE PRECISION NOT NULL
)
"""
START = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
ALL = "SELECT * FROM entry WHERE big >= $1"
COUNT = 10

BY_TIME = Keyset({"-at": datetime, "-id": UUID}, limit=3)
BY_NUMBERS = Keyset({"small": int, "big": int}, limit=3)
BY_NAME = Keyset({"name": str, "-share": float, "day": date, "id": UUID}, limit=3)


class Row(SQLModel, table=True):
    __tablename__ = "entry"

    id: UUID = Field(primary_key=True)
    at: datetime
    day: date
    small: int
    big: int
    name: str
    share: float


class Entry(BaseModel):
    big: int


entries = Service("entries", migrations={"0001_entry.sql": TABLE}, public=True)


@entries.post("/fill")
async def fill(tx: Tx) -> None:
    for number in range(COUNT):
        await tx.execute(
            "INSERT INTO entry VALUES ($1, $2, $3, $4, $5, $6, $7)",
            UUID(int=number), START + timedelta(hours=number // 2), date(2026, 1, 1 + number % 3), number // 4,
            number, "ab"[number % 2], number / 3,
        )  # fmt: skip


@entries.get("/time")
async def by_time(cursor: Annotated[Cursor, BY_TIME], tx: Tx) -> Page[Entry]:
    return cursor.page(await cursor.fetch(tx, ALL, 0), Entry.model_validate)


@entries.get("/numbers")
async def by_numbers(cursor: Annotated[Cursor, BY_NUMBERS], tx: Tx) -> Page[Entry]:
    return cursor.page(await cursor.fetch(tx, ALL, 0), Entry.model_validate)


@entries.get("/name")
async def by_name(cursor: Annotated[Cursor, BY_NAME], tx: Tx) -> Page[Entry]:
    return cursor.page(await cursor.fetch(tx, ALL, 0), Entry.model_validate)


@entries.get("/session/numbers")
async def session(cursor: Annotated[Cursor, BY_NUMBERS], tx: Tx) -> Page[Entry]:
    found = await tx.session.exec(cursor.order(select(Row)))
    return cursor.page(found, lambda row: Entry(big=row.big))


@entries.get("/session/name")
async def session_by_name(cursor: Annotated[Cursor, BY_NAME], tx: Tx) -> Page[Entry]:
    found = await tx.session.exec(cursor.order(select(Row)))
    return cursor.page(found, lambda row: Entry(big=row.big))


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    server = started()
    yield server
    server.remove()


@pytest.fixture
async def client(database: PostgresServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, whose table is filled."""
    deployment = assemble([entries], Settings.read({"TORPOR_DATABASE_URL": database.url()}))
    await deployment.migrate()
    await deployment.start()
    async with asyncio.timeout(30):
        while not all(host.is_ready for host in deployment.hosts):  # noqa: ASYNC110  # a host tells no event
            await asyncio.sleep(0.01)
    transport = httpx.ASGITransport(app=deployment.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://entries.test") as opened:
        await opened.post("/fill")
        yield opened
    await deployment.stop()


async def test_every_row_is_on_one_page_whatever_its_columns_are(client: httpx.AsyncClient) -> None:
    """Moments, dates, UUIDs, texts and numbers of any width go into a cursor and come back."""
    by_name = sorted(range(COUNT), key=lambda number: (number % 2, -number))
    wanted = {"/time": [*range(COUNT)][::-1], "/numbers": [*range(COUNT)], "/session/numbers": [*range(COUNT)],
              "/name": by_name, "/session/name": by_name}  # fmt: skip
    for path, order in wanted.items():
        found: list[int] = []
        url: str | None = path
        while url is not None:
            answer = await client.get(url)
            assert answer.status_code == 200, (path, answer.text)
            found += [item["big"] for item in answer.json()["items"]]
            url = answer.links.get("next", {}).get("url")
        assert found == order, path


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/numbers", [2**62, -(2**63)]), ("/time", ["0001-01-01", str(UUID(int=0))]),
        ("/time", ["9999-12-31T23:59:59+00:00", str(UUID(int=2**128 - 1))]),
        ("/name", ["\u0001 ' \" $1", 1e308, "0001-01-01", str(UUID(int=0))]),
    ],
)  # fmt: skip
async def test_a_cursor_that_a_client_makes_up_fails_nothing(
    client: httpx.AsyncClient, path: str, values: list[Any]
) -> None:
    """Values of the right types that no row ever had are a place in the list, or its end."""
    true = (await client.get(path)).json()["next"]
    version, kind, *_ = json.loads(urlsafe_b64decode(true + "==="))
    made = urlsafe_b64encode(json.dumps([version, kind, *values]).encode()).decode().rstrip("=")
    assert (await client.get(path, params={"cursor": made})).status_code == 200
