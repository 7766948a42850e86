"""Names of streams and durables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.nats.names import check_topic, durable_of, stream_of
from torpor.kernel.errors import ConfigurationError

NAMES = st.text(min_size=1, max_size=300)
TOPICS = st.text("abAB._-=:é1", min_size=1)


@pytest.mark.parametrize(
    ("topic", "stream"),
    [
        ("orders.placed", "orders_placed"),
        ("orders-placed.v2", "orders-placed_v2"),
        ("Orders_placed", "=4Frders=5Fplaced"),
        ("commandé", "command=C3=A9"),
    ],
)
def test_a_streams_name_can_be_read(topic: str, stream: str) -> None:
    """A usual topic gives a usual name; what is unusual is spelled out."""
    assert stream_of(topic) == stream


@given(one=TOPICS, other=TOPICS)
def test_different_topics_have_different_streams(one: str, other: str) -> None:
    """No two topics share a stream, even where a file system ignores case."""
    assert (stream_of(one).lower() == stream_of(other).lower()) == (one == other)


@given(name=NAMES)
def test_every_name_is_fit_for_a_file_and_for_the_server(name: str) -> None:
    """Names are ASCII without dots, wildcards, separators and spaces, and at most 200 characters long."""
    durable = durable_of(name)

    assert durable.isascii()
    assert 0 < len(durable) <= 200
    assert not set(durable) & set(" .*>/\\\t\r\n")


def test_long_names_differ_though_their_beginnings_do_not() -> None:
    """Names that are cut end in a digest of the whole."""
    assert durable_of("x" * 300) != durable_of("x" * 301)


def test_a_group_of_several_topics_in_a_stream_has_a_durable_each() -> None:
    """In a stream that is not the topic's own, the durable is named for both."""
    assert durable_of("orders", "a.b") == "orders=20a_b"


@given(groups=st.tuples(NAMES, NAMES), topics=st.tuples(TOPICS, TOPICS))
def test_a_topic_is_not_mistaken_for_part_of_a_group(groups: tuple[str, str], topics: tuple[str, str]) -> None:
    """Two pairs of group and topic share a durable only when they are the same."""
    one, other = (durable_of(group, topic) for group, topic in zip(groups, topics, strict=True))

    assert (one == other) == (groups[0] == groups[1] and topics[0] == topics[1])


@pytest.mark.parametrize("topic", ["orders", "orders.placed", "commandé.v2", "a_b-c:d/e"])
def test_usual_topics_are_subjects(topic: str) -> None:
    """Letters, digits and most punctuation are fine."""
    check_topic(topic)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "an empty part"),
        (".a", "an empty part"),
        ("a..b", "an empty part"),
        ("a b", "a space or a control character"),
        ("a\nPUB x 0", "a space or a control character"),
        ("a.*", "a wildcard"),
        ("a.>", "a wildcard"),
        ("$JS.API", "keeps that name"),
        ("_INBOX.x", "keeps that name"),
        ("a" * 2000, "longer than"),
    ],
)
def test_what_cannot_be_a_subject_is_told_with_its_reason(topic: str, reason: str) -> None:
    """A topic that NATS would refuse, or take for something else, is refused before it is sent."""
    with pytest.raises(ConfigurationError, match=reason):
        check_topic(topic)
