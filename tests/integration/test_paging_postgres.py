"""Pages of lists on PostgreSQL: the types of its columns, both ways to ask, and cursors that a client makes up."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel
from sqlalchemy import REAL, DateTime, Enum, SmallInteger
from sqlmodel import Field, SQLModel, col, select

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


class Kind(SQLModel, table=True):
    __tablename__ = "kind"

    id: int = Field(primary_key=True)
    little: int = Field(sa_type=SmallInteger)
    local: datetime = Field(sa_type=DateTime)
    zoned: datetime
    mood: str = Field(sa_type=Enum("calm", "merry", name="mood"))  # type: ignore[call-overload]  # an instance
    short: str = Field(max_length=3)
    real: float = Field(sa_type=REAL)
    day: date


class Entry(BaseModel):
    big: int


KINDS = """
CREATE TYPE mood AS ENUM ('calm', 'merry');
CREATE TABLE kind (
    id INTEGER PRIMARY KEY, little SMALLINT NOT NULL, local TIMESTAMP NOT NULL, zoned TIMESTAMPTZ NOT NULL,
    mood MOOD NOT NULL, short VARCHAR(3) NOT NULL, real REAL NOT NULL, day DATE NOT NULL
);
INSERT INTO kind SELECT n, n, '2026-01-01'::timestamp + n * interval '1 hour', now() + n * interval '1 hour',
    'calm', 'abc', n / 3.0, '2026-01-01' FROM generate_series(1, 4) n
"""
# What a list is ordered by, and values that a client may make up: first places in it, and then those that are none.
LISTS: dict[str, tuple[Keyset, list[Any], list[Any]]] = {
    "id": (Keyset({"id": int}), [2**62, -(2**63), 2**31], [2**63, "1", 1.5, True, None]),
    "little": (Keyset({"-little": int, "id": int}), [[2**40, 2**40]], [[1, "x"], ["x", 1], [1]]),
    "local": (Keyset({"local": datetime, "id": int}), [["2026-01-01T00:00:00", 1]], [["2026-02-30T00:00:00", 1]]),
    "zoned": (Keyset({"zoned": datetime, "id": int}), [["9999-12-31T23:59:59Z", 1]], [["now", 1]]),
    "mood": (Keyset({"mood": str, "id": int}), [["merry", 1]], [["gloomy", 1], ["", 1], ["x" * 900, 1]]),
    "short": (Keyset({"short": str, "id": int}), [["x" * 900, 1], ["é", 1]], [["a\0", 1], ["\ud800", 1], [7, 1]]),
    "real": (Keyset({"real": float, "id": int}), [[1e308, 1], [-1e308, 1], [10**40, 1]], [[math.nan, 1], ["1", 1]]),
    "day": (Keyset({"day": date, "id": int}), [["0001-01-01", 1]], [["2026-02-30", 1], ["infinity", 1], [1, 1]]),
}
WRONG: dict[str, tuple[Keyset, Any]] = {  # by their authors
    "id": (Keyset({"id": str}), "tell-tale"),
    "real": (Keyset({"real": str}), "tell-tale"),
    "day": (Keyset({"day": datetime}), "2026-01-01T00:00:00+00:00"),
    "zoned": (Keyset({"zoned": str}), "tell-tale"),
}

entries = Service("entries", migrations={"0001_entry.sql": TABLE, "0002_kind.sql": KINDS}, public=True)


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


def declare(name: str, keyset: Keyset) -> None:
    """Two routes of one list: by SQL, and by a session."""

    async def by_sql(cursor: Annotated[Cursor, keyset], tx: Tx) -> Page[int]:
        rows = await cursor.fetch(tx, "SELECT * FROM kind WHERE id / $1 >= 0", 1)
        return cursor.page(rows, lambda row: row["id"])

    async def by_session(cursor: Annotated[Cursor, keyset], tx: Tx) -> Page[int]:
        return cursor.page(await tx.session.exec(cursor.order(select(Kind))), lambda row: row.id)

    for way, function in (("sql", by_sql), ("session", by_session)):
        function.__annotations__["cursor"] = Annotated[Cursor, keyset]
        entries.get(f"/{way}/{name}", name=f"{way}_{name}")(function)


for name, (keyset, _, _) in LISTS.items():
    declare(name, keyset)
for name, (keyset, _) in WRONG.items():
    declare(f"wrong_{name}", keyset)


@entries.get("/failing/{divisor}")
async def failing(cursor: Annotated[Cursor, Keyset({"id": int})], divisor: str, tx: Tx) -> Page[int]:
    """The mistakes of a handler, not of a client."""
    if divisor == "session":
        found = await tx.session.exec(cursor.order(select(Kind).where(col(Kind.id) < 2**40)))
        return cursor.page(found, lambda row: row.id)
    given: Any = int(divisor) if divisor.isdigit() else divisor
    return cursor.page(await cursor.fetch(tx, "SELECT * FROM kind WHERE id / $1 >= 0", given), lambda row: row["id"])


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


async def made_up(client: httpx.AsyncClient, path: str, owner: str, keyset: Keyset, values: Any) -> httpx.Response:
    """The answer to a cursor of a client's own making."""
    told = [1, keyset._kind(f"entries.{owner}"), *(values if isinstance(values, list) else [values])]
    cursor = urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
    return await client.get(path, params={"cursor": cursor})


async def test_no_made_up_value_is_a_failure(client: httpx.AsyncClient) -> None:
    """Whatever a column's type is, and however it is asked, a value is a place in the list, or told as no cursor of it;
    and a list that is read from one page to the next has all rows."""
    for way in ("sql", "session"):
        for name, (keyset, places, strange) in LISTS.items():
            path, owner = f"/{way}/{name}", f"{way}_{name}"
            for values, status in [*((place, 200) for place in places), *((one, 422) for one in strange)]:
                answer = await made_up(client, path, owner, keyset, values)
                assert answer.status_code == status, (path, values, answer.text)
            found: list[int] = []
            url: str | None = f"{path}?limit=1"
            while url is not None:
                answer = await client.get(url)
                found += answer.json()["items"]
                url = answer.links.get("next", {}).get("url")
            assert sorted(found) == [1, 2, 3, 4], path


async def test_a_moment_with_a_zone_or_without_fails_nothing(client: httpx.AsyncClient) -> None:
    """Where the column has the other, it is compared by the server's zone, or is no cursor of the list."""
    moments = ["2026-01-01T00:00:00", "2026-01-01T00:00:00Z", "0001-01-01", "9999-12-31T23:59:59"]
    for way, name, moment in itertools.product(("sql", "session"), ("local", "zoned"), moments):
        answer = await made_up(client, f"/{way}/{name}", f"{way}_{name}", LISTS[name][0], [moment, 1])
        assert answer.status_code in {200, 422}, (way, name, moment, answer.text)


async def test_a_wrong_keyset_is_told_to_its_author(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """A client is told that it is no cursor; the log says that it may be the types of the Keyset."""
    for way in ("sql", "session"):
        for name, (keyset, value) in WRONG.items():
            caplog.clear()
            answer = await made_up(client, f"/{way}/wrong_{name}", f"{way}_wrong_{name}", keyset, value)
            assert answer.status_code in {200, 422}, (way, name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json" or answer.status_code == 200
            assert ("unless the types of the Keyset" in caplog.text) == (answer.status_code == 422), (way, name)
            assert "tell-tale" not in caplog.text


async def test_what_fails_beside_a_cursor_is_a_failure(client: httpx.AsyncClient) -> None:
    """A division by zero, and a handler's own value that its column does not take, are not the client's."""
    keyset = Keyset({"id": int})
    for divisor, value, status in (("1", 0, 200), ("0", 0, 500), ("x", 2**40, 500), ("session", 2**40, 500)):
        answer = await made_up(client, f"/failing/{divisor}", "failing", keyset, value)
        assert answer.status_code == status, (divisor, answer.text)
