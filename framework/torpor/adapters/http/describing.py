"""What OpenAPI says of the routes, beside what FastAPI knows: the problems that each may answer with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.http.answer import PROBLEM
from torpor.adapters.http.turns import describe_turns
from torpor.kernel.cached import Cached
from torpor.kernel.limit import BodyLimit
from torpor.kernel.representation import Deprecated, ETags
from torpor.runtime.timeout import Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastapi import FastAPI
    from starlette.routing import BaseRoute

    from torpor.runtime.plan import RouteBinding

_ERRORS = 400
_NAME = "Problem"
_SCHEMA = {
    "title": _NAME,
    "description": "What is wrong with a request, by RFC 9457.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"description": "A sentence, or of a request that is not valid the list of its mistakes."},
        "instance": {"type": "string", "format": "uri-reference"},
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "required": ["type", "title", "status", "detail", "instance", "trace_id"],
}
_CONTENT = {PROBLEM: {"schema": {"$ref": f"#/components/schemas/{_NAME}"}}}
_UNUSED = ("HTTPValidationError", "ValidationError")


def describe_problems(app: FastAPI, bindings: Mapping[Any, RouteBinding]) -> None:
    """Has the application's OpenAPI document tell of them."""
    document = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            routes: Any = app.routes
            describe(document(), routes, bindings)
        return document()

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's own documentation does


def describe(schema: dict[str, Any], routes: Sequence[BaseRoute], bindings: Mapping[Any, RouteBinding]) -> None:
    """Adds to a document of some routes what it does not tell."""
    for route in routes:
        binding = bindings.get(getattr(route, "endpoint", None))
        operation = schema["paths"].get(getattr(route, "path_format", ""), {})
        operation = None if binding is None else operation.get(binding.method.lower())
        if binding is None or operation is None:
            continue
        describe_turns(binding, operation)
        responses = operation["responses"]
        rules = binding.access.rules
        if rules is not None and rules.of(Deprecated) is not None:
            operation["deprecated"] = True
        is_tagged = rules is not None and (rules.of(ETags) is not None or rules.of(Cached) is not None)
        if is_tagged and binding.method == "GET":
            responses.setdefault("304", {"description": "The client has it."})
        for status, told in _problems_of(binding, has_body="requestBody" in operation):
            responses.setdefault(status, {"description": told})
        for status, response in responses.items():
            is_invalid = status == "422" and _is_fastapis(response)
            if is_invalid or ("content" not in response and (status == "default" or int(status[0]) * 100 >= _ERRORS)):
                response["content"] = _CONTENT
    if schema["paths"]:
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for name in _UNUSED:
            schemas.pop(name, None)
        schemas.setdefault(_NAME, _SCHEMA)


def _problems_of(binding: RouteBinding, *, has_body: bool) -> Iterator[tuple[str, str]]:
    """The problems that a route's declaration alone tells of; whatever else comes is one too."""
    access = binding.access
    if access.auth is not None:
        yield "401", "Who calls is not known."
        yield "403", "The caller may not do this."
    if has_body:
        yield "400", "The body cannot be read."
    if has_body or (access.rules is not None and access.rules.of(BodyLimit) is not None):
        yield "413", "The body is too large."
    if access.rules is not None:
        if access.rules.limits:
            yield "429", "Asked too often. Retry-After says when to come again."
        if access.rules.of(Timeout) is not None:
            yield "504", "It took too long, and was given up."
    yield "503", "The service, or one that it needs, does not answer. Try again soon."
    yield "default", "Whatever else is wrong."


def _is_fastapis(response: dict[str, Any]) -> bool:
    shown = response.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(shown.get("$ref", "").endswith("/HTTPValidationError"))
