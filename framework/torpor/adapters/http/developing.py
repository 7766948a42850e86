"""What helps who writes a service, and helps who attacks it: there in `torpor dev`, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse
from starlette.routing import Match

if TYPE_CHECKING:
    from starlette.types import Scope

    from torpor.runtime.plan import RouteBinding

DEVELOPMENT = "torpor_is_in_development"  # in the application's state, where `torpor dev` runs it


class DevelopersPage(HTMLResponse):
    """A page for developers: a route that returns one is not there for anybody else."""


class DevelopersRoute(APIRoute):
    """A route that is there in development alone: elsewhere its method is not among those that a path allows."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it takes a request."""
        return super().matches(scope) if is_in_development(scope) else (Match.NONE, {})


def is_in_development(scope: Scope) -> bool:
    """Whether `torpor dev` runs the application that a request has come to."""
    return bool(getattr(scope["app"].state, DEVELOPMENT, False))


def showing(binding: RouteBinding) -> dict[str, Any]:
    """What FastAPI is told of a route for developers alone."""
    returns = binding.returns
    is_theirs = isinstance(returns, type) and issubclass(returns, DevelopersPage)
    return {"route_class_override": DevelopersRoute} if is_theirs else {}
