"""The edge: what stands between the server and FastAPI. It holds back large bodies and answers for failures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from torpor.adapters.http.problems import problem_for, trace_of
from torpor.kernel.errors import BrokerUnavailable, CircuitOpen, NotRunning, StoreUnavailable, TimedOut
from torpor.kernel.limit import BodyLimit
from torpor.kernel.versioned import shape_of

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Iterable, Iterator, Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from torpor.runtime.plan import RouteBinding

SHOWN = "torpor.shown"  # in a request's scope: the headers that rules give to its answer, whoever makes that
TOLD = "torpor.told"  # in a request's scope once its failure has been logged and answered

_CONTENT_TOO_LARGE = 413
_UNAVAILABLE = {
    StoreUnavailable: "The database does not answer.",
    BrokerUnavailable: "The broker does not answer.",
    NotRunning: "The service is starting or stopping.",
    CircuitOpen: "A service that this one needs does not answer.",
    TimedOut: "A service that this one needs did not answer in time.",
}  # no error's own text: a driver's may hold an address, a user, a statement
_log = logging.getLogger("torpor.http")


def show(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Gives headers to the answer of a request, be it a refusal or a failure."""
    scope.setdefault(SHOWN, []).extend(headers)


class Edge:
    """Refuses bodies over the limit, and turns what a route raises into a response.

    A failure is logged here once, answered with 500, and raised again: a test that calls the app sees it, and
    `HttpServer` keeps uvicorn from telling it a second time. A plain ASGI layer, because Starlette's
    `BaseHTTPMiddleware` costs more than all the rest of a request.
    """

    def __init__(self, app: ASGIApp, *, body_limit: int, bindings: Mapping[Any, RouteBinding]) -> None:
        self._app = app
        self._limit = body_limit
        self._bindings = bindings
        self._others = tuple(_limited(bindings, body_limit))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _declared_length(scope["headers"])
        if length is None:
            receive = _counted(receive, self._limit_of(scope))
        elif length and length > (limit := self._limit_of(scope)):
            await problem_for(scope, _CONTENT_TOO_LARGE, _refusal(limit))(scope, receive, send)
            return
        has_started = False

        def watched(message: Message) -> Awaitable[None]:
            nonlocal has_started
            if not has_started:
                has_started = True
                shown = scope.get(SHOWN)
                if shown is not None:
                    message["headers"] = [*message.get("headers", ()), *shown]
            return send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            is_late = has_started
            unavailable = next((text for kind, text in _UNAVAILABLE.items() if isinstance(error, kind)), None)
            self._tell(scope, error, is_expected=unavailable is not None)
            if not is_late:
                await _answer(scope, unavailable)(scope, receive, watched)
            if is_late or unavailable is None:
                scope[TOLD] = True
                raise

    def _limit_of(self, scope: Scope) -> int:
        """How large a body may be here: what the route says, or what the settings say."""
        if not self._others:
            return self._limit
        method, path = scope["method"], scope["path"]
        found = (limit for other, pattern, limit in self._others if other == method and pattern.match(path))
        return next(found, self._limit)

    def _tell(self, scope: Scope, error: Exception, *, is_expected: bool) -> None:
        binding = self._bindings.get(scope.get("endpoint"))
        method = scope["method"]
        if binding is None:
            path, service = scope["path"], None
        else:
            path, service = binding.path, binding.handled.service
        extra = {"service": service, "method": method, "route": path, "trace_id": trace_of(scope)}
        if is_expected:
            _log.warning("%s %s answered 503: %s", method, path, error, extra=extra)
        else:
            _log.error("%s %s failed", method, path, exc_info=error, extra=extra)


def _declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The length of the body, when the request tells it and the server holds it to that."""
    length = None
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            length = int(value)
        elif name == b"transfer-encoding":
            return None
    return length


def _limited(bindings: Mapping[Any, RouteBinding], most: int) -> Iterator[tuple[str, re.Pattern[str], int]]:
    """The routes that have a limit of their own; of several versions of one the laxest."""
    paths: dict[tuple[str, str], list[RouteBinding]] = {}
    for binding in bindings.values():
        paths.setdefault((binding.method, shape_of(binding.path)), []).append(binding)
    for (method, _), versions in paths.items():
        rules = [binding.access.rules for binding in versions]
        limits = [None if rule is None else rule.of(BodyLimit) for rule in rules]
        if any(limits):
            size = max(most if limit is None else limit.size for limit in limits)
            yield method, compile_path(versions[0].path)[0], size


def _counted(receive: Receive, limit: int) -> Receive:
    """A `receive` that stops a body of undeclared length once it is over the limit."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(_CONTENT_TOO_LARGE, _refusal(limit))  # FastAPI answers it
        return message

    return counted


def _refusal(limit: int) -> str:
    return f"The body is over the limit of {limit} bytes. Send less at a time."


def _answer(scope: Scope, unavailable: str | None) -> Response:
    if unavailable is None:
        return problem_for(scope, 500)
    return problem_for(scope, 503, f"{unavailable} Try again soon.", {"Retry-After": "1"})
