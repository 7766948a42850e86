"""A record's short way is the long one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.kafka.records import decode, decode_any, encode
from torpor.kernel.errors import Rejected
from torpor.kernel.message import Message

NAMES = [
    "ce_id",
    "ce_type",
    "ce_source",
    "ce_specversion",
    "ce_partitionkey",
    "ce_time",
    "content-type",
    "ce_other",
    "CE_ID",
]
VALUES = [
    b"1",
    b"1.0",
    b"/s",
    b"",
    b"\xff",
    b"application/json",
    b"application/cloudevents+json",
    None,
    "é%20".encode(),
]
PLAIN = [("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"/s"), ("ce_specversion", b"1.0")]


def record(headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None) -> Any:
    """What aiokafka gives, as far as it is looked at."""
    return SimpleNamespace(topic="t", partition=2, offset=7, headers=headers, key=key, value=value)


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6),
    st.booleans(),
    st.sampled_from([None, b"", b"k", b"\xff"]),
    st.sampled_from([None, b"", b"{}", b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}']),
)
def test_the_short_way_gives_what_the_long_one_gives(
    headers: list[tuple[str, bytes | None]],
    is_plain: bool,  # noqa: FBT001  # Hypothesis gives it
    key: bytes | None,
    value: bytes | None,
) -> None:
    """Whatever the headers are, a record is read alike on both ways."""
    one = record([*(PLAIN if is_plain else []), *headers], key, value)
    assert decode(one) == decode_any(one)


@given(
    st.text(max_size=9).filter(lambda text: text.isprintable() and text != ""),
    st.none() | st.text(max_size=9),
    st.binary(max_size=9),
)
def test_a_message_comes_back_as_it_was(id: str, key: str | None, data: bytes) -> None:
    """What is encoded is decoded to the same message; text that is none is refused."""
    sent = Message(
        "t", data, id=id, type="t", key=key, attributes={"source": "/s", "datacontenttype": "application/json"}
    )
    try:
        found, value, headers = encode(sent)
    except Rejected:
        assert any("\ud800" <= character <= "\udfff" for character in id + (key or ""))
        return
    assert decode(record(headers, found, value)) == (sent, None)


def test_a_lone_surrogate_is_refused() -> None:
    """A key that is no Unicode text cannot be sent, and is told."""
    with pytest.raises(Rejected, match="no Unicode text"):
        encode(Message("t", b"", id="1", type="t", key="\ud800"))
