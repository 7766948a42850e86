"""What is wrong with a request, by RFC 9457, with the id of its trace."""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from torpor.adapters.http.answer import PROBLEM
from torpor.kernel.preconditions import NOT_MODIFIED, Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import Scope

_TRACE = "torpor.trace"  # in a request's scope, once somebody has asked for it
_TOLD = ("type", "loc", "msg")
_BAD_REQUEST, _NOT_ALLOWED, _UNPROCESSABLE = 400, 405, 422
_NO_TRACE = "0" * 32


def trace_of(scope: Scope) -> str:
    """The id of the request's trace: that of its `traceparent`, or a new one."""
    known: str | None = scope.get(_TRACE)
    if known is None:
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        known = scope[_TRACE] = _trace_in(given.decode("latin-1")) or os.urandom(16).hex()
    return known


def _trace_in(traceparent: str) -> str | None:
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[1] == _NO_TRACE:
        return None
    return parts[1] if set("".join(parts[:4])) <= set("0123456789abcdef") else None


def problem_for(scope: Scope, status: int, detail: Any = None, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that something is wrong with. `detail` is a sentence, or what a handler gives instead."""
    title = _title(status)
    told = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": title if detail is None else detail,
        "instance": quote(scope["path"], errors="surrogatepass"),
        "trace_id": trace_of(scope),
    }
    # In ASCII, so that any text can be told, half a character too.
    return Response(json.dumps(told, allow_nan=False), status, headers, PROBLEM)


def tell_problems(app: FastAPI) -> None:
    """Has an application answer with problems."""
    app.add_exception_handler(HTTPException, _raised)  # type: ignore[arg-type]  # the error of its class
    app.add_exception_handler(RequestValidationError, _misfit)  # type: ignore[arg-type]  # the error of its class
    app.add_exception_handler(Unfit, _unfit)  # type: ignore[arg-type]  # the error of its class


async def _raised(request: Request, error: HTTPException) -> Response:
    if error.status_code == _NOT_ALLOWED and error.headers is not None and "Allow" in error.headers:
        error.headers = {**error.headers, "Allow": ", ".join(_allowed(request))}
    if error.status_code >= _BAD_REQUEST:
        return problem_for(request.scope, error.status_code, error.detail, error.headers)
    if error.status_code in {204, 304}:
        return Response(status_code=error.status_code, headers=error.headers)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _unfit(request: Request, error: Unfit) -> Response:
    if error.status_code == NOT_MODIFIED:
        return Response(status_code=NOT_MODIFIED, headers=error.headers)
    return problem_for(request.scope, error.status_code, str(error), error.headers)


def _allowed(request: Request) -> list[str]:
    """The methods of a path. Starlette tells those of the first route that has it alone."""
    scope: Any = request.scope
    found = [route for route in request.app.routes if route.matches(scope)[0] is Match.PARTIAL]
    return sorted({method for route in found for method in route.methods or ()})


async def _misfit(request: Request, error: RequestValidationError) -> Response:
    """FastAPI's own list of mistakes, which repeats what was sent; without it where JSON cannot carry it (NaN)."""
    mistakes = error.errors()
    try:
        return problem_for(request.scope, _UNPROCESSABLE, jsonable_encoder(mistakes))
    except ValueError:
        shown = [{name: mistake[name] for name in _TOLD} for mistake in mistakes]
        return problem_for(request.scope, _UNPROCESSABLE, jsonable_encoder(shown))


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
