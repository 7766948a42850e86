"""Versions of one path, between which a header of the request chooses; and a document of OpenAPI for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse
from starlette.routing import Route

from torpor.adapters.http.crossing import CrossingApp
from torpor.adapters.http.developing import DevelopersRoute
from torpor.adapters.http.edge import show
from torpor.adapters.http.problems import problem_for
from torpor.kernel.cors import Cors
from torpor.kernel.versioned import UNKNOWN, Lineup, NotVersioned, Versioned, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from torpor.runtime.plan import RouteBinding

    Describe = Callable[[dict[str, Any], Sequence[BaseRoute]], None]


def version_of(binding: RouteBinding) -> Versioned | None:
    """Which version a route is of, if it is of any."""
    rules = binding.access.rules
    return None if rules is None else rules.of(Versioned)


class VersionedApp:
    """The routes of one path and method, each of a version."""

    __slots__ = ("_header", "_origins", "_vary", "bindings", "lineup", "routes")

    def __init__(self, lineup: Lineup, routes: Sequence[Route], bindings: Sequence[RouteBinding]) -> None:
        self.lineup = lineup
        self.routes = tuple(routes)
        self.bindings = tuple(bindings)
        self._header = lineup.header.lower().encode()
        self._vary = (b"vary", lineup.header.encode())
        rules = self.bindings[-1].access.rules
        self._origins = None if rules is None else rules.of(Cors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the route of the version answer."""
        show(scope, [self._vary])
        try:
            place, version = self.lineup.choose(said_in(scope, self._header))
        except NotVersioned as error:
            refusal: ASGIApp = problem_for(scope, error.status, str(error))
            if self._origins is not None:
                refusal = CrossingApp(refusal, self._origins)
            await refusal(scope, receive, send)
            return
        show(scope, [(self._header, version.encode())])
        route = self.routes[place]
        scope.update(route.matches(scope)[1])
        await route.handle(scope, receive, send)


class Versions:
    """Gathers the routes that a header chooses between, each path in the place of its first."""

    def __init__(self) -> None:
        self._paths: dict[tuple[str, str, str], list[tuple[Route, RouteBinding]]] = {}

    def take(self, routes: list[BaseRoute], binding: RouteBinding) -> None:
        """Takes the route that was added last, if it is of a version."""
        route = routes[-1]
        if version_of(binding) is None or not isinstance(route, Route) or isinstance(route, DevelopersRoute):
            return
        routes.pop()
        path = (binding.handled.service, binding.method, shape_of(binding.path))
        if path not in self._paths:
            place = Route(binding.path, _nothing, methods=[binding.method], include_in_schema=False)
            place.methods = {binding.method}  # Starlette adds HEAD to GET, and FastAPI does not
            place.name = "\n".join(path)
            routes.append(place)
        self._paths.setdefault(path, []).append((route, binding))

    def finish(self, app: FastAPI, describe: Describe) -> None:
        """Puts them into their places, and has the application tell of them. Without any it does nothing."""
        for place in app.router.routes:
            if isinstance(place, Route) and place.endpoint is _nothing:
                taken = self._paths[tuple(place.name.split("\n"))]  # type: ignore[index]  # as `take` has made it
                place.app = place.endpoint = self._app(taken)
        if self._paths:
            _publish(app, describe, [version for _, version in self._all()])

    def _all(self) -> Iterator[tuple[str, Versioned]]:
        """The versions, each with its service."""
        for (service, _, _), taken in self._paths.items():
            for _, binding in taken:
                version = version_of(binding)
                if version is not None:
                    yield service, version

    def _app(self, taken: Sequence[tuple[Route, RouteBinding]]) -> VersionedApp:
        routes, bindings = zip(*taken, strict=True)
        versions = [version for binding in bindings if (version := version_of(binding))]
        service, header = bindings[0].handled.service, versions[0].header.lower()
        known = [one for owner, one in self._all() if owner == service and one.header.lower() == header]
        return VersionedApp(Lineup(versions, known), routes, bindings)


def said_in(scope: Scope, header: bytes) -> str | None:
    """What a request says in a header."""
    said = [str(value, "latin-1").strip() for name, value in scope["headers"] if name == header]
    return ", ".join(said) if said else None


def _publish(app: FastAPI, describe: Describe, versions: Sequence[Versioned]) -> None:
    """Has an application answer with a document for each version."""
    known = {version.version for version in versions}
    headers = {version.header.lower().encode() for version in versions}
    documents: dict[str | None, dict[str, Any]] = {}

    def document(version: str | None) -> dict[str, Any]:
        if version not in documents:
            documents[version] = _document(app, describe, version)
        return documents[version]

    async def openapi(request: Request) -> Response:
        said = [text for header in headers if (text := said_in(request.scope, header)) is not None]
        version = request.query_params.get("version", next(iter(said), None))
        if version is not None and version not in known:
            told = f"There is no version {version[:40]!r}. There are: {', '.join(sorted(known))}."
            return problem_for(request.scope, UNKNOWN, told)
        root = request.scope.get("root_path", "").rstrip("/")
        servers = {"servers": [{"url": root}]} if root and app.root_path_in_servers else {}
        return JSONResponse(
            document(version) | servers, headers={"vary": ", ".join(h.decode() for h in sorted(headers))}
        )

    app.openapi = lambda: document(None)  # type: ignore[method-assign]  # as FastAPI's own documentation does
    if app.openapi_url is not None:
        app.router.routes.insert(0, Route(app.openapi_url, openapi, include_in_schema=False))


def _document(app: FastAPI, describe: Describe, version: str | None) -> dict[str, Any]:
    """What is answered to who says a version, or none."""
    chosen: list[tuple[BaseRoute, VersionedApp | None, str]] = []
    for route in app.router.routes:
        of = getattr(route, "app", None)
        if not isinstance(of, VersionedApp):
            chosen.append((route, None, ""))
            continue
        try:
            place, by = of.lineup.choose(version if version in of.lineup.versions else None)
        except NotVersioned:
            continue
        chosen.append((of.routes[place], of, by))
    routes = [route for route, _, _ in chosen]
    schema = get_openapi(
        title=app.title, version=version or app.version, openapi_version=app.openapi_version, routes=routes
    )
    for route, of, by in chosen:
        operations = schema["paths"].get(getattr(route, "path_format", ""), {})
        if of is not None and of.bindings[0].method.lower() in operations:
            _tell_header(operations[of.bindings[0].method.lower()], of.lineup, by)
    describe(schema, routes)
    return schema


def _tell_header(operation: dict[str, Any], lineup: Lineup, version: str) -> None:
    _, unsaid = lineup.choose(None)
    told = f"The version of the API: {', '.join(lineup.versions)}. Without it, {unsaid}."
    parameter = {
        "name": lineup.header,
        "in": "header",
        "required": version != unsaid,
        "description": told,
        "schema": {"type": "string", "enum": [version]},
    }
    operation.setdefault("parameters", []).append(parameter)
    operation["responses"].setdefault(str(UNKNOWN), {"description": "There is no such version, or no such request."})
    for response in operation["responses"].values():
        response.setdefault("headers", {}).setdefault(
            lineup.header, {"description": "The version that has answered.", "schema": {"type": "string"}}
        )


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    """Stands in the place of a path until all its versions are known."""
