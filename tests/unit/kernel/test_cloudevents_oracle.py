"""Our codec beside the CloudEvents SDK: each reads what the other writes.

Where the SDK departs from the specification the comparison stays within what both mean: it invents a `time` where
there is none, and escapes the headers of Kafka, which are plain UTF-8.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cloudevents.core.bindings import http, kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from torpor.kernel import cloudevents
from torpor.kernel.cloudevents import structured
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from cloudevents.core.base import BaseCloudEvent

FORMAT = JSONFormat()
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=20).filter(
    lambda name: (
        name not in {"id", "type", "specversion", "source", "data", "datacontenttype", "dataschema", "subject", "time"}
    )
)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1)
PLAIN = st.text("abcXYZ019-._~", min_size=1)
VALUES = st.dictionaries(TEXT, st.recursive(st.booleans() | st.integers() | TEXT, st.lists, max_leaves=4), max_size=3)


def _events(text: st.SearchStrategy[str]) -> st.SearchStrategy[CloudEvent]:
    return st.builds(
        lambda own, others, subject, data: CloudEvent(
            {"specversion": "1.0", "datacontenttype": "application/json", **others, **own, **subject}, data
        ),
        st.fixed_dictionaries({"id": text, "source": text, "type": text}),
        st.dictionaries(NAMES, text, max_size=3),
        st.one_of(st.just({}), st.fixed_dictionaries({"subject": text})),
        VALUES,
    )


def _said(event: BaseCloudEvent) -> dict[str, str]:
    """The attributes of an event but the time, which the SDK invents."""
    return {name: str(value) for name, value in event.get_attributes().items() if name != "time"}


def _message(event: BaseCloudEvent) -> Message:
    attributes = _said(event)
    id, type, key = attributes.pop("id"), attributes.pop("type"), attributes.pop("partitionkey", None)
    del attributes["specversion"]
    return Message("t", json.dumps(event.get_data()).encode(), id=id, type=type, key=key, attributes=attributes)


def _same(message: Message, fault: str | None, event: BaseCloudEvent) -> None:
    expected = _message(event)
    assert fault is None
    assert json.loads(message.data) == json.loads(expected.data)
    assert (message.id, message.type, message.key) == (expected.id, expected.type, expected.key)
    assert {name: value for name, value in message.attributes.items() if name != "time"} == expected.attributes


@given(event=_events(TEXT))
@pytest.mark.parametrize("write", [http.to_binary, http.to_structured])
def test_we_read_what_the_sdk_writes_for_http(write: Any, event: CloudEvent) -> None:
    """An event of the SDK, in either mode, is the same event here."""
    sent = write(event, FORMAT)

    _same(*cloudevents.decode(sent.headers, sent.body, topic="t", position="p"), event)


@given(event=_events(TEXT))
def test_the_sdk_reads_what_we_write_for_http(event: CloudEvent) -> None:
    """A message of ours, in either mode, is the same event there."""
    message = _message(event)
    binary = http.HTTPMessage(cloudevents.encode(message, cloudevents.HTTP), message.data)
    whole = http.HTTPMessage({"content-type": structured.EVENT}, structured.encode(message))

    for sent in (binary, whole):
        read = http.from_http(sent, FORMAT)
        assert (_said(read), read.get_data()) == (_said(event), event.get_data())


@given(event=_events(PLAIN))
def test_both_agree_on_kafka_where_nothing_is_escaped(event: CloudEvent) -> None:
    """Header names, content type, key and value are the same records on both sides."""
    message = _message(event)
    headers = {name: value.encode() for name, value in cloudevents.encode(message, cloudevents.KAFKA).items()}
    theirs = kafka.to_binary(event, FORMAT)

    assert {name: value for name, value in theirs.headers.items() if name != "ce_time"} == headers
    assert theirs.key == message.key
    read = kafka.from_kafka(kafka.KafkaMessage(headers=headers, key=message.key, value=message.data), FORMAT)
    assert (_said(read), read.get_data()) == (_said(event), event.get_data())


@given(data=st.binary(min_size=1))
def test_both_agree_on_binary_data(data: bytes) -> None:
    """Bytes of an unknown content type are base64 on both sides."""
    event = CloudEvent({"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}, data)
    message = Message("t", data, id="1", type="t", attributes={"source": "/s"})

    assert FORMAT.read(None, structured.encode(message)).get_data() == data
    read, fault = cloudevents.decode({"content-type": structured.EVENT}, FORMAT.write(event), topic="t", position="p")
    assert fault is None
    assert read.data == data
    assert "datacontenttype" not in read.attributes
