"""Shapes: what others rely on of a contract, as plain JSON that can be kept in a file and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from torpor.contract.payload import content_type_of
from torpor.kernel.media import is_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.ports.payload import PayloadCodec


class Shape(TypedDict):
    """One contract, as one service uses it. `oldest` is the oldest version that it reads, and `schema` is the JSON
    Schema of the payload, or None."""

    publishes: bool
    handles: bool
    topic: str
    key: str | None
    type: str
    content_type: str
    version: int
    oldest: int
    schema: Mapping[str, Any] | None


def shape_of(contract: type[Any], *, publishes: bool, handles: bool) -> Shape:
    """The shape of a contract that has a topic."""
    declared: Any = contract
    version: int = declared.__torpor_version__
    return Shape(
        publishes=publishes,
        handles=handles,
        topic=declared.__torpor_topic__,
        key=declared.__torpor_key__,
        type=declared.__torpor_type__ or declared.__torpor_topic__,
        content_type=content_type_of(contract),
        version=version,
        oldest=min(declared.__torpor_upcasts__, default=version) if is_json(content_type_of(contract)) else 1,
        schema=schema_of(contract),
    )


def answer_shape(request: type[Any], *, publishes: bool, handles: bool) -> Shape:
    """The shape of what a request is answered with."""
    from torpor.contract.answer import AnswerCodec, answer_of

    codec = AnswerCodec(answer_of(request))
    asked = shape_of(request, publishes=publishes, handles=handles)
    return Shape(
        publishes=publishes,
        handles=handles,
        topic=asked["topic"],
        key=None,
        type=f"{asked['type']}.answer",
        content_type=codec.content_type,
        version=1,
        oldest=1,
        schema=codec.schema(),
    )


def schema_of(contract: type[Any]) -> Mapping[str, Any] | None:
    """The JSON Schema of a contract's payload, or None when its codec has none."""
    codec: PayloadCodec | None = contract.__torpor_codec__
    if codec is not None:
        return codec.schema(contract)
    schema: dict[str, Any] = contract.model_json_schema()
    return schema
