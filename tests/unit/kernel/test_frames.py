"""Frames: what `websockets` writes is read, what it reads is written, and nothing that comes does harm."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side

from torpor.kernel.frames import (
    ABNORMAL,
    BINARY,
    CLOSE,
    CONTINUATION,
    INVALID,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL,
    TEXT,
    TOO_BIG,
    Decoder,
    Violation,
    close_frame,
    closing,
    frame,
    is_close_code,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 100_000

texts = st.text(max_size=300).map(lambda text: (TEXT, text))
binaries = st.binary(max_size=70_000).map(lambda data: (BINARY, data))
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125))
messages = st.lists(st.one_of(texts, binaries, controls), max_size=8)


def sent(opcode: int, payload: bytes, *, is_final: bool = True) -> bytes:
    """A frame as a client of `websockets` writes it."""
    return Frame(Opcode(opcode), payload, fin=is_final).serialize(mask=True)


def in_parts(opcode: int, payload: bytes, cuts: Iterable[int]) -> bytes:
    """A message in fragments."""
    places = sorted({min(cut, len(payload)) for cut in cuts})
    pieces = [payload[a:b] for a, b in itertools.pairwise([0, *places, len(payload)])]
    last = len(pieces) - 1
    return b"".join(
        sent(opcode if number == 0 else CONTINUATION, piece, is_final=number == last)
        for number, piece in enumerate(pieces)
    )


def as_bytes(payload: str | bytes) -> bytes:
    """What a frame carries."""
    return payload.encode() if isinstance(payload, str) else payload


def read(data: bytes, cuts: Iterable[int] = (), limit: int = LIMIT) -> list[Any]:
    """What a decoder makes of bytes that come in pieces."""
    decoder, places = Decoder(limit), sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]
    return [item for piece in pieces for item in decoder.feed(piece)]


def outcome(data: bytes, cuts: Iterable[int]) -> tuple[list[Any], int | None]:
    """What a decoder makes of bytes, or the code of what is wrong with them."""
    try:
        return read(data, cuts, limit=200), None
    except Violation as violation:
        return [], violation.code


@given(messages, st.lists(st.integers(0, 200_000), max_size=20))
@settings(max_examples=200, deadline=None)
def test_what_the_oracle_writes_is_read_however_it_is_cut(given_messages: list[Any], cuts: list[int]) -> None:
    """Messages come out as they went in, wherever the network has cut the bytes."""
    data = b"".join(sent(opcode, as_bytes(payload)) for opcode, payload in given_messages)
    assert read(data, cuts) == given_messages


@given(st.one_of(texts, binaries), st.lists(st.integers(0, 70_000), max_size=6), st.lists(st.integers(0, 90_000)))
@settings(max_examples=100, deadline=None)
def test_fragments_become_one_message(message: tuple[int, Any], parts: list[int], cuts: list[int]) -> None:
    """A message in fragments, with a ping between two of them, is one message."""
    opcode, payload = message
    data = in_parts(opcode, as_bytes(payload), parts)
    assert read(data, cuts) == [message]
    if parts:
        head, first = Decoder(LIMIT), in_parts(opcode, as_bytes(payload), [])
        assert [*head.feed(sent(PING, b"now")), *head.feed(first)] == [(PING, b"now"), message]


@given(st.sampled_from([TEXT, BINARY, PING, PONG]), st.binary(max_size=70_000))
@settings(max_examples=100, deadline=None)
def test_the_oracle_reads_what_is_written(opcode: int, payload: bytes) -> None:
    """A client of `websockets` reads our frames of every length."""
    if opcode >= CLOSE:
        payload = payload[:125]
    client = Protocol(Side.CLIENT, state=OPEN, max_size=None)
    client.receive_data(frame(opcode, payload))
    (event,) = client.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.data) == (opcode, payload)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=2000, deadline=None)
def test_nothing_that_comes_raises_anything_but_a_violation(data: bytes, cuts: list[int]) -> None:
    """Bytes of any kind are read, waited for, or a Violation with a code that may be sent."""
    items, code = outcome(data, cuts)
    assert code in {None, PROTOCOL, INVALID, TOO_BIG}
    assert all(opcode in {TEXT, BINARY, CLOSE, PING, PONG} for opcode, _ in items)


@given(messages, st.integers(0, 10_000), st.integers(1, 255), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=500, deadline=None)
def test_a_bit_that_is_flipped_does_no_harm(given_messages: list[Any], at: int, bits: int, cuts: list[int]) -> None:
    """Sound frames with a byte changed are read, waited for, or a Violation."""
    data = bytearray(b"".join(sent(opcode, as_bytes(payload)) for opcode, payload in given_messages) or b"\x81")
    data[at % len(data)] ^= bits
    _, code = outcome(bytes(data), cuts)
    assert code in {None, PROTOCOL, INVALID, TOO_BIG}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"unmasked"), PROTOCOL),
        (b"\xc1" + sent(TEXT, b"x")[1:], PROTOCOL),  # a reserved bit
        (b"\x83" + sent(TEXT, b"x")[1:], PROTOCOL),  # a kind that nobody knows
        (b"\x8b" + sent(TEXT, b"x")[1:], PROTOCOL),
        (sent(CONTINUATION, b"x"), PROTOCOL),
        (sent(TEXT, b"a", is_final=False) + sent(TEXT, b"b"), PROTOCOL),
        (b"\x09" + sent(PING, b"x")[1:], PROTOCOL),  # a ping in parts
        (b"\x89\xfe\x00\x7e" + bytes(4) + bytes(126), PROTOCOL),  # a long ping
        (sent(TEXT, b"\xff"), INVALID),
        (sent(TEXT, b"\xe2\x82", is_final=False) + sent(CONTINUATION, b"x"), INVALID),
        (sent(BINARY, bytes(LIMIT + 1))[:14], TOO_BIG),  # before the rest has come
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), TOO_BIG),
        (sent(BINARY, bytes(LIMIT), is_final=False) + sent(CONTINUATION, b"x"), TOO_BIG),
    ],
)
def test_what_the_protocol_forbids_is_told(data: bytes, code: int) -> None:
    """Each kind of mistake has the code that RFC 6455 gives it."""
    with pytest.raises(Violation) as caught:
        read(data)
    assert caught.value.code == code


def test_a_character_may_be_cut_by_fragments() -> None:
    """UTF-8 is looked at in whole messages."""
    data = sent(TEXT, b"\xe2\x82", is_final=False) + sent(CONTINUATION, b"\xac")
    assert read(data) == [(TEXT, "€")]


def test_what_is_sound_before_a_violation_still_counts() -> None:
    """Messages before a broken frame come out."""
    decoder = Decoder(LIMIT)
    seen: list[Any] = []
    with pytest.raises(Violation):
        seen.extend(decoder.feed(sent(TEXT, b"one") + frame(TEXT, b"two")))  # extend keeps what came first
    assert seen == [(TEXT, "one")]


def test_goodbyes_are_read_and_written() -> None:
    """A close frame has a code that may be sent and a reason that fits, or nothing."""
    assert closing(b"") == (NO_CODE, "")
    assert closing(close_frame(1001, "é" * 100)[2:]) == (1001, "é" * 61)
    assert close_frame(NO_CODE) == close_frame(ABNORMAL) == frame(CLOSE, b"")
    for payload in (b"\x03", (1005).to_bytes(2, "big"), (999).to_bytes(2, "big")):
        with pytest.raises(Violation):
            closing(payload)
    with pytest.raises(Violation, match="UTF-8"):
        closing((1000).to_bytes(2, "big") + b"\xff")
    assert is_close_code(4000)
    assert not is_close_code(1006)
