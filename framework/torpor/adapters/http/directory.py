"""Finding the route of a request without trying each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute, Match, NoMatchFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from starlette.datastructures import URLPath
    from starlette.types import Receive, Scope, Send

_FOUND = "torpor.found"  # in a request's scope: the route to which it goes


class Directory(BaseRoute):
    """Stands before some routes, and knows them by method and by the first part of the path.

    It takes a request that one of them answers, the first of those that do. Every other goes on to the routes
    themselves: one that nobody answers, one under a root path, and a method that a path does not have.
    """

    __slots__ = ("_by_method", "_others")

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        shelved = [(_methods_of(route), _first_part_of(route), route) for route in routes]
        known = {method for methods, _, _ in shelved for method in methods or ()}
        parts = {part for _, part, _ in shelved if part is not None}

        def answering(method: str, wanted: str | None) -> Sequence[BaseRoute]:
            return tuple(
                route
                for methods, part, route in shelved
                if (methods is None or method in methods) and part in {None, wanted}
            )

        self._by_method = {method: {part: answering(method, part) for part in parts} for method in known}
        self._others = {method: answering(method, None) for method in known}  # whatever the path begins with

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The route that answers a request, if one does."""
        if scope["type"] == "http" and not scope.get("root_path"):
            method = scope["method"]
            _, _, path = scope["path"].partition("/")
            routes = self._by_method.get(method, {}).get(path.partition("/")[0]) or self._others.get(method, ())
            for route in routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    found[_FOUND] = route
                    return match, found
        return Match.NONE, {}

    def handle(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:  # type: ignore[override]
        """Has the route answer."""
        route: BaseRoute = scope[_FOUND]
        return route.handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """None: the routes themselves tell theirs."""
        raise NoMatchFound(name, path_params)


def _methods_of(route: BaseRoute) -> set[str] | None:
    """The methods that a route answers; None for all."""
    return getattr(route, "methods", None)


def _first_part_of(route: BaseRoute) -> str | None:
    """What stands between the first slash of a route's path and the next; None where that may be anything."""
    parts = getattr(route, "path", "").split("/", 2)
    return parts[1] if len(parts) > 1 and "{" not in parts[1] else None
