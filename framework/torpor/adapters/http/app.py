"""The ASGI application: one FastAPI with the routes of every service."""

from __future__ import annotations

import inspect
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI
from starlette.routing import Route

from torpor.adapters.http.answer import AnsweringApp
from torpor.adapters.http.crossing import preflights
from torpor.adapters.http.describing import describe, describe_problems
from torpor.adapters.http.developing import DEVELOPMENT, showing
from torpor.adapters.http.directory import Directory
from torpor.adapters.http.edge import Edge
from torpor.adapters.http.events import HOSTS, streaming
from torpor.adapters.http.guarding import caller_in, guard_route
from torpor.adapters.http.idempotency import Once, documentation, once_of, route_of
from torpor.adapters.http.problems import tell_problems
from torpor.adapters.http.push import EVENTS
from torpor.adapters.http.ruling import Ruling
from torpor.adapters.http.turns import taking_turns, turned
from torpor.adapters.http.versioning import Versions, version_of
from torpor.kernel.errors import ConfigurationError
from torpor.kernel.versioned import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from torpor.adapters.http.counting import Counting
    from torpor.adapters.http.operations import Operations
    from torpor.adapters.http.push import PushEndpoint
    from torpor.kernel.auth import Auth
    from torpor.runtime.guard import Guard
    from torpor.runtime.host import Host
    from torpor.runtime.plan import RouteBinding

_ONCE, _HANDED = "torpor_once", Annotated[Any, Depends(once_of)]  # how the endpoint of a request with a key gets it
_CALLER, _CALLING = "torpor_caller", Annotated[Any, Depends(caller_in)]


class Application(FastAPI):
    """FastAPI behind an `Edge`, and without its own layers for what that does: failures, large bodies, their record."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.root_path or self.middleware_stack is None:
            await super().__call__(scope, receive, send)
        else:  # all that is left of it: telemetry is off
            scope["app"] = self
            await self.middleware_stack(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The layers around the routes."""
        layer: Any = super().build_middleware_stack()
        outermost: Any = self.user_middleware[0].cls
        while outermost is Edge and not isinstance(layer, Edge):  # an application of somebody's may be around it
            layer = layer.app
        return layer  # type: ignore[no-any-return]  # FastAPI's own, each around the next


def build_app(
    hosts: Sequence[Host],
    *,
    operations: Operations,
    body_limit: int,
    guard_of: Callable[[Auth], Guard] | None = None,
    push: PushEndpoint | None = None,
    counting: Counting | None = None,
    version: str = "0.1.0",
) -> FastAPI:
    """The application of some hosts, which it neither starts nor stops.

    It carries their routes by FastAPI's own rules, and the operations under `/-/`. Raises ConfigurationError with
    every route that cannot be served.
    """
    app = Application(
        title=", ".join(host.name for host in hosts) or "Torpor",
        version=version,
        # A trace is to go on over the broker; FastAPI's own ends with the request, and would double ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    setattr(app.state, HOSTS, hosts)
    if push is not None:
        app.mount(EVENTS.rstrip("/"), AnsweringApp(push.answer))
    app.mount("/-", AnsweringApp(operations.answer))
    tell_problems(app)
    versions = Versions()
    bindings = _add_routes(app, hosts, guard_of, ruling=Ruling(counting), versions=versions)
    app.router.routes.extend(preflights(bindings.values()))
    describe_problems(app, bindings)
    versions.finish(app, partial(describe, bindings=bindings))
    if push is not None:  # behind the routes, so that a service may have this one itself
        app.router.routes.append(
            Route("/", AnsweringApp(push.answer), methods=["POST", "OPTIONS"], include_in_schema=False)
        )
    app.router.routes.insert(0, Directory(app.router.routes))
    app.add_middleware(Edge, body_limit=body_limit, bindings=bindings)
    return app


def open_to_developers(app: FastAPI) -> None:
    """Has an application show what helps who writes it, and helps who attacks it."""
    setattr(app.state, DEVELOPMENT, True)


def _add_routes(
    app: FastAPI,
    hosts: Sequence[Host],
    guard_of: Callable[[Auth], Guard] | None,
    *,
    ruling: Ruling,
    versions: Versions,
) -> dict[Any, RouteBinding]:
    """Adds every host's routes in the order of their declaration; returns their bindings by endpoint."""
    documentation = (app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url)
    taken = {("GET", path): "FastAPI's documentation" for path in documentation}
    bindings: dict[Any, RouteBinding] = {}
    problems: list[str] = []
    for host in hosts:
        for binding in host.plan.routes:
            handler = f"{binding.handled.name!r} ({binding.handled.location})"
            holder = handler if version_of(binding) is None else f"{host.name!r}, in versions"
            other = taken.setdefault((binding.method, shape_of(binding.path)), holder)
            if other != holder:
                problems.append(
                    f"Handler {handler} answers {binding.method} {binding.path}, and so does {other}. "
                    "Change one path, or give one service a prefix."
                )
            endpoint = _endpoint(host, binding)
            try:
                app.router.add_api_route(
                    binding.path,
                    endpoint,
                    methods=[binding.method],
                    **{**streaming(binding), **showing(binding), **binding.options},
                    **_once(host, binding),
                )
            except (RuntimeError, AssertionError, TypeError, ValueError) as error:
                problems.append(f"Handler {handler} is no route for FastAPI: {_on_one_line(error)}")
            else:
                route: Any = app.router.routes[-1]
                ruling.around_handler(route, binding, host)
                if binding.access.auth is not None:
                    guard_route(app, guard_of, binding)
                ruling.around_guard(route, binding, host)
                versions.take(app.router.routes, binding)
            bindings[endpoint] = binding
    if problems:
        raise ConfigurationError(problems)
    return bindings


def _once(host: Host, binding: RouteBinding) -> dict[str, Any]:
    """What FastAPI is told of a route that answers a key once."""
    policy = binding.idempotency
    if policy is None:
        return {}
    return {"route_class_override": route_of(host, binding, policy), "openapi_extra": documentation(policy)}


def _endpoint(host: Host, binding: RouteBinding) -> Any:
    """What FastAPI calls: it looks like the handler without what Torpor fills, and hands over to the host."""
    respond = host.responder(binding.handled).respond
    parameters, turns = turned(binding)

    async def endpoint(**arguments: Any) -> Any:
        return await respond(arguments, caller=arguments.pop(_CALLER, None))

    async def endpoint_once(**arguments: Any) -> Any:
        once: Once | None = arguments.pop(_ONCE)
        caller = arguments.pop(_CALLER, None)
        return await respond(arguments, None if once is None else await once.open(binding), caller=caller)

    if binding.idempotency is not None:
        endpoint = endpoint_once
        parameters.append(inspect.Parameter(_ONCE, inspect.Parameter.KEYWORD_ONLY, annotation=_HANDED))
    if binding.access.auth is not None:
        parameters.append(inspect.Parameter(_CALLER, inspect.Parameter.KEYWORD_ONLY, annotation=_CALLING))
    called: Any = taking_turns(endpoint, turns) if turns else endpoint
    handler = binding.handled.function
    called.__name__ = binding.handled.name.partition(".")[2]
    called.__doc__ = handler.__doc__
    called.__module__ = handler.__module__
    called.__signature__ = inspect.Signature(  # FastAPI reads it
        # By keyword, because what Torpor fills has left gaps among the defaults.
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters],
        return_annotation=None if binding.returns is NoneType else binding.returns,
    )
    return called


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
