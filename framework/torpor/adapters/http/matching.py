"""`If-Match` and its like: read from requests, told in answers and in OpenAPI."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Header, Request, Response

from torpor.kernel.preconditions import CONDITIONS, NEEDED, UNCONDITIONAL, Match
from torpor.runtime.asked import needs_match

if TYPE_CHECKING:
    from collections.abc import Callable

    from torpor.runtime.plan import RouteBinding

_READ = (*CONDITIONS, "if-modified-since")
_SAID = {
    "if-match": "Do it only if the present tag is among these, or, with *, if there is anything.",
    "if-none-match": "Do it only if the present tag is none of these, or, with *, if there is nothing yet.",
    "if-unmodified-since": "Do it only if nothing has changed since. Tags tell it better.",
}
_ASKED = {
    "if-none-match": "Answer only if the present tag is none of these.",
    "if-modified-since": "Answer only if it has changed since.",
}
_ANSWERS = {
    "400": "A list of tags, or the request, cannot be read.",
    "412": "It has changed since, or is there already. Read it again.",
}
ETAG = {"description": "Tells this state from every other; for If-Match.", "schema": {"type": "string"}}


class Matched:
    """What one request says of the state that it rests on, and the tag that its answer tells."""

    __slots__ = ("_response", "value")

    def __init__(self, match: Match, response: Response) -> None:
        self.value = match
        self._response = response

    def tell(self, result: Any) -> None:
        """Tells the tag that the handler has shown."""
        target = result if isinstance(result, Response) else self._response
        target.headers.update(self.value.shown)

    def explain(self, error: Exception) -> None:
        """Nothing: what it raises itself says it all."""


def matched_of(binding: RouteBinding) -> Any:
    """The annotation by which FastAPI fills a parameter of the type `Match`."""
    return Annotated[Any, Depends(_reader(binding.method, is_needed=needs_match(binding.method, binding.access.rules)))]


def describe_matching(binding: RouteBinding, responses: dict[str, Any], success: dict[str, Any]) -> None:
    """What OpenAPI says of the answers of a route that asks for `Match`."""
    success.setdefault("headers", {}).setdefault("ETag", ETAG)
    if binding.method == "GET":
        responses.setdefault("304", {"description": "The client has it."})
        return
    for status, told in _ANSWERS.items():
        responses.setdefault(status, {"description": told})
    if needs_match(binding.method, binding.access.rules):
        responses.setdefault(str(UNCONDITIONAL), {"description": NEEDED})


def _reader(method: str, *, is_needed: bool) -> Callable[..., Matched]:
    def matched(request: Request, response: Response, **_: Any) -> Matched:
        said = {name: ", ".join(request.headers.getlist(name)) for name in _READ if name in request.headers}
        match = Match(request.method, said, is_needed=is_needed)
        match.check_said()
        return Matched(match, response)

    _document(matched, _ASKED if method == "GET" else _SAID)
    return matched


def _document(function: Callable[..., Any], told: dict[str, str]) -> None:
    """Gives a function parameters for headers, so that OpenAPI has them."""
    kind = inspect.Parameter.KEYWORD_ONLY
    headers = [
        inspect.Parameter(
            name.replace("-", "_"), kind, default=None,
            annotation=Annotated[str | None, Header(alias=name.title(), description=description)],
        )
        for name, description in told.items()
    ]  # fmt: skip
    given = [
        inspect.Parameter(name, kind, annotation=of) for name, of in (("request", Request), ("response", Response))
    ]
    function.__signature__ = inspect.Signature([*given, *headers])  # type: ignore[attr-defined]  # FastAPI reads it
