"""The ASGI application: one FastAPI with the routes of every service."""

from __future__ import annotations

import inspect
import re
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError

from torpor.adapters.http.edge import Edge
from torpor.adapters.http.idempotency import Once, documentation, once_of, route_of
from torpor.adapters.http.operations import Operations
from torpor.adapters.http.validation import refuse
from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torpor.runtime.host import Host
    from torpor.runtime.plan import RouteBinding

_ONCE, _HANDED = "torpor_once", Annotated[Any, Depends(once_of)]  # how the endpoint of a request with a key gets it
_PARAMETER = re.compile(r"{\w+(:\w+)?}")


def build_app(
    hosts: Sequence[Host],
    *,
    body_limit: int,
    asyncapi: Callable[[], dict[str, Any]],
    metrics: Callable[[], tuple[bytes, str]],
    topology: Callable[[], dict[str, Any]],
    title: str | None = None,
    version: str = "0.1.0",
) -> FastAPI:
    """The application of some hosts, which it neither starts nor stops.

    It carries their routes by FastAPI's own rules, and Torpor's own under `/-/`. Raises ConfigurationError with
    every route that cannot be served.
    """
    app = FastAPI(
        title=title or ", ".join(host.name for host in hosts) or "Torpor",
        version=version,
        # A trace is to go on over the broker; FastAPI's own ends with the request, and would double ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    operations = Operations(hosts, asyncapi=asyncapi, metrics=metrics, topology=topology)
    app.mount("/-", operations.router())
    app.add_exception_handler(RequestValidationError, refuse)  # type: ignore[arg-type]  # the error of its class
    bindings = _add_routes(app, hosts)
    app.add_middleware(Edge, body_limit=body_limit, bindings=bindings)
    return app


def _add_routes(app: FastAPI, hosts: Sequence[Host]) -> dict[Any, RouteBinding]:
    """Adds every host's routes in the order of their declaration; returns their bindings by endpoint."""
    documentation = (app.openapi_url, app.docs_url, app.redoc_url, app.swagger_ui_oauth2_redirect_url)
    taken = {("GET", path): "FastAPI's documentation" for path in documentation}
    bindings: dict[Any, RouteBinding] = {}
    problems: list[str] = []
    for host in hosts:
        for binding in host.plan.routes:
            handler = f"{binding.handled.name!r} ({binding.handled.location})"
            other = taken.setdefault((binding.method, _PARAMETER.sub(r"{\1}", binding.path)), handler)
            if other is not handler:
                problems.append(
                    f"Handler {handler} answers {binding.method} {binding.path}, and so does {other}. "
                    "Change one path, or give one service a prefix."
                )
            endpoint = _endpoint(host, binding)
            try:
                app.router.add_api_route(
                    binding.path, endpoint, methods=[binding.method], **binding.options, **_once(host, binding)
                )
            except (RuntimeError, AssertionError, TypeError, ValueError) as error:
                problems.append(f"Handler {handler} is no route for FastAPI: {_on_one_line(error)}")
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


def _endpoint(host: Host, binding: RouteBinding) -> Callable[..., Any]:
    """What FastAPI calls: it looks like the handler without what Torpor fills, and hands over to the host."""
    respond, parameters = host.respond, list(binding.foreign)

    async def endpoint(**arguments: Any) -> Any:
        return await respond(binding, arguments)

    async def endpoint_once(**arguments: Any) -> Any:
        once: Once | None = arguments.pop(_ONCE)
        return await respond(binding, arguments, None if once is None else await once.open(binding))

    if binding.idempotency is not None:
        endpoint = endpoint_once
        parameters.append(inspect.Parameter(_ONCE, inspect.Parameter.KEYWORD_ONLY, annotation=_HANDED))
    handler = binding.handled.function
    endpoint.__name__ = binding.handled.name.partition(".")[2]
    endpoint.__doc__ = handler.__doc__
    endpoint.__module__ = handler.__module__
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # FastAPI reads it
        # By keyword, because what Torpor fills has left gaps among the defaults.
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters],
        return_annotation=None if binding.returns is NoneType else binding.returns,
    )
    return endpoint


def _on_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
