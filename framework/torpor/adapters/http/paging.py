"""Pages of lists: what a request says of the one that it wants, and how the answer tells of the next."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from torpor.adapters.http.problems import trace_of
from torpor.runtime.paging import LONGEST, Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.runtime.paging import Cursor, Keyset

_log = logging.getLogger("torpor.http")
_TOLD = 300  # characters of a reason
_LIMIT = "How many a page has at most."
_CURSOR = "Where the page begins: `next` of the page before. Without it the list begins."
LINK = {"description": "The next page, if there is one, with all else that was asked.", "schema": {"type": "string"}}


class Turn:
    """One page that is asked for, while its route answers."""

    __slots__ = ("_request", "_response", "value")

    def __init__(self, cursor: Cursor, request: Request, response: Response) -> None:
        self.value = cursor
        self._request = request
        self._response = response

    def tell(self, result: Any) -> None:
        """Links the next page of an answer, by the path as the client wrote it."""
        if not isinstance(result, Page) or result.next is None:
            return
        url = self._request.url
        asked = [(name, value) for name, value in parse_qsl(url.query, keep_blank_values=True) if name != "cursor"]
        query = urlencode([*asked, ("cursor", result.next)], errors="replace")
        path = quote(self._request.scope["path"], errors="surrogatepass")
        self._response.headers.append("link", f'<{path}?{query}>; rel="next"')

    def explain(self, error: Exception) -> None:
        """Tells a client of a cursor that the database cannot read, and who wrote the list why, whose `Keyset` may be
        at fault."""
        found = self.value.misplaced(error)
        if found is None:
            return
        scope, reason = self._request.scope, getattr(error, "orig", None) or error.__cause__ or error
        _log.warning(
            "the database cannot read a cursor that %s was sent: %s. A client has made it up, unless the types of the "
            "Keyset are not those of its columns",
            scope["path"], " ".join(str(reason).split())[:_TOLD], extra={"trace_id": trace_of(scope)},
        )  # fmt: skip
        raise _misfit(found, self._request.query_params.get("cursor")) from error


def turn_of(keyset: Keyset, owner: str) -> Any:
    """The annotation by which FastAPI fills a parameter of the type `Cursor`."""
    if keyset.secret is not None:
        keyset.secret.read()  # one that is missing is told before anybody asks
    return Annotated[Any, Depends(_reader(keyset, owner))]


def _misfit(error: ValueError, cursor: str | None) -> RequestValidationError:
    return RequestValidationError([{"type": "cursor", "loc": ("query", "cursor"), "msg": str(error), "input": cursor}])


def _reader(keyset: Keyset, owner: str) -> Callable[..., Turn]:
    limit_rule = Annotated[int, Query(ge=1, le=keyset.most, description=_LIMIT)]
    cursor_rule = Annotated[str | None, Query(max_length=LONGEST, description=_CURSOR)]

    def turn(request: Request, response: Response, limit: Any = keyset.limit, cursor: Any = None) -> Turn:
        try:
            return Turn(keyset.cursor(cursor, limit=limit, owner=owner), request, response)
        except ValueError as error:
            raise _misfit(error, cursor) from error

    turn.__annotations__.update(request=Request, response=Response, limit=limit_rule, cursor=cursor_rule)
    return turn
