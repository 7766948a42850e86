"""Conditional requests by RFC 9110, section 13: which tags match, and what is answered instead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import ConfigurationError, Match
from torpor.kernel.preconditions import Unfit, tag_of, tags_in

CHANGED = datetime(2026, 1, 31, 12, 0, 0, 900_000, tzinfo=UTC)
AT, BEFORE = "Sat, 31 Jan 2026 12:00:00 GMT", "Sat, 31 Jan 2026 11:59:59 GMT"


def verdict(method: str, tag: str | int | None, modified: datetime | None = None, **headers: str) -> int:
    """What a request with such headers is answered, if it is not done."""
    try:
        Match(method, {name.replace("_", "-"): said for name, said in headers.items()}).require(tag, modified=modified)
    except Unfit as unfit:
        return unfit.status_code
    return 200


@pytest.mark.parametrize(
    ("said", "tag", "status"),
    [
        ('"3"', 3, 200), ('"3"', "3", 200), ('"2"', 3, 412), ('"2", "3"', 3, 200), ('"2","3"', 3, 200),
        (' "2" ,, "3" ', 3, 200), ('"2, 3"', 3, 400), ('"2,3"', "2,3", 200), ("*", 3, 200), (" * ", 3, 200),
        ("*", None, 412), ('"3"', None, 412), ('W/"3"', 3, 412), ('"3"', 'W/"3"', 412), ('W/"3"', 'W/"3"', 412),
        ('"3"', '"3"', 200), ('"3;gzip"', 3, 200), ('W/"3;gzip"', 3, 412), ('"é"', 3, 412), ('""', "", 200),
        ("3", 3, 400), ("", 3, 400), ('"3', 3, 400), ('"3" "2"', 3, 400), (",", 3, 400), ('w/"3"', 3, 400),
        ("*, *", 3, 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
def test_if_match_compares_strongly(method: str, said: str, tag: str | int | None, status: int) -> None:
    """One of the list and nothing else, weak ones never; what is no list is told so."""
    assert verdict(method, tag, if_match=said) == status


@pytest.mark.parametrize(
    ("said", "tag", "writes", "reads"),
    [
        ("*", None, 200, 200), ("*", 3, 412, 304), ('"3"', 3, 412, 304), ('W/"3"', 3, 412, 304),
        ('"3"', 'W/"3"', 412, 304), ('"2"', 3, 200, 200), ('"2", W/"3"', 3, 412, 304), ('"3"', None, 200, 200),
        ('"3;gzip"', 3, 412, 304), ("3", 3, 400, 200),
    ],
)  # fmt: skip
def test_if_none_match_compares_weakly(said: str, tag: str | int | None, writes: int, reads: int) -> None:
    """A write makes what is not there; a read is spared what is known."""
    assert verdict("PUT", tag, if_none_match=said) == writes
    assert verdict("GET", tag, if_none_match=said) == verdict("HEAD", tag, if_none_match=said) == reads


def test_dates_count_where_no_tags_do() -> None:
    """To the second, in any zone, and only when both sides know one; what is no date is passed over."""
    for modified in (CHANGED, CHANGED.replace(tzinfo=None), CHANGED.astimezone(timezone(timedelta(hours=3)))):
        assert verdict("PUT", 1, modified, if_unmodified_since=AT) == 200
        assert verdict("PUT", 1, modified, if_unmodified_since=BEFORE) == 412
        assert verdict("GET", 1, modified, if_modified_since=AT) == 304
        assert verdict("GET", 1, modified, if_modified_since=BEFORE) == 200
    assert verdict("PUT", 1, CHANGED, if_unmodified_since=BEFORE, if_match='"1"') == 200
    assert verdict("GET", 1, CHANGED, if_modified_since=AT, if_none_match='"2"') == 200
    assert verdict("PUT", 1, None, if_unmodified_since=BEFORE) == 200
    assert verdict("PUT", 1, CHANGED, if_modified_since=AT) == 200
    for strange in ("yesterday", "", "Sat, 31 Jan 99999 12:00:00 GMT", "31 Jan 2026", "1e9"):
        assert verdict("PUT", 1, CHANGED, if_unmodified_since=strange) == 200


@pytest.mark.parametrize(
    ("headers", "is_said"),
    [
        ({}, False), ({"if_match": '"1"'}, True), ({"if_match": "*"}, True), ({"if_none_match": "*"}, True),
        ({"if_none_match": '"7"'}, False), ({"if_unmodified_since": "soon"}, False), ({"if_modified_since": AT}, False),
        ({"if_unmodified_since": AT}, True),
    ],
)  # fmt: skip
def test_what_must_be_said_leaves_no_way_around(headers: dict[str, str], is_said: bool) -> None:  # noqa: FBT001
    """What would hold for any state, or is passed over, is none; a date is, for a handler that knows one."""
    named = {name.replace("_", "-"): said for name, said in headers.items()}
    match = Match("PUT", named, is_needed=True)
    assert match.is_said is is_said
    if is_said:
        match.check_said()
    else:
        with pytest.raises(Unfit, match="needs an If-Match"):
            match.require(2, modified=CHANGED)
    if "if_unmodified_since" in headers:
        with pytest.raises(Unfit, match="needs an If-Match") as caught:
            match.require(2)
        assert caught.value.status_code == 428


def test_both_conditions_must_hold() -> None:
    """If-Match goes first, and If-None-Match is asked besides."""
    assert verdict("PUT", 3, if_match='"3"', if_none_match='"2"') == 200
    assert verdict("PUT", 3, if_match='"3"', if_none_match='"3"') == 412
    assert verdict("PUT", 3, if_match='"2"', if_none_match='"2"') == 412
    assert verdict("PUT", 3) == verdict("GET", 3) == verdict("PUT", None) == 200


def test_what_is_refused_tells_the_present_tag() -> None:
    """The client learns what there is, and what to do."""
    with pytest.raises(Unfit, match="It has changed: this request rests on another state") as caught:
        Match("PUT", {"If-Match": '"1"'}).require(2, modified=CHANGED)
    assert caught.value.headers == {"etag": '"2"', "last-modified": AT}
    with pytest.raises(Unfit, match="There is none") as caught:
        Match("PUT", {"If-Match": '"1"'}).require(None)
    assert caught.value.headers == {}
    with pytest.raises(Unfit, match="There is one already"):
        Match("PUT", {"If-None-Match": "*"}).require(2)


def test_a_read_shows_its_tag() -> None:
    """What a GET requires it tells as well; a write tells what it is told to."""
    read, write = Match("GET"), Match("PUT")
    read.require(3, modified=CHANGED)
    write.require(3)
    assert (read.shown, write.shown) == ({"etag": '"3"', "last-modified": AT}, {})
    write.show('W/"4"')
    assert write.shown == {"etag": 'W/"4"'}


def test_a_tag_that_http_cannot_carry_is_refused() -> None:
    """Spaces, quotes, control characters and letters beyond ASCII."""
    for tag in ("a b", 'a"b', "a\n", "é", '"a"b"', "W/ "):
        with pytest.raises(ConfigurationError, match="characters that HTTP does not carry"):
            tag_of(tag)
    assert [tag_of(tag) for tag in (7, "a", '"a"', 'W/"a"', "", "W/a")] == ['"7"', '"a"', '"a"', 'W/"a"', '""', '"W/a"']


@given(st.lists(st.from_regex(r'(W/)?"[!#-~]*"', fullmatch=True), min_size=1))
def test_a_list_is_read_as_it_was_written(tags: list[str]) -> None:
    """Tags hold commas and slashes, and are told apart all the same."""
    assert tags_in(", ".join(tags)) == tags
    assert tags_in(",".join(tags)) == tags


@given(st.text())
def test_no_list_does_harm(text: str) -> None:
    """Any text is a list of tags, or none."""
    assert verdict("PUT", 1, if_match=text) in {200, 400, 412}
    assert verdict("GET", 1, if_none_match=text, if_modified_since=text) in {200, 304}
