"""The directory: it finds the route that the list behind it would have found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match, Mount, NoMatchFound, Route

from torpor.adapters.http.directory import Directory

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

PARTS = ("orders", "order", "{name}", "v{name}", "{rest:path}", "{number:int}", "")
ASKED = ("orders", "order", "v1", "17", "", "x")
METHODS = ("GET", "POST", "DELETE")


async def nothing(request: Request) -> None:
    """A route's endpoint, which nobody calls."""


def asking(method: str, path: str, **more: Any) -> dict[str, Any]:
    """A request's scope."""
    return {"type": "http", "method": method, "path": path, "headers": [], **more}


def paths(parts: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Paths of one to three parts, some with a slash at their end."""
    return st.lists(st.sampled_from(parts), min_size=1, max_size=3).map(lambda chosen: "/" + "/".join(chosen))


def is_a_route(path: str) -> bool:
    """Whether Starlette takes it: each parameter once."""
    return path.count("{name}") < 2 and path.count("{rest") < 2 and path.count("{number") < 2


@given(
    st.lists(st.tuples(paths(PARTS).filter(is_a_route), st.sets(st.sampled_from(METHODS), min_size=1)), max_size=8),
    paths(ASKED),
    st.sampled_from(METHODS),
)
def test_what_it_finds_is_the_first_route_that_answers(
    declared: list[tuple[str, set[str]]], path: str, method: str
) -> None:
    """Whatever the routes and the request, the directory and the list agree, or the directory leaves it to the list."""
    routes: list[BaseRoute] = [Route(route, nothing, methods=list(methods)) for route, methods in declared]
    scope = asking(method, path)
    first = next((route for route in routes if route.matches(scope)[0] is Match.FULL), None)
    match, found = Directory(routes).matches(scope)
    assert (match is Match.FULL) is (first is not None)
    if first is not None:
        assert found == {**first.matches(scope)[1], "torpor.found": first}


async def test_a_mount_takes_any_method() -> None:
    """What is mounted under a path is asked whatever the method, before the routes that come after it."""
    asked = []

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append((scope["method"], scope["root_path"]))

    directory = Directory([Mount("/-", mounted), Route("/{name}/ready", nothing, methods=["GET", "POST"])])
    for method in ("GET", "POST"):
        scope = asking(method, "/-/ready")
        match, found = directory.matches(scope)
        assert match is Match.FULL
        scope.update(found)
        await directory.handle(scope, None, None)  # type: ignore[arg-type]  # nobody calls them
    assert asked == [("GET", "/-"), ("POST", "/-")]


@pytest.mark.parametrize(
    "scope",
    [
        asking("POST", "/orders"),
        asking("GET", "/nowhere"),
        asking("GET", "*"),
        asking("GET", "/orders", root_path="/shop"),
        {**asking("GET", "/orders"), "type": "websocket"},
    ],
    ids=["method", "path", "no path", "root path", "socket"],
)
def test_what_it_does_not_know_goes_on_to_the_list(scope: dict[str, Any]) -> None:
    """Another method, another path, a root path and a socket are none of its business."""
    directory = Directory([Route("/orders", nothing, methods=["GET"])])
    assert directory.matches(scope) == (Match.NONE, {})


def test_it_has_no_address_of_its_own() -> None:
    """Names are looked up among the routes behind it."""
    with pytest.raises(NoMatchFound):
        Directory([]).url_path_for("orders")
