"""Messages as they are sent and received, and their headers: lines between the version of NATS and an empty line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents import NATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.kernel.message import Message

    Raw = tuple[bytes, bytes, bytes, bytes]  # subject, reply, head, payload

STATUS, DESCRIPTION, PIN = "Status", "Description", "Nats-Pin-Id"

_VERSION = "NATS/1.0"
_SPACE = " \t\r\n\v\f"
_PASSED_OVER = ""
_NAMES = {**NATS.names, "Nats-Msg-Id": _PASSED_OVER, PIN: _PASSED_OVER}
_NAMED = {f"{name}:": attribute for name, attribute in _NAMES.items()}
_HEADERS = NATS.headers
# What a head that escapes nothing is without its plain characters, and how many words there are in it: two a header,
# with one space between them, behind the version.
_PLAIN = bytes(byte for byte in range(0x21, 0x7F) if byte not in b'%"')
_WORDS = {b"\r\n%b\r\n" % (b" \r\n" * many): 2 * many + 1 for many in range(1, 32)}
_is_plain = re.compile(r"[!#$&-~]*").fullmatch  # what needs no escape


class Answer:
    """One message that was asked for."""

    __slots__ = ("data", "head", "reply", "subject")

    def __init__(self, raw: Raw) -> None:
        subject, reply, self.head, self.data = raw
        self.subject = subject.decode()
        self.reply = reply.decode()

    @property
    def headers(self) -> dict[str, str]:
        """Its headers, with the server's own status among them."""
        return read_headers(self.head)


def frame(subject: str, payload: bytes, *, reply: str = "", head: bytes = b"") -> bytes:
    """A message as it is sent. No text may have a space or a line's end, and a head is `head_of`'s."""
    if head:
        sizes = b"%d %d" % (len(head), len(head) + len(payload))
        return b"HPUB %b %b %b\r\n%b%b\r\n" % (subject.encode(), reply.encode(), sizes, head, payload)
    return b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload)


def event_frame(message: Message, head: str, reply: str) -> bytes:
    """A CloudEvent as it is sent, with its `event_head`."""
    start = f"HPUB {message.topic} {reply} {len(head)} {len(head) + len(message.data)}\r\n{head}"
    return b"%b%b\r\n" % (start.encode(), message.data)


def head_of(headers: Mapping[str, str]) -> bytes:
    """Headers as they are sent. Names and values are printable."""
    return _head(headers).encode()


def event_head(message: Message) -> str:
    """The headers of a CloudEvent, in ASCII, with its id for the stream's duplicate window. Raises Rejected."""
    id, type, key, attributes = message.id, message.type, message.key, message.attributes
    if type and "source" in attributes and _is_plain(f"{id}{type}{key or ''}{''.join(attributes.values())}"):
        try:  # as most are
            lines = "".join([f"{_HEADERS[name]}: {value}\r\n" for name, value in attributes.items()])
        except KeyError:
            pass
        else:
            partition = "" if key is None else f"ce-partitionkey: {key}\r\n"
            return (
                f"{_VERSION}\r\nce-specversion: 1.0\r\nce-id: {id}\r\nce-type: {type}\r\n{partition}{lines}"
                f"Nats-Msg-Id: {id}\r\n\r\n"
            )
    headers = cloudevents.encode(message, NATS)
    headers["Nats-Msg-Id"] = headers["ce-id"]
    return _head(headers)


def read_headers(head: bytes) -> dict[str, str]:
    """The headers in a head; of several with one name the last. What is no header is left out."""
    first, *lines = head.decode("utf-8", "replace").split("\r\n")
    headers: dict[str, str] = {}
    if len(first) > len(_VERSION):
        status, _, told = first[len(_VERSION) :].strip(_SPACE).partition(" ")
        if status.isdigit():
            headers[STATUS] = status
        if told:
            headers[DESCRIPTION] = told
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and (name in _NAMES or _is_name(name := name.strip(_SPACE))):
            headers[name] = value.strip(_SPACE)
    return headers


def read_envelope(head: bytes) -> dict[str, str] | None:
    """The attributes of a CloudEvent in a head that holds nothing else and escapes nothing, as most do; or None."""
    many = _WORDS.get(head.translate(None, _PLAIN))
    if many is None:
        return None
    words = head.decode().split()
    if len(words) != many or words[0] != _VERSION:  # a header without a name or a value is one word
        return None
    try:
        envelope = dict(zip([_NAMED[word] for word in words[1::2]], words[2::2], strict=True))
    except KeyError:
        return None
    envelope.pop(_PASSED_OVER, None)
    return envelope


def _head(headers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"{_VERSION}\r\n{''.join(lines)}\r\n"


def _is_name(name: str) -> bool:
    return name.isascii() and "".join(name.split()) == name
