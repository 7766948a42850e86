"""How the protocols write the envelope into headers."""

from __future__ import annotations

from torpor.kernel.errors import DecodeError, Rejected

_FIELDS = ("id", "specversion", "type", "partitionkey")
_KNOWN = (
    "source", "subject", "time", "dataschema", "sequence", "traceparent", "tracestate", "correlationid", "causationid",
    "dataversion",
)  # fmt: skip
_HEX = frozenset("0123456789abcdefABCDEF")


class HeaderStyle:
    """How a protocol's binding writes the envelope into headers."""

    __slots__ = ("content_type", "headers", "is_escaped", "names", "prefix")

    def __init__(self, prefix: str, *, content_type: str, is_escaped: bool = True) -> None:
        self.prefix = prefix
        self.content_type = content_type  # the header that carries `datacontenttype`
        self.is_escaped = is_escaped  # values are percent-encoded printable ASCII
        # Most attributes are found here, and neither checked nor taken apart.
        self.names = {prefix + name: name for name in (*_FIELDS, *_KNOWN)}
        self.headers = {name: prefix + name for name in _KNOWN}
        if content_type.startswith(prefix):
            self.headers["datacontenttype"] = content_type
            self.names[content_type] = "datacontenttype"


HTTP = HeaderStyle("ce-", content_type="content-type")
NATS = HeaderStyle("ce-", content_type="ce-datacontenttype")
KAFKA = HeaderStyle("ce_", content_type="content-type", is_escaped=False)


def as_it_is(value: str) -> str:
    """The value, where a protocol needs no escape."""
    return value


def escape(value: str) -> str:
    """A value as printable ASCII: spaces, quotes, percent signs and all beyond are percent-encoded as UTF-8. Raises
    Rejected for what has no UTF-8."""
    if value.isascii() and value.isprintable() and " " not in value and '"' not in value and "%" not in value:
        return value
    try:
        return "".join(
            c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{byte:02X}" for byte in c.encode()) for c in value
        )
    except UnicodeEncodeError as error:
        raise Rejected(f"An attribute holds text that is not Unicode ({error.reason}), and no header can.") from error


def unescape(value: str) -> str:
    """A value that was quoted, percent-encoded, both or neither. Raises DecodeError for what is no UTF-8."""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _unquoted(value[1:-1])
    if "%" not in value:
        return value
    head, *parts = value.split("%")
    try:
        octets = bytearray(head.encode())
        for part in parts:
            code = part[:2]
            if len(code) == 2 and _HEX.issuperset(code):
                octets.append(int(code, 16))
                octets += part[2:].encode()
            else:
                octets += f"%{part}".encode()
        return octets.decode()
    except UnicodeError as error:
        raise DecodeError(f"Header value {value[:80]!r} is percent-encoded, but not as UTF-8.") from error


def _unquoted(value: str) -> str:
    """A quoted string's text: a backslash stands for the character after it."""
    characters = iter(value)
    return "".join(next(characters, "") if c == "\\" else c for c in characters)
