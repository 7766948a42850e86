"""What a route, and what FastAPI fills its parameters with, are handed of a request, known without FastAPI."""

from __future__ import annotations

import inspect
import sys
import typing
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torpor.runtime.injection import Call

_FASTAPI, _STARLETTE, _OURS = "fastapi.params", "starlette.requests", "torpor."


def is_handed_all(call: Call) -> bool:
    """Whether a route, or something that FastAPI fills a parameter of it with, is handed the whole request, so that
    nobody knows what it reads of it. Ours are known."""
    return _sees_all(call.function, call.foreign, {call.function})


def _sees_all(function: Any, parameters: Iterable[inspect.Parameter], seen: set[Any]) -> bool:
    is_ours = (getattr(function, "__module__", None) or "").startswith(_OURS)
    for parameter in parameters:
        hint = parameter.annotation
        is_annotated = typing.get_origin(hint) is Annotated
        kind, extras = (hint.__origin__, hint.__metadata__) if is_annotated else (hint, ())
        if not is_ours and _is_connection(kind):
            return True
        for extra in (*extras, parameter.default):
            inner = _dependency(extra, kind)
            if inner is not None and inner not in seen and _sees_all(inner, _parameters_of(inner), seen | {inner}):
                return True
    return False


def _is_connection(kind: Any) -> bool:
    """Whether a type is a request as Starlette has it."""
    connection = _known(_STARLETTE, "HTTPConnection")
    return connection is not None and isinstance(kind, type) and issubclass(kind, connection)


def _dependency(extra: Any, kind: Any) -> Callable[..., Any] | None:
    """What FastAPI calls for a parameter, by what is said beside its type."""
    depends = _known(_FASTAPI, "Depends")
    if depends is None or not isinstance(extra, depends):
        return None
    found: Callable[..., Any] = extra.dependency or kind
    return found


def _parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of what FastAPI calls; none of what it cannot call, which it tells itself."""
    try:
        return [*inspect.signature(function, eval_str=True).parameters.values()]
    except (NameError, SyntaxError, TypeError, ValueError):
        return []


def _known(module: str, name: str) -> Any:
    """A class of a module, which whoever names it has imported; None when nobody has."""
    return getattr(sys.modules.get(module), name, None)
