"""Binary mode, in which the attributes are headers; and the way to the modes in which they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.cloudevents.envelope import (
    BATCHED,
    DEFAULT_SOURCE,
    OWN_FIELDS,
    SPECVERSION,
    STRUCTURED,
    assemble,
    checked,
    faulty,
    foreign,
)
from torpor.kernel.cloudevents.style import HTTP, as_it_is, escape, unescape
from torpor.kernel.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.kernel.cloudevents.style import HeaderStyle
    from torpor.kernel.message import Message

_TRACE = ("traceparent", "tracestate")


def encode(message: Message, style: HeaderStyle = HTTP) -> dict[str, str]:
    """The headers of a message in binary mode; its body is `message.data`. Raises Rejected for an attribute that no
    header can carry."""
    prefix = style.prefix
    as_value = escape if style.is_escaped else as_it_is
    headers = {
        f"{prefix}specversion": SPECVERSION,
        f"{prefix}id": as_value(message.id),
        f"{prefix}type": as_value(message.type or message.topic),
        f"{prefix}source": DEFAULT_SOURCE,
    }
    if message.key is not None:
        headers[f"{prefix}partitionkey"] = as_value(message.key)
    known = style.headers
    for name, value in message.attributes.items():
        header = known.get(name)
        if header is not None:
            headers[header] = as_value(value)
        elif name == "datacontenttype":
            headers[style.content_type] = value
        elif name not in OWN_FIELDS:
            headers[prefix + checked(name, message)] = as_value(value)
    return headers


def decode(
    headers: Mapping[str, str] | None, data: bytes, *, topic: str, position: str, style: HeaderStyle = HTTP
) -> tuple[Message, str | None]:
    """The message in headers and bytes, in binary or structured mode, and why it cannot be read, or None.

    `position` is a stable name of the place where the message lies; it is the id of a message that has none. With a
    fault, the message holds the bytes and the headers as they came.
    """
    try:
        return _read(headers or {}, data, topic=topic, position=position, style=style), None
    except DecodeError as fault:
        return faulty(headers or {}, data, topic=topic, position=position), str(fault)


def decode_all(
    headers: Mapping[str, str] | None, data: bytes, *, topic: str, position: str, style: HeaderStyle = HTTP
) -> list[tuple[Message, str | None]]:
    """As `decode`, and all messages of a batch, each with a fault of its own. A batch that is no JSON array is one
    message with a fault. The position of a batch's message is that of the batch, a slash and its index."""
    content_type = next((value for name, value in (headers or {}).items() if name.lower() == "content-type"), "")
    if not content_type.lower().startswith(BATCHED):
        return [decode(headers, data, topic=topic, position=position, style=style)]
    from torpor.kernel.cloudevents.structured import split

    try:
        parts = split(content_type.lower(), data)
    except DecodeError as fault:
        return [(faulty(headers or {}, data, topic=topic, position=position), str(fault))]
    others = {name: value for name, value in (headers or {}).items() if name.lower() != "content-type"}
    single = {**others, "content-type": f"{STRUCTURED}+json"}
    return [
        decode(single, part, topic=topic, position=f"{position}/{index}", style=style)
        for index, part in enumerate(parts)
    ]


def _read(headers: Mapping[str, str], data: bytes, *, topic: str, position: str, style: HeaderStyle) -> Message:
    prefix, known = style.prefix, style.names
    skip = len(prefix)
    as_text = unescape if style.is_escaped else as_it_is
    envelope: dict[str, str] = {}
    others: dict[str, str] = {}
    for header, value in headers.items():
        name = known.get(header)
        if name is None:
            name = header.lower()
            if not name.startswith(prefix):
                others[name] = value
                continue
            name = name[skip:]
        envelope[name] = as_text(value) if "%" in value or value[:1] == '"' else value
    content_type = others.get("content-type")
    if content_type is not None and content_type[: len(STRUCTURED)].lower() == STRUCTURED:
        from torpor.kernel.cloudevents.structured import read

        envelope, data = read(content_type.lower(), data)
    elif not envelope:
        return foreign(others, data, topic=topic, position=position)
    elif content_type is not None and (style.content_type == "content-type" or "datacontenttype" not in envelope):
        envelope["datacontenttype"] = content_type
    if others:
        for name in _TRACE:
            if name in others:
                envelope.setdefault(name, others[name])
    return assemble(envelope, data, topic)
