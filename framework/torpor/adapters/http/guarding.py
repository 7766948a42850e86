"""The guard at a route's door: before its body is read, and before FastAPI looks at the request."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request  # noqa: TC002  # FastAPI reads the annotation
from starlette.routing import Route

from torpor.adapters.http.counting import text_of
from torpor.adapters.http.problems import problem_for, trace_of
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.identity import Caller, Denied

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from torpor.kernel.auth import Auth
    from torpor.runtime.guard import Guard
    from torpor.runtime.plan import RouteBinding

CALLER = "torpor.caller"  # in a request's scope, as a text that tells callers apart
IDENTITY = "torpor.identity"  # in a request's scope, as a value

_UNAUTHORIZED = 401, "Who calls is not known here.", {"WWW-Authenticate": "Bearer"}
_FORBIDDEN = 403, "This caller may not do this.", None
_log = logging.getLogger("torpor.auth")


class GuardedApp:
    """A route that only those are let in to whom its `Auth` admits. All that are refused are answered alike: the log
    alone tells why."""

    __slots__ = ("_app", "_guard", "_name")

    def __init__(self, app: ASGIApp, guard: Guard, name: str) -> None:
        self._app = app
        self._guard = guard
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
        try:
            caller = await self._guard.admit(headers)
        except Denied as denied:
            extra = {"route": scope["path"], "trace_id": trace_of(scope)}
            _log.warning("%s is refused: %s", self._name, denied, extra=extra)
            status, told, shown = _FORBIDDEN if denied.is_known else _UNAUTHORIZED
            await problem_for(scope, status, told, shown)(scope, receive, send)
            return
        scope[IDENTITY] = caller
        scope[CALLER] = text_of(caller)
        await self._app(scope, receive, send)


async def caller_in(request: Request) -> Any:
    """For FastAPI: who has been let in."""
    caller: Caller = request.scope[IDENTITY]
    return caller


def guard_route(app: FastAPI, guard_of: Callable[[Auth], Guard] | None, binding: RouteBinding) -> None:
    """Puts a guard before the route that was added last."""
    route, auth = app.router.routes[-1], binding.access.auth
    if guard_of is None or auth is None or not isinstance(route, Route):
        raise ConfigurationError([f"{binding!r} has auth=, and nothing here checks it."])
    route.app = GuardedApp(route.app, guard_of(auth), binding.handled.name)
