"""Events in binary mode, read from bytes: the short way and the long way say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.http.binary import event_of
from torpor.adapters.http.reading import Request
from torpor.kernel.cloudevents import decode_all

PLAIN = (
    (b"host", b"x"),
    (b"ce-specversion", b"1.0"),
    (b"ce-id", b"7"),
    (b"Ce-Source", b"/t"),
    (b"ce-type", b"placed"),
    (b"Content-Type", b"application/json"),
    (b"traceparent", b"00-1"),
    (b"x-request-id", b"9"),
)

names = st.sampled_from(
    [
        *(b"ce-id", b"ce-type", b"ce-source", b"ce-specversion", b"ce-time", b"ce-key", b"ce-partitionkey", b"Ce-Id"),
        *(b"CE-ID", b"ce-unknown", b"ce-", b"Ce-Subject", b"ce-traceparent", b"ce-datacontenttype", b"content-type"),
        *(b"Content-Type", b"CONTENT-TYPE", b"traceparent", b"Tracestate", b"TRACEPARENT", b"host", b"accept", b"x-y"),
    ]
)
values = st.one_of(
    st.sampled_from(
        [
            *(
                b"1.0",
                b"0.3",
                b"",
                b"a b",
                b'"quoted"',
                b"%41",
                b"100%",
                b"\xe9",
                b"application/json",
                b"/t",
                b"placed",
            ),
            *(b"application/cloudevents+json", b"Application/CloudEvents-batch+json", b'text/plain; charset="x"'),
        ]
    ),
    st.binary(max_size=8),
)
fields = st.one_of(
    st.lists(st.tuples(names, values), max_size=12),
    st.lists(st.tuples(names, values), max_size=4).map(lambda some: [*PLAIN, *some]),
)


@given(fields)
def test_the_short_way_reads_what_the_long_way_reads(given_fields: list[tuple[bytes, bytes]]) -> None:
    """Where it reads a message at all, it is the same one, and there was nothing wrong with it."""
    message = event_of(given_fields, b"{}", "topic")
    headers = Request(lambda *_: None, fields=given_fields).headers
    ((expected, fault),) = decode_all(headers, b"{}", topic="topic", position="")
    if message is None:
        return
    if expected.key is None:
        expected.key = expected.attributes.get("key")
    assert fault is None
    assert message == expected


def test_what_most_send_goes_the_short_way() -> None:
    """Also with headers that say nothing of the event."""
    message = event_of([*PLAIN, (b"ce-partitionkey", b"k")], b"{}", "topic")
    assert message is not None
    assert (message.id, message.type, message.key, message.data, message.topic) == ("7", "placed", "k", b"{}", "topic")
    assert message.attributes == {"source": "/t", "datacontenttype": "application/json", "traceparent": "00-1"}


def test_the_key_of_a_kafka_source_orders_an_event() -> None:
    """As on the long way; its `partitionkey` goes before."""
    known = event_of([*PLAIN, (b"ce-key", b"k")], b"", "topic")
    both = event_of([*PLAIN, (b"ce-key", b"k"), (b"ce-partitionkey", b"p")], b"", "topic")
    assert known is not None
    assert both is not None
    assert (known.key, both.key) == ("k", "p")


@pytest.mark.parametrize(
    "other",
    [
        (b"ce-id", b"8"),
        (b"Ce-Id", b"7"),
        (b"CE-TIME", b"x"),
        (b"ce-extension", b"x"),
        (b"ce-subject", b"%41"),
        (b"ce-subject", b'"a"'),
        (b"content-type", b"application/json"),
        (b"CONTENT-TYPE", b"application/cloudevents+json"),
        (b"ce-traceparent", b"00-2"),
    ],
)
def test_what_few_send_goes_the_long_way(other: tuple[bytes, bytes]) -> None:
    """Twice the same, an extension, an escape, another spelling: nothing is guessed."""
    assert event_of([*PLAIN, other], b"", "topic") is None


def test_a_structured_event_goes_the_long_way() -> None:
    """Even with the headers of binary mode beside it."""
    some = [field for field in PLAIN if field[0] != b"Content-Type"]
    assert event_of([*some, (b"content-type", b"application/CloudEvents+json")], b"", "topic") is None
