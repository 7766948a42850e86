"""Lists a page at a time, through the application: SQL and sessions, up and down, links and refusals."""

from __future__ import annotations

import itertools
import json
import math
from base64 import urlsafe_b64encode
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import HTTPException
from pydantic import BaseModel
from sqlalchemy import Enum, String, TypeDecorator
from sqlalchemy.exc import StatementError
from sqlmodel import Field, SQLModel, col, select

from torpor import Cached, ConfigurationError, Cursor, Deprecated, Keyset, Page, Secret, Service, Tx
from torpor.testing import TestShop

if TYPE_CHECKING:
    from sqlalchemy import Dialect

MIGRATIONS = {
    "0001_note.sql": "CREATE TABLE note (id INTEGER PRIMARY KEY, rank INTEGER NOT NULL, author TEXT NOT NULL)"
}
ORDERS = [Keyset({f"{a}rank": int, f"{b}id": int}, limit=3, most=7) for a in ("", "-") for b in ("", "-")]
RISING, MIXED, CROSSED, FALLING = ORDERS
NOTES = [(id, rank) for id, rank in enumerate([2, 1, 2, 0, 1, 2, 1], 1)]


class NoteRow(SQLModel, table=True):
    __tablename__ = "note"

    id: int = Field(primary_key=True)
    rank: int
    author: str


class Note(BaseModel):
    id: int
    author: str


notes = Service("notes", migrations=MIGRATIONS, public=True)


@notes.post("/notes/{id}/{rank}")
async def keep(id: int, rank: int, tx: Tx) -> None:
    await tx.execute("INSERT INTO note (id, rank, author) VALUES ($1, $2, 'ada')", id, rank)


async def listed(cursor: Cursor, tx: Tx) -> Page[Any]:
    return cursor.page(await cursor.fetch(tx, "SELECT id, rank, author FROM note -- all"), Note.model_validate)


@notes.get("/rising")
async def rising(cursor: Annotated[Cursor, RISING], tx: Tx) -> Page[Note]:
    return await listed(cursor, tx)


@notes.get("/mixed")
async def mixed(cursor: Annotated[Cursor, MIXED], tx: Tx) -> Page[Note]:
    return await listed(cursor, tx)


@notes.get("/crossed")
async def crossed(cursor: Annotated[Cursor, CROSSED], tx: Tx) -> Page[Note]:
    return await listed(cursor, tx)


@notes.get("/falling/{author}")
async def falling(author: str, cursor: Annotated[Cursor, FALLING], tx: Tx, least: int = 0) -> Page[Note]:
    statement = "SELECT * FROM note WHERE author = $1 AND rank >= $2;"
    return cursor.page(await cursor.fetch(tx, statement, author, least), Note.model_validate)


@notes.get("/session/falling", rules=[Deprecated(date(2026, 1, 1), link="/new")])
async def session_falling(cursor: Annotated[Cursor, FALLING], tx: Tx) -> Page[Note]:
    found = await tx.session.exec(cursor.order(select(NoteRow).where(NoteRow.author == "ada")))
    return cursor.page(found, lambda row: Note(id=row.id, author=row.author))


@notes.get("/session/mixed")
async def session_mixed(cursor: Annotated[Cursor, MIXED], tx: Tx) -> Page[Note]:
    found = await tx.session.exec(cursor.order(select(NoteRow.id, NoteRow.rank, NoteRow.author)))
    return cursor.page(found, lambda row: Note(id=row[0], author=row[2]))


def expected(rank: int, id: int) -> list[int]:
    """The ids in an order of ranks and ids, each rising (1) or falling (-1)."""
    return [one for one, _ in sorted(NOTES, key=lambda note: (rank * note[1], id * note[0]))]


async def pages(shop: TestShop, url: str | None) -> list[list[int]]:
    """The ids of all the pages, by the links from one to the next."""
    found = []
    while url is not None:
        answer = await shop.get(url)
        assert answer.status_code == 200, answer.text
        found.append([item["id"] for item in answer.json()["items"]])
        url = answer.links.get("next", {}).get("url")
        assert (url is None) == (answer.json()["next"] is None)
    return found


@pytest.mark.parametrize("limit", range(1, 8))
async def test_every_row_is_on_one_page_in_order(limit: int) -> None:
    """Up, down and mixed, by SQL and by a session, whatever the limit, an exact multiple too."""
    ways = {
        "/rising": (1, 1), "/mixed": (1, -1), "/crossed": (-1, 1), "/falling/ada": (-1, -1),
        "/session/falling": (-1, -1), "/session/mixed": (1, -1),
    }  # fmt: skip
    async with TestShop(notes) as shop:
        for id, rank in NOTES:
            await shop.post(f"/notes/{id}/{rank}")
        for path, directions in ways.items():
            found = await pages(shop, f"{path}?limit={limit}")
            assert list(itertools.chain(*found)) == expected(*directions), path
            assert len(found) == -(-len(NOTES) // limit)


async def test_what_comes_and_goes_between_pages_moves_no_other_row() -> None:
    """A row that is added before the place, or the last one of the page removed, neither doubles nor hides one."""
    async with TestShop(notes) as shop:
        for id, rank in NOTES:
            await shop.post(f"/notes/{id}/{rank}")
        first = await shop.get("/falling/ada?limit=2")
        assert [item["id"] for item in first.json()["items"]] == [6, 3]
        await shop.post("/notes/99/2")
        assert await pages(shop, first.links["next"]["url"]) == [[1, 7], [5, 2], [4]]


async def test_a_link_keeps_what_else_was_asked() -> None:
    """The other parameters stay, one that comes twice too, and so does the path as it was written."""
    async with TestShop(notes) as shop:
        for id in range(4):
            await shop.post(f"/notes/{id}/1")
        answer = await shop.get("/session/falling?x=1&x=%C3%A9%26&limit=2")
        target = answer.headers.get_list("link")[0]
        assert target == f'</session/falling?x=1&x=%C3%A9%26&limit=2&cursor={answer.json()["next"]}>; rel="next"'
        assert {link["rel"] for link in answer.links.values()} == {"next", "deprecation"}
        assert (await shop.get("/falling/%C3%A9%20")).json() == {"items": [], "next": None}
        assert await pages(shop, "/falling/ada?least=1&limit=3") == [[3, 2, 1], [0]]


@pytest.mark.parametrize("cursor", ["", "x", "%00", "%ED%A0%80", "W10", "a" * 3000])
async def test_a_strange_cursor_is_a_mistake_of_the_query(cursor: str) -> None:
    """422 in FastAPI's form, before the handler: the list names the parameter and says what to do."""
    async with TestShop(notes) as shop:
        answer = await shop.get(f"/rising?cursor={cursor}")
        (mistake,) = answer.json()["detail"]
        assert (answer.status_code, mistake["loc"]) == (422, ["query", "cursor"])
        assert answer.headers["content-type"] == "application/problem+json"


class Sku(TypeDecorator[str]):
    """A type that takes few texts."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is not None and not value.startswith("sku-"):
            raise LookupError("no sku")
        return value


class Part(SQLModel, table=True):
    id: str = Field(primary_key=True)
    sku: str = Field(sa_type=Sku)
    state: str = Field(sa_type=Enum("new", "old", validate_strings=True))  # type: ignore[call-overload]  # an instance
    made: datetime
    day: date
    weight: float


PART = (
    "CREATE TABLE part (id TEXT PRIMARY KEY, sku TEXT NOT NULL, state TEXT NOT NULL, made TEXT NOT NULL, "
    "day TEXT NOT NULL, weight REAL NOT NULL)"
)
# By what parts are listed, with values that a client may make up, and what each way answers to them.
ASKED: list[tuple[dict[str, type[Any]], list[Any], int, int]] = [
    ({"id": UUID}, [str(UUID(int=0))], 200, 200),
    ({"sku": str, "id": UUID}, ["sku-" + "x" * 900, str(UUID(int=0))], 200, 200),
    ({"sku": str, "id": UUID}, ["other", str(UUID(int=0))], 200, 422),
    ({"state": str}, ["new"], 200, 200),
    ({"state": str}, ["gone"], 200, 422),
    ({"made": datetime}, ["2026-01-01T00:00:00+00:00"], 200, 200),
    ({"made": datetime}, ["2026-01-01T00:00:00"], 200, 422),
    ({"day": date}, ["9999-12-31"], 200, 200),
    ({"day": str}, ["soon"], 200, 422),
    ({"weight": float}, [1e308], 200, 200),
    ({"weight": str}, ["heavy"], 200, 422),
    ({"weight": float}, [math.nan], 422, 422),
    ({"id": str}, ["a\0"], 422, 422),
]


def made_up(keyset: Keyset, owner: str, *values: Any) -> str:
    """A cursor of a client's own making."""
    told = json.dumps([1, keyset._kind(owner), *values]).encode()
    return urlsafe_b64encode(told).decode().rstrip("=")


async def test_no_made_up_value_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A value that the type of a column does not take is no cursor of the list, and the log says why; any other is a
    place in it. A UUID that is kept as text is compared as one."""
    parts = Service("parts", migrations={"0001_part.sql": PART}, public=True)

    @parts.post("/fill")
    async def fill(tx: Tx) -> None:
        for number in range(3):
            moment = datetime(2026, 1, 1 + number, tzinfo=UTC)
            kept = Part(id=str(UUID(int=number)), sku="sku-1", state="new", made=moment, day=moment.date(), weight=1)
            tx.session.add(kept)

    def declare(number: int, keyset: Keyset) -> None:
        async def by_sql(cursor: Cursor, tx: Tx) -> Page[str]:
            return cursor.page(await cursor.fetch(tx, "SELECT * FROM part"), lambda row: row["id"])

        async def by_session(cursor: Cursor, tx: Tx) -> Page[str]:
            return cursor.page(await tx.session.exec(cursor.order(select(Part))), lambda row: row.id)

        for way, function in (("sql", by_sql), ("session", by_session)):
            function.__annotations__["cursor"] = Annotated[Cursor, keyset]
            parts.get(f"/{way}/{number}", name=f"{way}_{number}")(function)

    for number, (columns, *_) in enumerate(ASKED):
        declare(number, Keyset(columns))
    async with TestShop(parts) as shop:
        await shop.post("/fill")
        for number, (columns, values, *statuses) in enumerate(ASKED):
            for way, status in zip(("sql", "session"), statuses, strict=True):
                cursor = made_up(Keyset(columns), f"parts.{way}_{number}", *values)
                answer = await shop.get(f"/{way}/{number}", params={"cursor": cursor})
                assert answer.status_code == status, (way, columns, values, answer.text)
        for way in ("sql", "session"):
            first = await shop.get(f"/{way}/0?limit=2")
            assert len((await shop.get(first.links["next"]["url"])).json()["items"]) == 1
    assert "the database cannot read a cursor that /session/2 was sent: no sku." in caplog.text
    assert "/sql/" not in caplog.text


async def test_a_failure_beside_a_cursor_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a sealed cursor nobody else has said the values; and what a handler itself makes of an error holds."""
    monkeypatch.setenv("CURSORS", "hush")
    told, trusted = Keyset({"sku": str}), Keyset({"sku": str}, secret=Secret("CURSORS"))
    parts = Service("parts", migrations={"0001_part.sql": PART}, public=True)

    @parts.get("/sealed")
    async def sealed(cursor: Annotated[Cursor, trusted], tx: Tx) -> Page[Any]:
        return cursor.page(await tx.session.exec(cursor.order(select(Part))))

    @parts.get("/own")
    async def own(cursor: Annotated[Cursor, told], tx: Tx) -> Page[Any]:
        return cursor.page(await tx.session.exec(cursor.order(select(Part).where(col(Part.state) == "gone"))))

    @parts.get("/made")
    async def made(cursor: Annotated[Cursor, told], tx: Tx) -> Page[Any]:
        try:
            return cursor.page(await tx.session.exec(cursor.order(select(Part))))
        except StatementError as error:
            raise HTTPException(409, "no") from error

    for function in (sealed, own, made):
        function.__annotations__["cursor"] = Annotated[Cursor, trusted if function is sealed else told]
    async with TestShop(parts) as shop:
        cursors = {
            "/sealed": trusted.write({"sku": "other"}, "parts.sealed"),
            "/own": made_up(told, "parts.own", "sku-1"),
            "/made": made_up(told, "parts.made", "other"),
        }
        transport = httpx.ASGITransport(app=shop._running.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://parts.test") as client:
            answers = [await client.get(path, params={"cursor": cursor}) for path, cursor in cursors.items()]
    assert [answer.status_code for answer in answers] == [500, 500, 409]


async def test_a_cursor_of_another_list_is_refused() -> None:
    """Each route's cursors are its own; a limit over the most is refused as well."""
    async with TestShop(notes) as shop:
        for id in range(4):
            await shop.post(f"/notes/{id}/1")
        cursor = (await shop.get("/falling/ada?limit=1")).json()["next"]
        assert (await shop.get(f"/falling/ada?cursor={cursor}")).status_code == 200
        assert (await shop.get(f"/session/falling?cursor={cursor}")).status_code == 422
        statuses = [(await shop.get(f"/rising?limit={limit}")).status_code for limit in ("0", "7", "8", "x", "")]
        assert statuses == [422, 200, 422, 422, 422]


async def test_openapi_tells_the_bounds_and_the_link() -> None:
    """The document has both parameters with their bounds, the page's schema and the header."""
    async with TestShop(notes) as shop:
        document = (await shop.get("/openapi.json")).json()
    operation = document["paths"]["/falling/{author}"]["get"]
    parameters = {parameter["name"]: parameter for parameter in operation["parameters"]}
    limit = parameters["limit"]["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 7, 3)
    assert not parameters["cursor"]["required"]
    assert "maxLength" in str(parameters["cursor"]["schema"])
    assert "Link" in operation["responses"]["200"]["headers"]
    schema = document["components"]["schemas"]["Page_Note_"]
    assert schema["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Note"}
    assert set(parameters) == {"author", "least", "limit", "cursor"}


async def test_a_page_may_be_kept_with_its_link() -> None:
    """A response cache gives each page its own answer, with the link to the next."""
    async with TestShop(kept) as shop:
        first, again = [await shop.get("/numbers?limit=2") for _ in range(2)]
        assert first.headers["link"] == again.headers["link"]
        assert await pages(shop, "/numbers?limit=2") == [[0, 1], [2, 3], [4]]
    assert asked_for == [None, (1,), (3,)]


kept = Service("kept", public=True, rules=[Cached(60)])
asked_for: list[Any] = []


@kept.get("/numbers")
async def numbers(cursor: Annotated[Cursor, Keyset({"id": int})]) -> Page[Note]:
    asked_for.append(cursor.after)
    rows = [Note(id=id, author="") for id in range(5) if cursor.after is None or id > cursor.after[0]]
    return cursor.page(rows[: cursor.limit + 1])


async def test_a_secret_that_is_missing_is_told_at_the_start() -> None:
    """Nobody learns at the first request that cursors cannot be sealed."""
    with pytest.raises(ConfigurationError, match="NO_SUCH_SECRET is not there"):
        async with TestShop(sealed) as shop:
            await shop.get("/")


SEALED = Keyset({"id": str}, secret=Secret("NO_SUCH_SECRET"))
sealed = Service("sealed", public=True)


@sealed.get("/")
async def show(cursor: Annotated[Cursor, SEALED]) -> Page[Note]:
    return cursor.page([])
