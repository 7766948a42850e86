"""Heads are read as nats-py reads them, and what we write can be read by anybody."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from torpor.adapters.nats.frames import PIN, event_frame, event_head, frame, head_of, read_envelope, read_headers
from torpor.kernel import cloudevents
from torpor.kernel.errors import DecodeError, Rejected
from torpor.kernel.message import Message

NAMES = (*cloudevents.NATS.names, "Nats-Msg-Id", PIN, "content-type", "Ce-Id", "x", "ce-id ", " ce-id", "c e", "ü", "")
names = st.one_of(st.sampled_from(NAMES), st.text(max_size=5))
values = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8),
    st.text('ab \t\v\f\n%":\u00a0\x1c', max_size=6),
)
lines = st.tuples(names, st.sampled_from([": ", ":", ":  ", ":\t", " ", ""]), values).map("".join)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


def written(first: str, found: list[str]) -> bytes:
    """A head of such lines."""
    return "".join(f"{line}\r\n" for line in [first, *found, ""]).encode()


async def told(head: bytes) -> dict[str, str]:
    """What nats-py reads."""
    return await Client()._process_headers(head) or {}


@given(st.lists(lines.filter(lambda line: "\r" not in line), min_size=1, max_size=6))
async def test_headers_are_read_as_by_the_client(found: list[str]) -> None:
    """Names and values are those that nats-py finds, whatever else is among the lines."""
    head = written("NATS/1.0", found)

    assert read_headers(head) == await told(head)


@pytest.mark.parametrize(
    "head",
    [
        b"NATS/1.0 404\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 409 Leadership Change\r\nNats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1016\r\nNats-Last-Stream: 1024\r\n\r\n",
        b"NATS/1.0\r\na: 1\r\na: 2\r\n\r\n",
        b"NATS/1.0\r\nbad: \xff\xfe\r\ngood: \xc3\xbc\r\n\r\n",
        b"NATS/1.0\r\nsplit: \xc3\r\nnext: 1\r\n\r\n",
    ],
)
async def test_statuses_and_odd_headers_are_read_as_by_the_client(head: bytes) -> None:
    """The server's statuses, a repeated header and bytes that are no text are what nats-py makes of them."""
    assert read_headers(head) == await told(head)


def test_a_status_without_a_description_may_have_headers() -> None:
    """The first header is not taken for a description, as nats-py does."""
    assert read_headers(b"NATS/1.0 503\r\nx: y\r\n\r\n") == {"Status": "503", "x": "y"}


@given(st.sampled_from(["NATS/1.0", "NATS/1.0 404 x"]), st.lists(lines, max_size=6))
def test_an_envelope_is_read_at_once_only_where_it_is_the_same(first: str, found: list[str]) -> None:
    """What is read at once is what the long way reads, to the message."""
    head = written(first, found)
    envelope = read_envelope(head)
    if not envelope:
        return
    headers = read_headers(head)
    headers.pop(PIN, None)
    long, fault = cloudevents.decode(headers, b"data", topic="t", position="p", style=cloudevents.NATS)
    try:
        short = cloudevents.assemble(envelope, b"data", "t")
    except DecodeError:
        assert fault
    else:
        assert fault is None
        assert facts(short) == facts(long)


@pytest.mark.parametrize(
    "lines",
    [
        ["ce-id: ", "ce-source: a", "ce-specversion: 1.0", "ce-type: t"],
        [" ce-id:", "ce-source: a", "ce-specversion: 1.0", "ce-type: t"],
        ["ce-id: ", "ce-source: ce-type:", "t ", "ce-specversion: 1.0"],
        ["ce-id ce-id:", "ce-source: ce-type:", "ce-id: t"],
        ["ce-id:a b", "ce-source: a"],
    ],
)
def test_a_header_that_lacks_its_name_or_value_shifts_no_other(lines: list[str]) -> None:
    """No value is taken for that of another header: such a head is read the long way."""
    assert read_envelope(written("NATS/1.0", lines)) is None


@given(id=texts, key=st.one_of(st.none(), texts), type=texts, value=texts)
def test_no_text_breaks_a_head(id: str, key: str | None, type: str, value: str) -> None:
    """Whatever an id, a key, a type and an attribute hold, a head has a line for each header, and reads as written."""
    message = Message("a.b", b"x", id=id, type=type, key=key, attributes={"source": value, "datacontenttype": value})
    headers = cloudevents.encode(message, cloudevents.NATS)
    head = head_of(headers)
    read, fault = cloudevents.decode(read_headers(head), b"x", topic="a.b", position="p", style=cloudevents.NATS)

    assert head.count(b"\r\n") == head.count(b"\r") == head.count(b"\n") == len(headers) + 2
    assert b"\0" not in head
    assert fault is None
    assert facts(read) == facts(message)


def test_a_frame_says_how_long_it_is() -> None:
    """A frame tells the sizes of its head and of all of it, in bytes."""
    assert frame("a", b"xyz") == b"PUB a  3\r\nxyz\r\n"
    assert frame("a", b"", reply="r.1") == b"PUB a r.1 0\r\n\r\n"
    head = head_of({"n": "1"})
    assert frame("a", b"xyz", reply="r", head=head) == b"HPUB a r 18 21\r\nNATS/1.0\r\nn: 1\r\n\r\nxyz\r\n"


plain = st.text("azAZ09-._~!", max_size=12)
attributes = st.dictionaries(
    st.sampled_from(["source", "time", "traceparent", "datacontenttype", "tenant", "Tenant", "id"]),
    st.one_of(plain, texts),
    max_size=4,
)


@given(id=st.one_of(plain, texts), key=st.one_of(st.none(), plain, texts), type=plain, attributes=attributes)
def test_the_head_of_an_event_is_its_headers(id: str, key: str | None, type: str, attributes: dict[str, str]) -> None:
    """Written at once, as most are, or by way of its headers, it says the same, and its id for the duplicate window."""
    message = Message("a.b", b"x", id=id, type=type, key=key, attributes=attributes)
    headers = cloudevents.encode(message, cloudevents.NATS)

    head = event_head(message)

    assert head.isascii()
    assert read_headers(head.encode()) == {**headers, "Nats-Msg-Id": headers["ce-id"]}


def test_an_event_that_no_header_can_carry_is_refused() -> None:
    """An attribute whose name is no header's is told."""
    with pytest.raises(Rejected, match="is no header name"):
        event_head(Message("a", b"", id="1", type="t", attributes={"source": "s", "a b": "x"}))


def test_the_frame_of_an_event_says_how_long_it_is() -> None:
    """It is that of any message with such a head."""
    message = Message("a.b", "é".encode(), id="1", type="t", attributes={"source": "s"})
    head = event_head(message)

    assert event_frame(message, head, "r.1") == frame("a.b", message.data, reply="r.1", head=head.encode())


def facts(message: Message) -> tuple[Any, ...]:
    """All of a message."""
    return message.topic, message.id, message.type, message.key, dict(message.attributes), message.data
