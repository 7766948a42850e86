"""Values that fit a JSON schema, for a request to try."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.runtime.plan import RouteBinding

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "email": "someone@example.com",
    "uri": "https://example.com",
    "uuid": "0193d6a0-0000-7000-8000-000000000001",
}
_DEEPEST = 6


def curl(binding: RouteBinding, origin: str) -> str:
    """A command that calls a route, with a body when the route takes a model."""
    path = binding.path
    for parameter in binding.foreign:
        path = path.replace(f"{{{parameter.name}}}", "1" if parameter.annotation is int else parameter.name)
    bodies = [parameter.annotation for parameter in binding.foreign if _is_model(parameter.annotation)]
    method = "" if binding.method == "GET" else f"-X {binding.method} "
    if not bodies:
        return f"curl {method}{origin}{path}"
    body = json.dumps(sample(bodies[0].model_json_schema()))
    return f"curl {method}{origin}{path} -H 'content-type: application/json' -d '{body}'"


def sample(schema: Mapping[str, Any]) -> Any:
    """A value that fits a schema, as far as types, formats, bounds, choices and examples go."""
    return _Sampler(schema.get("$defs", {})).of(schema, "text")


class _Sampler:
    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known
        self._depth = 0

    def of(self, schema: Mapping[str, Any], name: str) -> Any:
        """A value of a field: what the schema shows, or else what its type allows, a text being the field's name."""
        if "$ref" in schema:
            schema = self._known.get(schema["$ref"].rpartition("/")[2], {})
        given = _given(schema)
        if given is not None or self._depth > _DEEPEST:
            return given
        self._depth += 1
        value = self._made(schema, name)
        self._depth -= 1
        return value

    def _made(self, schema: Mapping[str, Any], name: str) -> Any:
        choices = (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ()))
        if choices:
            return self.of(choices[0], name)
        if schema.get("type") == "object":
            inner = schema.get("properties", {})
            return {field: self.of(inner[field], field) for field in schema.get("required", inner)}
        if schema.get("type") == "array":
            return [self.of(schema.get("items", {}), name)]
        return _plain(schema, name)


def _plain(schema: Mapping[str, Any], name: str) -> Any:
    match schema.get("type"):
        case "integer" | "number":
            return max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return True
        case "null":
            return None
    return _FORMATS.get(schema.get("format", ""), name.ljust(schema.get("minLength", 0), "."))


def _given(schema: Mapping[str, Any]) -> Any:
    """What the schema itself shows: an example, a constant, a choice."""
    for name in ("examples", "enum"):
        if schema.get(name):
            return schema[name][0]
    return schema.get("const", schema.get("default"))


def _is_model(annotation: Any) -> bool:
    return hasattr(annotation, "model_json_schema")
