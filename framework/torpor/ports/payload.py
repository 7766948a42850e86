"""What is asked of a payload's codec: for formats of one's own, such as Avro or Protobuf with a registry of schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class PayloadCodec(Protocol):
    """How the payloads of contracts become bytes and back.

    It is called between a broker's bytes and a handler, on the event loop: so it does no I/O. What it needs of a
    registry of schemas, it has fetched before: when it was made, or in a `lifespan`. It keeps no state of a message,
    and may serve many contracts.
    """

    @property
    def content_type(self) -> str:
        """The `datacontenttype` of what `encode` makes, and the only one that is handed to `decode`; parameters such
        as a charset aside. A codec of `application/octet-stream` is handed bytes of any type."""

    def encode(self, payload: Any) -> bytes:
        """The bytes of a contract's instance."""

    def decode(self, contract: type[Any], data: bytes, dataschema: str | None) -> Any:
        """The contract's instance in bytes, which come from outside; `dataschema` is what their message says of
        itself. Whatever this raises, the message is parked with its bytes and the error's text as the reason."""

    def dataschema(self, contract: type[Any]) -> str | None:
        """The address of the schema that `encode` follows, to be written on each message, or None."""

    def schema(self, contract: type[Any]) -> Mapping[str, Any] | None:
        """The JSON Schema of a payload, by which `torpor check` compares versions and the AsyncAPI document tells of
        it; None when there is none."""
