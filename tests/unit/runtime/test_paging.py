"""Cursors: what they hold, what is refused, and where a page ends."""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import ConfigurationError, Cursor, Keyset, Page, Secret, Service, Tx
from torpor.runtime.binding import bind

MOMENT = datetime(2026, 1, 31, 12, 30, 0, 17, tzinfo=timezone(timedelta(hours=2)))
BY_ID = Keyset({"id": str})
VALUES: list[tuple[type[Any], Any]] = [
    (str, "Zoë '\" ; \\"),
    (int, -(2**63)),
    (float, 0.1),
    (date, date(2026, 1, 31)),
    (datetime, MOMENT),
    (datetime, MOMENT.replace(tzinfo=None)),
    (UUID, uuid4()),
]


def following(keyset: Keyset, *rows: Any, owner: str = "") -> str:
    """The cursor behind the first of some rows."""
    cursor = keyset.cursor(limit=1, owner=owner).page(rows).next
    assert cursor is not None
    return cursor


def forged(*told: Any) -> str:
    """A cursor of a client's own making."""
    return urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_a_value_comes_back_as_it_was(kind: type[Any], value: Any) -> None:
    """What stood in the last row of a page is what the next begins after, of the same type."""
    keyset = Keyset({"-a": kind, "id": str})
    rows = [{"a": value, "id": "1"}, {"a": value, "id": "2"}]
    assert keyset.cursor(following(keyset, *rows)).after == (value, "1")


@given(st.tuples(st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_any_place_can_be_told(place: tuple[str, int, float]) -> None:
    """Whatever a row holds comes back, or is refused as no place a database could have told."""
    keyset = Keyset({"a": str, "b": int, "c": float})
    row = dict(zip("abc", place, strict=True))
    text = following(keyset, row, row)
    assert text.isascii()
    if "\0" in place[0]:
        with pytest.raises(ValueError, match="no cursor of this list"):
            keyset.cursor(text)
    else:
        assert keyset.cursor(text).after == place


@pytest.mark.parametrize(("kind", "text"), [(datetime, "2026-01-31 12:30:00.000017"), (date, "2026-01-31"),
                                            (UUID, "01890a5d-ac96-774b-bcce-b302099a8057")])  # fmt: skip
def test_what_a_database_keeps_as_text_is_read(kind: type[Any], text: str) -> None:
    """SQLite gives dates and UUIDs as the texts that they were stored as."""
    keyset = Keyset({"a": kind})
    (value,) = keyset.cursor(following(keyset, {"a": text}, {"a": text})).after or ()
    assert type(value) is kind
    assert (value.isoformat(" ", "microseconds") if kind is datetime else str(value)) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, None), (str, 1), (int, "1"), (int, True), (float, math.nan), (date, MOMENT), (UUID, "x"),
        (datetime, "2026-01-31T12:30:00"), (datetime, "yesterday"),
    ],
)  # fmt: skip
def test_a_row_that_tells_no_place_is_refused(kind: type[Any], value: Any) -> None:
    """NULL, another type and a text that would compare otherwise are told, not passed over."""
    with pytest.raises(ConfigurationError, match=r"A row of a page has \w+ in 'a', of which its Keyset says"):
        Keyset({"a": kind}).cursor().page([{"a": value}])
    with pytest.raises(ConfigurationError, match="A row of a page has no 'a', by which"):
        Keyset({"a": kind}).cursor().page([{"b": value}])


def test_a_page_ends_where_there_is_no_more() -> None:
    """One row more than the limit makes a next page; exactly so many, fewer and none do not."""
    keyset = Keyset({"id": int})
    pages = [keyset.cursor(limit=2).page([{"id": n} for n in range(count)]) for count in range(4)]
    assert [(len(page.items), page.next is not None) for page in pages] == [
        (0, False), (1, False), (2, False), (2, True)
    ]  # fmt: skip
    made: Page[int] = keyset.cursor(limit=2).page([{"id": 1}], lambda row: row["id"])
    assert made == Page[int](items=[1])


def test_what_a_client_makes_up_is_refused() -> None:
    """Another list's, another order's, another version's, another type's, and what is none at all."""
    keyset = Keyset({"-at": datetime, "n": int, "id": str})
    row = {"at": MOMENT, "n": 1, "id": "1"}
    text = following(keyset, row, row, owner="notes.browse")
    assert keyset.cursor(text, owner="notes.browse").after == (MOMENT, 1, "1")
    kind = json.loads(urlsafe_b64decode(text + "==="))[1]
    strange = [
        "", "x", "=", "%", "é", text[:-1], text + "A", text + "=", text.swapcase(), "A" * 5000, forged(), forged(1),
        forged({}), forged(2, kind, "2026-01-31", 1, "1"), forged(1, "0" * 12, "2026-01-31", 1, "1"),
        forged(1, kind, "2026-01-31", 1), forged(1, kind, "2026-01-31", 1, "1", "1"), forged(1, kind, "soon", 1, "1"),
        forged(1, kind, 7, 1, "1"), forged(1, kind, "2026-01-31", "1", "1"), forged(1, kind, "2026-01-31", {}, "1"),
        forged(1, kind, "2026-01-31", 2**63, "1"), forged(1, kind, "2026-01-31", 1, "\0"),
        forged(1, kind, "2026-01-31", 1, "\ud800"), forged(1, kind, "0001-01-01T00:00:00+14:00", 1, "1"),
        forged(1, kind, "2026-01-31", 1, None), forged(1, kind, "2026-01-31", 1, ["1"]),
    ]  # fmt: skip
    for one in strange:
        with pytest.raises(ValueError, match="no cursor of this list"):
            keyset.cursor(one, owner="notes.browse")
    others = [Keyset({"at": datetime, "n": int, "id": str}), Keyset({"-at": datetime, "n": int})]
    for other, owner in ((keyset, "notes.other"), *((other, "notes.browse") for other in others)):
        with pytest.raises(ValueError, match="no cursor of this list"):
            other.cursor(text, owner=owner)


@given(st.text())
def test_no_text_does_harm(text: str) -> None:
    """Any text is a cursor, or refused with one kind of error."""
    with pytest.raises(ValueError, match="no cursor of this list"):
        Keyset({"id": str}).cursor(text)


def test_a_sealed_cursor_is_this_services_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a secret, one that was changed, or made with another secret or none, is refused."""
    monkeypatch.setenv("CURSORS", "hush")
    keyset, bare = Keyset({"id": str}, secret=Secret("CURSORS")), Keyset({"id": str})
    sealed, plain = (following(one, {"id": "1"}, {"id": "2"}) for one in (keyset, bare))
    assert keyset.cursor(sealed).after == ("1",)
    monkeypatch.setenv("CURSORS", "another")
    for text in (sealed, plain, "A"):
        with pytest.raises(ValueError, match="no cursor of this list"):
            keyset.cursor(text)
    assert "hush" not in repr(keyset)


def test_a_wrong_order_is_told_when_it_is_made() -> None:
    """No column, a strange type, a name twice or a limit that cannot be."""
    for columns, told in (
        ({}, "has no order"),
        ({"a": list}, "Expected one of: str, int, float, date, datetime, UUID"),
        ({"a": str, "-a": str}, "names a column twice"),
        ({'a"': str}, "Expected a column's name"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            Keyset(columns)
    for limit, most in ((0, None), (5, 4)):
        with pytest.raises(ConfigurationError, match="expected 1 <= limit <= most"):
            Keyset({"a": str}, limit=limit, most=most)
    assert (Keyset({"a": str}, limit=500).most, Keyset({"a": str}).most) == (500, 100)


def test_a_cursor_without_its_order_is_refused_at_binding() -> None:
    """A route that asks for a plain Cursor, for two, or an event handler that asks for one, is told what to write."""
    service = Service("notes")

    @service.get("/plain")
    async def plain(cursor: Cursor) -> None: ...

    @service.get("/two")
    async def two(one: Annotated[Cursor, BY_ID], other: Annotated[Cursor, BY_ID]) -> None: ...

    @service.get("/limit")
    async def limited(where: Annotated[Cursor, BY_ID], limit: int) -> None: ...

    @service.every(60)
    async def tick(cursor: Annotated[Cursor, BY_ID], tx: Tx) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        bind(service)
    told = str(caught.value)
    assert "asks for 'cursor: Cursor', and does not say in which order its list is" in told
    assert "asks for two Cursors" in told
    assert "which Torpor cannot fill" in told
    assert "has a parameter 'limit', which a Cursor has in the query already" in told
    assert len(caught.value.problems) == 4


def test_sqlite_is_asked_in_utc() -> None:
    """A moment with a zone is told in UTC, whatever its zone was."""
    keyset = Keyset({"a": datetime})
    (value,) = keyset.cursor(following(keyset, {"a": MOMENT}, {"a": MOMENT})).after or ()
    assert (value, value.tzinfo) == (MOMENT, UTC)
