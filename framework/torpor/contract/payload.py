"""Payloads of contracts: their fields, their content type, and the codecs that come with Torpor.

JSON by pydantic is not among them: it is what a contract has that names none, and stands in `codec.py`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torpor.kernel.media import JSON, OCTETS

if TYPE_CHECKING:
    from torpor.ports.payload import PayloadCodec

VERSION = "dataversion"  # the CloudEvents extension that carries a contract's version, unless it is 1


class Raw:
    """The codec of a payload that is bytes: those of the contract's only field, which is annotated `bytes`.

    ```python
    class PhotoTaken(Event, topic="photos.taken", codec=Raw("image/png")):
        image: bytes
    ```

    A message of another content type is parked. `Raw()` takes any, and writes `application/octet-stream`. Such an
    event has no field to be its key: give `tx.publish` one, and ask for `Message` to see it.
    """

    __slots__ = ("content_type",)

    def __init__(self, content_type: str = OCTETS) -> None:
        self.content_type = content_type

    def encode(self, payload: Any) -> bytes:
        return bytes(getattr(payload, _field(type(payload))))

    def decode(self, contract: type[Any], data: bytes, dataschema: str | None) -> Any:
        return contract(**{_field(contract): data})

    def dataschema(self, contract: type[Any]) -> str | None:
        return None

    def schema(self, contract: type[Any]) -> dict[str, Any]:
        return {"type": "string", "format": "binary", "contentMediaType": self.content_type}

    def __repr__(self) -> str:
        return f"Raw({self.content_type!r})"


class StructJson:
    """JSON by msgspec, of contracts that are Structs. Who declares one has msgspec installed, and has imported it."""

    __slots__ = ("_decoders", "_encoder", "content_type")

    def __init__(self) -> None:
        self.content_type = JSON
        self._encoder: Any = None
        self._decoders: dict[type[Any], Any] = {}  # of each class that was read

    def encode(self, payload: Any) -> bytes:
        if self._encoder is None:
            import msgspec

            self._encoder = msgspec.json.Encoder()
        encoded: bytes = self._encoder.encode(payload)
        return encoded

    def decode(self, contract: type[Any], data: bytes, dataschema: str | None) -> Any:
        decoder = self._decoders.get(contract)
        if decoder is None:
            import msgspec

            decoder = self._decoders[contract] = msgspec.json.Decoder(contract)
        return decoder.decode(data)

    def dataschema(self, contract: type[Any]) -> str | None:
        return None

    def schema(self, contract: type[Any]) -> dict[str, Any]:
        import msgspec

        schema = msgspec.json.schema(contract)
        config: Any = contract.__struct_config__
        if config.omit_defaults:
            for field in schema["$defs"].get(contract.__name__, {}).get("properties", {}).values():
                field.pop("default", None)  # what is not always written is not told as written
        return schema

    def __repr__(self) -> str:
        return "StructJson()"


STRUCTS = StructJson()


def is_struct(cls: type[Any]) -> bool:
    """Whether a class is a msgspec Struct, found out without msgspec."""
    return hasattr(cls, "__struct_fields__")


def fields_of(contract: type[Any]) -> dict[str, Any]:
    """The names of a contract's fields, with their types as far as they are known."""
    if hasattr(contract, "model_fields"):
        return {name: field.annotation for name, field in contract.model_fields.items()}
    annotations = {name: hint for cls in reversed(contract.__mro__) for name, hint in _annotations(cls).items()}
    names = getattr(contract, "__struct_fields__", tuple(annotations))
    return {name: annotations.get(name) for name in names}


def content_type_of(contract: type[Any]) -> str:
    """The content type of a contract's payloads."""
    codec: PayloadCodec | None = contract.__torpor_codec__
    return JSON if codec is None else codec.content_type


def _field(contract: type[Any]) -> str:
    (field,) = fields_of(contract)
    return field


def _annotations(cls: type[Any]) -> dict[str, Any]:
    return inspect.get_annotations(cls)
