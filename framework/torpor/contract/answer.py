"""What a request is answered with: a type of any kind, read from `Request[...]`."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from torpor.contract.event import Request
from torpor.contract.payload import STRUCTS, is_struct
from torpor.kernel.errors import DecodeError
from torpor.kernel.media import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.ports.payload import PayloadCodec

UNSAID: Any = object()


def answer_of(request: type[Any]) -> Any:
    """The type between the brackets of `Request[...]`; UNSAID when there are none."""
    for cls in request.__mro__:
        made: Mapping[str, Any] = cls.__dict__.get("__pydantic_generic_metadata__") or {}
        if made.get("origin") is Request:
            return made["args"][0]
    return UNSAID


class AnswerCodec:
    """How answers of one type become bytes and back: by the type's own codec, or as JSON by pydantic."""

    __slots__ = ("_adapter", "_codec", "_type", "content_type")

    def __init__(self, type: Any) -> None:
        codec: PayloadCodec | None = getattr(type, "__torpor_codec__", None)
        self._type = type
        self._codec = STRUCTS if codec is None and isinstance(type, _CLASS) and is_struct(type) else codec
        self._adapter: TypeAdapter[Any] | None = None if self._codec else TypeAdapter(type)
        self.content_type = JSON if self._codec is None else self._codec.content_type

    def encode(self, answer: Any) -> bytes:
        """The bytes of an answer. Raises TypeError when it is of another type."""
        if self._adapter is None:
            encoded: bytes = self._codec.encode(answer) if self._codec else b""
            return encoded
        try:
            return self._adapter.dump_json(answer, by_alias=True, warnings="error")
        except ValueError as error:  # pydantic's
            raise TypeError(f"Expected {shown_type(self._type)}, got {type(answer).__name__}.") from error

    def decode(self, data: bytes) -> Any:
        """The answer in bytes. Raises DecodeError, which does not tell the values."""
        try:
            if self._adapter is not None:
                return self._adapter.validate_json(data)
            return self._codec.decode(self._type, data, None) if self._codec else None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "answer"
            raise DecodeError(f"{shown_type(self._type)} does not fit: {place}: {first['msg']}") from error
        except Exception as error:  # whatever a codec raises over bytes from outside
            raise DecodeError(f"{shown_type(self._type)} does not fit: {error}") from error

    def schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of an answer, or None when its codec has none."""
        if self._adapter is not None:
            return self._adapter.json_schema()
        return self._codec.schema(self._type) if self._codec else None


def told_as(value: Any) -> tuple[bytes, bool]:
    """A value of any kind as bytes, and whether they are text: a text and bytes as they are, all else as JSON."""
    if isinstance(value, str):
        return value.encode(), True
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), False
    codec: PayloadCodec | None = getattr(_CLASS(value), "__torpor_codec__", None)
    if codec is None and is_struct(_CLASS(value)):
        codec = STRUCTS
    if codec is not None:
        return codec.encode(value), codec.content_type == JSON
    return _anything().dump_json(value, by_alias=True), True


@cache
def _anything() -> TypeAdapter[Any]:
    return TypeAdapter(Any)


def shown_type(hint: Any) -> str:
    """A type as its author wrote it, or nearly."""
    return hint.__name__ if isinstance(hint, _CLASS) and not getattr(hint, "__args__", ()) else str(hint)


_CLASS = type
