"""Conditional requests, by RFC 9110, section 13: whether what a client knows of a thing still holds. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_MODIFIED, MALFORMED, UNMET, UNCONDITIONAL = 304, 400, 412, 428
ENCODED = ";gzip"  # at the end of the tag of an answer that was compressed on its way out
CONDITIONS = ("if-match", "if-none-match", "if-unmodified-since")
NEEDED = "This request needs an If-Match: the ETag of what it rests on, or If-None-Match: * for what is new."
_SAFE = frozenset({"GET", "HEAD"})
_ANY = "*"
_OPAQUE = re.compile(r"[\x21\x23-\x7e]*")
_TAG = re.compile(r'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")?[ \t]*(?:,|\Z)')


class MustMatch:
    """Refuses a PUT, PATCH or DELETE that does not say of which state it knows: 428, unless it has `If-Match`,
    `If-None-Match: *` or `If-Unmodified-Since`. The routes below it ask for `Match`.

    ```python
    notes = Router(prefix="/notes", rules=[MustMatch()])
    ```
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "MustMatch()"


class Unfit(Exception):
    """A request that is not done, since it rests on another state, or on none. It is answered with `status`."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.headers = dict(headers)
        super().__init__(detail)


class Match:
    """What a request says of the state that it rests on: `If-Match` and its like. A route asks for it by its type.

    ```python
    @orders.put("/notes/{id}")
    async def change(id: str, text: str, match: Match, tx: Tx) -> None:
        note = await tx.fetch_one(
            "UPDATE note SET text = $2, version = version + 1 WHERE id = $1 RETURNING version", id, text
        )
        match.require(None if note is None else note["version"] - 1)
    ```

    `require` is told the present tag, and raises inside the transaction, which so is undone.
    """

    __slots__ = ("_headers", "_is_needed", "_method", "shown")

    def __init__(
        self, method: str = "PUT", headers: Mapping[str, str] | None = None, *, is_needed: bool = False
    ) -> None:
        self._method = method
        self._is_needed = is_needed
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        self.shown: dict[str, str] = {}  # what the answer tells

    @property
    def is_said(self) -> bool:
        """Whether the request says of which state it knows."""
        is_new = self._headers.get("if-none-match", "").strip() == _ANY
        return is_new or "if-match" in self._headers or _moment(self._headers.get("if-unmodified-since")) is not None

    def check_said(self) -> None:
        """Raises what is answered 428 for a request that must say it, and does not."""
        if self._is_needed and not self.is_said:
            raise Unfit(UNCONDITIONAL, NEEDED, {})

    def require(self, tag: str | int | None, *, modified: datetime | None = None) -> None:
        """Goes on if the request's conditions hold for what there is, and raises what is answered 412 otherwise.

        `tag` tells one state from every other: a version, a hash; None says that there is nothing. `modified` is when
        it last changed. On a GET for what the client has it raises what is answered 304, and else the tag is shown.
        """
        if tag is not None and self._method in _SAFE:
            self.show(tag, modified=modified)
        if self._method not in _SAFE:
            self._check(modified)
        status = self._verdict(None if tag is None else tag_of(tag), modified)
        if status is None:
            return
        present = {} if tag is None else _told(tag, modified)
        if status == NOT_MODIFIED:
            raise Unfit(status, "", present)
        there = "There is none" if tag is None else "It has changed"
        if tag is not None and "if-none-match" in self._headers and "if-match" not in self._headers:
            there = "There is one already"
        raise Unfit(status, f"{there}: this request rests on another state. Read it again, and decide anew.", present)

    def show(self, tag: str | int, *, modified: datetime | None = None) -> None:
        """Tells the tag of the answer, in `ETag`: what the client may give in `If-Match` next time."""
        self.shown.update(_told(tag, modified))

    def _check(self, modified: datetime | None) -> None:
        """Raises for a list of tags that is none, since what it means nobody knows, and for a date alone where the
        handler knows none."""
        self.check_said()
        if self._is_needed and modified is None and not {"if-match", "if-none-match"} & self._headers.keys():
            raise Unfit(UNCONDITIONAL, NEEDED, {})
        for name in ("if-match", "if-none-match"):
            said = self._headers.get(name, _ANY)
            if said.strip() != _ANY and not tags_in(said):
                raise Unfit(MALFORMED, f'{name.title()} is malformed. Expected "tag", or several, or *.', {})

    def _verdict(self, tag: str | None, modified: datetime | None) -> int | None:
        """What is answered instead, in the order of RFC 9110, section 13.2.2."""
        said = self._headers
        if "if-match" in said:
            if not _holds(said["if-match"], tag, is_strong=True):
                return UNMET
        elif _is_after(modified, said.get("if-unmodified-since")):
            return UNMET
        if "if-none-match" in said:
            if _holds(said["if-none-match"], tag, is_strong=False):
                return NOT_MODIFIED if self._method in _SAFE else UNMET
        elif self._method in _SAFE and _is_not_after(modified, said.get("if-modified-since")):
            return NOT_MODIFIED
        return None

    def __repr__(self) -> str:
        return f"<Match {', '.join(f'{name}: {self._headers[name]}' for name in CONDITIONS if name in self._headers)}>"


def tag_of(tag: str | int) -> str:
    """An entity tag as HTTP writes it. One in quotes is taken as it is, one with `W/` before them is weak."""
    text = str(tag)
    bare = text.removeprefix("W/")
    if len(bare) > 1 and bare[0] == bare[-1] == '"':
        inner = bare[1:-1]
    else:
        inner, text = text, f'"{text}"'
    if not _OPAQUE.fullmatch(inner):
        raise ConfigurationError(
            [f"The tag {str(tag)!r} has characters that HTTP does not carry. Use letters and digits."]
        )
    return text


def tags_in(listed: str) -> list[str] | None:
    """The tags of a list, None if it is none."""
    found: list[str] = []
    place = 0
    while place < len(listed):
        match = _TAG.match(listed, place)
        if match is None or match.end() == place:
            return None
        if match[1] is not None:
            found.append(match[1])
        place = match.end()
    return found


def _holds(said: str, tag: str | None, *, is_strong: bool) -> bool:
    """Whether a thing, if there is one, is among those that a list names."""
    if tag is None:
        return False
    if said.strip() == _ANY:
        return True
    tags = [_bare(one) for one in tags_in(said) or []]
    if is_strong:
        return not tag.startswith("W/") and tag in tags
    return tag.removeprefix("W/") in {one.removeprefix("W/") for one in tags}


def _bare(tag: str) -> str:
    """A tag without what compression has added to it."""
    return f'{tag[: -len(ENCODED) - 1]}"' if tag.endswith(f'{ENCODED}"') else tag


def _is_after(modified: datetime | None, said: str | None) -> bool:
    moment = _moment(said)
    return modified is not None and moment is not None and _second(modified) > moment


def _is_not_after(modified: datetime | None, said: str | None) -> bool:
    moment = _moment(said)
    return modified is not None and moment is not None and _second(modified) <= moment


def _moment(said: str | None) -> datetime | None:
    """A date of HTTP; one that is none is passed over, as RFC 9110 wants it."""
    if said is None:
        return None
    try:
        from email.utils import parsedate_to_datetime  # late: it brings in much, and few requests have a date

        found = parsedate_to_datetime(said)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def _second(moment: datetime) -> datetime:
    """A moment as HTTP tells it. One without a zone is in UTC."""
    known = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return known.replace(microsecond=0)


def _told(tag: str | int, modified: datetime | None) -> dict[str, str]:
    told = {"etag": tag_of(tag)}
    if modified is not None:
        from email.utils import format_datetime

        told["last-modified"] = format_datetime(_second(modified), usegmt=True)
    return told
