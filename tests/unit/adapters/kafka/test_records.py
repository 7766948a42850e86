"""A record's short way is the long one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.kafka.records import decode, encode, read
from torpor.kernel.cloudevents.envelope import MOST_CHARACTERS
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
LONG = b"x" * (MOST_CHARACTERS // 8)
OURS = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"t"), ("ce_source", b"/s"), ("ce_partitionkey", b"k")]
HEADERS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=6)
KEYS = st.sampled_from([None, b"", b"k", b"\xff"])
DATA = st.sampled_from([None, b"", b"{}", b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}'])


def record(headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None) -> Any:
    """What aiokafka gives, as far as it is looked at."""
    return SimpleNamespace(offset=7, headers=headers, key=key, value=value)


SIZES = [LONG, LONG + b"x", 8 * LONG]
CHANGED = [
    *([*OURS[:at], (OURS[at][0], value), *OURS[at + 1 :]] for at in range(5) for value in [*VALUES, *SIZES]),
    *([*OURS[:at], (name, OURS[at][1]), *OURS[at + 1 :]] for at in range(5) for name in NAMES),
    *([*OURS, (name, value)] for name in NAMES for value in [*VALUES, *SIZES]),
    *([*OURS[:4], (name, value)] for name in NAMES for value in [*VALUES, *SIZES]),
    *(OURS[:at] + OURS[at + 1 :] for at in range(5)),
]
RECORDS = st.builds(record, st.sampled_from(CHANGED) | HEADERS | HEADERS.map(lambda more: [*OURS, *more]), KEYS, DATA)


@pytest.mark.parametrize("headers", CHANGED)
def test_what_differs_in_one_header_is_read_the_long_way(headers: list[tuple[str, bytes | None]]) -> None:
    """A record that is one of ours but for a header is read as if no other had been before it: the same message, and
    the same fault."""
    for key, value in ((None, b"{}"), (b"r", b"{}"), (b"\xff", b"{}"), (8 * LONG, b"{}"), (b"r", None), (None, None)):
        other = record(headers, key, value)
        _, delivery, last = read([record(OURS, None, b"{}"), other, record(OURS, None, b"{}")], "t", 2, holder=None)
        assert (delivery.message, delivery.fault) == decode(other, "t", 2)
        assert (last.message, last.fault) == decode(record(OURS, None, b"{}"), "t", 2)


@given(st.lists(RECORDS, max_size=6))
def test_records_are_read_together_as_each_by_itself(batch: list[Any]) -> None:
    """Whatever their headers are, records that follow each other are read as on the long way, which knows of no other:
    the same messages, and the same faults."""
    deliveries = read(batch, "t", 2, holder="p")
    assert [(one.message, one.fault) for one in deliveries] == [decode(one, "t", 2) for one in batch]
    assert [one.token for one in deliveries] == [("p", 7)] * len(batch)


def test_what_is_too_large_together_is_told() -> None:
    """Headers that are small enough each, and too many characters together, are a fault on the short way too."""
    more = [(f"ce_{name}", LONG) for name in ("subject", "time", "sequence", "traceparent", "tracestate")]
    ours = [(name, LONG if name in {"ce_id", "ce_partitionkey"} else value) for name, value in OURS]
    fits, exceeds = record([*ours, *more], None, b"{}"), record([*ours, *more, ("ce_causationid", LONG)], None, b"{}")
    (good, bad) = read([fits, exceeds], "t", 2, holder=None)
    assert good.fault is None
    assert "too large" in str(bad.fault)


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
    (delivery,) = read([record(headers, found, value)], "t", 2, holder=None)
    assert (delivery.message, delivery.fault) == (sent, None)


def test_a_lone_surrogate_is_refused() -> None:
    """A key that is no Unicode text cannot be sent, and is told."""
    with pytest.raises(Rejected, match="no Unicode text"):
        encode(Message("t", b"", id="1", type="t", key="\ud800"))
