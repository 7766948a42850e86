"""CORS: which pages of other origins may read the answers of routes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from torpor.adapters.http.edge import show
from torpor.adapters.http.problems import problem_for
from torpor.kernel.cors import ANY, Cors
from torpor.kernel.versioned import Versioned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from torpor.runtime.plan import RouteBinding


class CrossingApp:
    """A route whose answers some pages may read, refusals and failures too."""

    __slots__ = ("_app", "_cors")

    def __init__(self, app: ASGIApp, cors: Cors) -> None:
        self._app = app
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        show(scope, _shown(self._cors, _header(scope, b"origin")))
        await self._app(scope, receive, send)


class PreflightApp:
    """Answers a browser that asks whether a page may call, by the method that it means to use."""

    __slots__ = ("_by_method",)

    def __init__(self, by_method: Mapping[str, Cors]) -> None:
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        cors = self._by_method.get(_header(scope, b"access-control-request-method") or "")
        origin = _header(scope, b"origin")
        if cors is None or origin is None or cors.allowed(origin) is None:
            await problem_for(scope, 403, "Pages of this origin may not call this.")(scope, receive, send)
            return
        shown = _shown(cors, origin)
        shown.append((b"access-control-allow-methods", ", ".join(sorted(self._by_method)).encode()))
        if cors.headers:
            shown.append((b"access-control-allow-headers", ", ".join(cors.headers).encode()))
        shown.append((b"access-control-max-age", b"%d" % cors.max_age))
        await send({"type": "http.response.start", "status": 204, "headers": shown})
        await send({"type": "http.response.body", "body": b""})


def preflights(bindings: Iterable[RouteBinding]) -> list[Route]:
    """A route for the preflights of each path that pages of other origins may call."""
    paths: dict[str, dict[str, Cors]] = {}
    for binding in bindings:
        cors = None if binding.access.rules is None else binding.access.rules.of(Cors)
        if cors is not None:
            paths.setdefault(binding.path, {})[binding.method] = _taking_version(cors, binding)
    return [
        Route(path, PreflightApp(by_method), methods=["OPTIONS"], include_in_schema=False)
        for path, by_method in paths.items()
    ]


def _taking_version(cors: Cors, binding: RouteBinding) -> Cors:
    """The same, for a page that says a version: which it asks for, the preflight does not tell."""
    version = None if binding.access.rules is None else binding.access.rules.of(Versioned)
    if version is None:
        return cors
    return Cors(
        *cors.origins, headers=[*cors.headers, version.header.lower()], expose=cors.expose,
        credentials=cors.credentials, max_age=cors.max_age,
    )  # fmt: skip


def _shown(cors: Cors, origin: str | None) -> list[tuple[bytes, bytes]]:
    """What an origin is told."""
    allowed = None if origin is None else cors.allowed(origin)
    shown = [] if ANY in cors.origins else [(b"vary", b"Origin")]
    if allowed is not None:
        shown.append((b"access-control-allow-origin", allowed.encode("latin-1")))
        if cors.credentials:
            shown.append((b"access-control-allow-credentials", b"true"))
        if cors.expose:
            shown.append((b"access-control-expose-headers", ", ".join(cors.expose).encode()))
    return shown


def _header(scope: Scope, wanted: bytes) -> str | None:
    return next((str(value, "latin-1") for name, value in scope["headers"] if name == wanted), None)
