"""The edge: what stands between the server and FastAPI. It holds back large bodies and answers for failures."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from torpor.kernel.errors import BrokerUnavailable, CircuitOpen, NotRunning, StoreUnavailable, TimedOut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from torpor.runtime.plan import RouteBinding

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = _declared_length(scope["headers"])
        if length is None:
            receive = self._counted(receive)
        elif length > self._limit:
            await JSONResponse({"detail": self._refusal}, _CONTENT_TOO_LARGE)(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            unavailable = next((text for kind, text in _UNAVAILABLE.items() if isinstance(error, kind)), None)
            self._tell(scope, error, is_expected=unavailable is not None)
            if not has_started:
                await _answer(unavailable)(scope, receive, send)
            if has_started or unavailable is None:
                scope[TOLD] = True
                raise

    def _counted(self, receive: Receive) -> Receive:
        """A `receive` that stops a body of undeclared length once it is over the limit."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(_CONTENT_TOO_LARGE, self._refusal)  # FastAPI answers it
            return message

        return counted

    @property
    def _refusal(self) -> str:
        return f"The body is over the limit of {self._limit} bytes (TORPOR_HTTP_BODY_LIMIT). Send less at a time."

    def _tell(self, scope: Scope, error: Exception, *, is_expected: bool) -> None:
        binding = self._bindings.get(scope.get("endpoint"))
        method = scope["method"]
        if binding is None:
            path, service = scope["path"], None
        else:
            path, service = binding.path, binding.handled.service
        extra = {"service": service, "method": method, "route": path}
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


def _answer(unavailable: str | None) -> JSONResponse:
    if unavailable is None:
        return JSONResponse({"detail": "Internal Server Error"}, 500)
    return JSONResponse({"detail": f"{unavailable} Try again soon."}, 503, headers={"Retry-After": "1"})
