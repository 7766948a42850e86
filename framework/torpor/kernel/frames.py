"""WebSocket frames, by RFC 6455 and without extensions: bytes to messages, and messages to bytes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Item = tuple[int, str | bytes]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

NORMAL, GOING_AWAY, PROTOCOL, INVALID, POLICY, TOO_BIG, FAILED, LATER = (
    1000, 1001, 1002, 1007, 1008, 1009, 1011, 1013,
)  # fmt: skip
NO_CODE = 1005  # the close frame said none
ABNORMAL = 1006  # there was no close frame
_SENT = frozenset({*range(1000, 1004), *range(1007, 1015)})
_OWN = range(3000, 5000)

_FINAL, _RESERVED, _OPCODE, _MASKED, _LENGTH = 0x80, 0x70, 0x0F, 0x80, 0x7F
_SHORT, _MEDIUM, _LONG = 125, 126, 127
_LONGEST_REASON = 123


class Violation(Exception):  # a close on its way to the connection, not an error that is told to anybody
    """Why a connection must be closed: the code, and a reason that its client is told."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def frame(opcode: int, payload: bytes) -> bytes:
    """A whole frame from a server, which masks nothing."""
    length = len(payload)
    if length <= _SHORT:
        return bytes((_FINAL | opcode, length)) + payload
    if length < 0x10000:
        return bytes((_FINAL | opcode, _MEDIUM)) + length.to_bytes(2, "big") + payload
    return bytes((_FINAL | opcode, _LONG)) + length.to_bytes(8, "big") + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a code that may not be sent is left out, and a long reason cut."""
    if code not in _SENT and code not in _OWN:
        return frame(CLOSE, b"")
    told = reason.encode("utf-8", "replace")[:_LONGEST_REASON].decode("utf-8", "ignore")
    return frame(CLOSE, code.to_bytes(2, "big") + told.encode())


def is_close_code(code: int) -> bool:
    """Whether an application may close with a code."""
    return code in _OWN or code in {NORMAL, GOING_AWAY, POLICY, FAILED, LATER}


def closing(payload: bytes) -> tuple[int, str]:
    """The code and the reason of a close frame. Raises Violation."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in _SENT and code not in _OWN):
        raise Violation(PROTOCOL, "a close frame without a code that may be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError as error:
        raise Violation(INVALID, "a reason that is not UTF-8") from error


class Decoder:
    """Reads what one client sends, however the bytes are cut. No message may have more bytes than `limit`."""

    __slots__ = ("_kind", "_limit", "_message", "_needed", "_rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest: bytearray | None = None  # a frame's beginning
        self._needed = 0  # bytes that it takes to know more
        self._message: bytearray | None = None  # a message's first fragments
        self._kind = 0

    def feed(self, data: bytes) -> Iterator[Item]:
        """The messages, as text or bytes, and the control frames that are whole now. Raises Violation behind the last
        one that is sound; the connection is of no use then."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data, self._rest = bytes(self._rest), None
        at = 0
        while True:
            first, start, end = self._head(data, at)
            if end > len(data):
                break
            payload = _unmasked(data[start:end], data[start - 4 : start])
            at = end
            item = self._taken(first, payload)
            if item is not None:
                yield item
        if at < len(data):
            self._rest, self._needed = bytearray(data[at:]), end - at

    def _head(self, data: bytes, at: int) -> tuple[int, int, int]:
        """The first byte of the frame at a place, and where its payload begins and ends, as far as it is known."""
        if len(data) < at + 2:
            return 0, 0, at + 2
        first, second = data[at], data[at + 1]
        self._check(first, second)
        length, start = second & _LENGTH, at + 2
        if length > _SHORT:
            width = 2 if length == _MEDIUM else 8
            if len(data) < start + width:
                return 0, 0, start + width
            length = int.from_bytes(data[start : start + width], "big")
            start += width
        so_far = 0 if self._message is None or first & CLOSE else len(self._message)
        if so_far + length > self._limit and not first & CLOSE:
            raise Violation(TOO_BIG, f"a message of more than {self._limit} bytes")
        return first, start + 4, start + 4 + length

    def _check(self, first: int, second: int) -> None:
        opcode = first & _OPCODE
        if first & _RESERVED:
            raise Violation(PROTOCOL, "a frame with reserved bits, and no extension")
        if not second & _MASKED:
            raise Violation(PROTOCOL, "a frame without a mask")
        if opcode in {CLOSE, PING, PONG}:
            if not first & _FINAL or second & _LENGTH > _SHORT:
                raise Violation(PROTOCOL, "a control frame that is long or in parts")
        elif opcode not in {CONTINUATION, TEXT, BINARY}:
            raise Violation(PROTOCOL, "a frame of no known kind")
        elif (opcode == CONTINUATION) is (self._message is None):
            raise Violation(PROTOCOL, "a fragment out of place")

    def _taken(self, first: int, payload: bytes) -> Item | None:
        """What is whole with one more frame."""
        opcode = first & _OPCODE
        if opcode & CLOSE:
            return opcode, payload
        if first & _FINAL and self._message is None:
            return opcode, _text(payload) if opcode == TEXT else payload
        if self._message is None:
            self._message, self._kind = bytearray(), opcode
        self._message += payload
        if not first & _FINAL:
            return None
        whole, self._message = bytes(self._message), None
        return self._kind, _text(whole) if self._kind == TEXT else whole


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise Violation(INVALID, "a text that is not UTF-8") from error


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    if not length:
        return payload
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")
