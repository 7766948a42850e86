"""What a route may ask for about its request, beside what FastAPI fills: a page's `Cursor`, a `Match`."""

from __future__ import annotations

import sys
import typing
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torpor.runtime.injection import Call
    from torpor.runtime.paging import Keyset
    from torpor.runtime.rules import Rules

_PAGING, _PRECONDITIONS = "torpor.runtime.paging", "torpor.kernel.preconditions"
_WRITING = frozenset({"DELETE", "PATCH", "PUT"})
_OF_A_CURSOR = frozenset({"cursor", "limit"})
_NOTHING = object()


def keyset_in(hint: Any) -> Keyset | None:
    """The order of the list whose cursor a parameter is."""
    if typing.get_origin(hint) is not Annotated or hint.__origin__ is not _kind(_PAGING, "Cursor"):
        return None
    from torpor.runtime.paging import Keyset

    return next((extra for extra in hint.__metadata__ if isinstance(extra, Keyset)), None)


def is_match(hint: Any) -> bool:
    """Whether a parameter is what the request says of the state that it rests on."""
    return hint is _kind(_PRECONDITIONS, "Match")


def needs_match(method: str, rules: Rules | None) -> bool:
    """Whether a route takes no request that says nothing of the state that it rests on."""
    if rules is None or method not in _WRITING:
        return False
    return rules.of(_kind(_PRECONDITIONS, "MustMatch")) is not None


def asked_problems(call: Call, method: str, rules: Rules | None) -> Iterator[str]:
    """What is wrong with what a route asks for, or does not."""
    asks_match = any(is_match(parameter.annotation) for parameter in call.foreign)
    if needs_match(method, rules) and not asks_match:
        yield "is below MustMatch(), and compares no tags. Ask for match: Match, and tell it the present one."
    cursors = [parameter for parameter in call.foreign if _is_cursor(parameter.annotation)]
    for parameter in cursors:
        if keyset_in(parameter.annotation) is None:
            yield (
                f"asks for '{parameter.name}: Cursor', and does not say in which order its list is. "
                f'Write {parameter.name}: Annotated[Cursor, Keyset({{"id": str}})].'
            )
    for parameter in call.foreign:
        if cursors and parameter.name in _OF_A_CURSOR and parameter not in cursors:
            yield f"has a parameter {parameter.name!r}, which a Cursor has in the query already. Rename it."
    if len(cursors) > 1:
        yield "asks for two Cursors. A client comes to one place in one list: drop one."


def _is_cursor(hint: Any) -> bool:
    plain = hint.__origin__ if typing.get_origin(hint) is Annotated else hint
    return plain is _kind(_PAGING, "Cursor")


def _kind(module: str, name: str) -> Any:
    """A class of a module, for which whoever has asked has imported it."""
    return getattr(sys.modules.get(module), name, _NOTHING)
