"""A CloudEvent in binary mode, read from the headers as they came: the common case, without a detour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.cloudevents.envelope import STRUCTURED, assemble
from torpor.kernel.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message

SOURCE_KEY = "key"  # the attribute in which Knative's KafkaSource hands on a record's key
_CONTENT_TYPE = "datacontenttype"
_PREFIX = b"ce-"
_ATTRIBUTES = (
    "id", "type", "source", "specversion", "time", "subject", "partitionkey", "key", "dataschema", "sequence",
    "traceparent", "tracestate", "correlationid", "causationid", "dataversion",
)  # fmt: skip
_BESIDE = {
    "content-type": _CONTENT_TYPE, "traceparent": "traceparent", "tracestate": "tracestate",
    # These tell nothing of an event.
    "accept": "", "accept-encoding": "", "connection": "", "content-length": "", "host": "", "user-agent": "",
}  # fmt: skip
# Headers in lower case, and as Go and others write them, and the attribute that each of them is.
_KNOWN = {
    spelling: attribute
    for header, attribute in ({f"ce-{name}": name for name in _ATTRIBUTES} | _BESIDE).items()
    for spelling in (header.encode(), header.title().encode())
}


def event_of(fields: Sequence[tuple[bytes, bytes]], body: bytes, topic: str) -> Message | None:
    """The message of an event as most are sent: attributes that everybody knows, once each, and not escaped. None for
    any other, which `decode_all` reads or refuses."""
    envelope: dict[str, str] = {}
    for name, value in fields:
        attribute = _KNOWN.get(name)
        if attribute:
            if attribute in envelope:
                return None
            envelope[attribute] = value.decode("latin-1")
        elif attribute is None and _may_tell(name):
            return None
    text = "".join(envelope.values())
    if "%" in text or '"' in text or envelope.get(_CONTENT_TYPE, "")[: len(STRUCTURED)].lower() == STRUCTURED:
        return None
    try:
        message = assemble(envelope, body, topic)
    except DecodeError:
        return None
    if message.key is None:
        message.key = message.attributes.get(SOURCE_KEY)
    return message


def _may_tell(name: bytes) -> bool:
    """Whether a header is an attribute that few send, or is written as few write it."""
    lowered = name.lower()
    return lowered.startswith(_PREFIX) or lowered in _KNOWN
