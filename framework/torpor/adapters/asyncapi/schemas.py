"""JSON Schemas as an AsyncAPI document takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from torpor.contract.answer import AnswerCodec
from torpor.contract.payload import is_struct

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.json_schema import JsonSchemaMode, JsonSchemaValue
    from pydantic_core import core_schema

SCHEMAS = "#/components/schemas/"


class Schemas(GenerateJsonSchema):
    """JSON Schema as AsyncAPI takes it: a discriminator is the name of a property."""

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        made = super().tagged_union_schema(schema)
        discriminator = made.get("discriminator")
        if isinstance(discriminator, dict):
            made["discriminator"] = discriminator["propertyName"]
        return made


def schema_of_type(hint: Any, *, mode: JsonSchemaMode = "validation") -> Mapping[str, Any]:
    """The schema of values of any type."""
    if getattr(hint, "__torpor_codec__", None) is not None or (isinstance(hint, type) and is_struct(hint)):
        return AnswerCodec(hint).schema() or {}
    return TypeAdapter[Any](hint).json_schema(schema_generator=Schemas, mode=mode)


def standing_alone(schema: Mapping[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema that was made by itself, with what it refers to added to the schemas under free names."""
    inner = schema.get("$defs", {})
    moved = {f"#/$defs/{key}": SCHEMAS + free(f"{name}.{key}", schemas) for key in inner}
    for key, value in inner.items():
        schemas[moved[f"#/$defs/{key}"].removeprefix(SCHEMAS)] = _pointing(value, moved)
    pointing: dict[str, Any] = _pointing({key: value for key, value in schema.items() if key != "$defs"}, moved)
    return pointing


def free(name: str, taken: Mapping[str, Any]) -> str:
    """A name that is not taken."""
    return name if name not in taken else free(f"{name}_", taken)


def _pointing(node: Any, moved: Mapping[str, str]) -> Any:
    """A copy whose references follow what has moved."""
    if isinstance(node, dict):
        return {
            key: moved.get(value, value) if key == "$ref" else _pointing(value, moved) for key, value in node.items()
        }
    return [_pointing(value, moved) for value in node] if isinstance(node, list) else node
