"""Messages as they are sent and received, and their headers: lines between the version of NATS and an empty line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.cloudevents import NATS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Raw = tuple[bytes, bytes, bytes, bytes]  # subject, reply, head, payload

STATUS, DESCRIPTION, PIN = "Status", "Description", "Nats-Pin-Id"

_VERSION = "NATS/1.0"
_SPACE = " \t\r\n\v\f"
_EMPTY_LINE = b"\r\n\r\n"
_PASSED_OVER = ""
_NAMES = {**NATS.names, "Nats-Msg-Id": _PASSED_OVER, PIN: _PASSED_OVER}


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


def head_of(headers: Mapping[str, str]) -> bytes:
    """Headers as they are sent. Names and values are printable."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"{_VERSION}\r\n{''.join(lines)}\r\n".encode()


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
    if not head.endswith(_EMPTY_LINE) or not head.isascii() or b"%" in head or b'"' in head:
        return None
    first, *lines, _, _ = head.decode().split("\r\n")
    if first != _VERSION or head.count(b": ") != len(lines):
        return None
    try:
        envelope = {_NAMES[name]: value for name, _, value in [line.partition(": ") for line in lines]}
    except KeyError:
        return None
    values = "".join(envelope.values())
    if " " in values or not values.isprintable():
        return None
    envelope.pop(_PASSED_OVER, None)
    return envelope


def _is_name(name: str) -> bool:
    return name.isascii() and "".join(name.split()) == name
