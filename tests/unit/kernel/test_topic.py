"""Wishes of topics, and the steps from what a broker has to what is wished."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor import ConfigurationError, Topic
from torpor.kernel.difference import Step, differences, shown, unheeded
from torpor.kernel.topic import SETTINGS, TopicPowers, TopicState

POWERS = TopicPowers("Kafka", settings=frozenset(SETTINGS), fixed={"replicas": "move them by hand"})
LIMITED = TopicPowers("NATS", settings=frozenset({"retention", "compacted"}), refused={"compacted": "not here"})


def steps(wish: Topic, found: Topic | None, powers: TopicPowers = POWERS, holder: str | None = None) -> list[Step]:
    """What is to be done for one topic."""
    state = {} if found is None else {found.name: TopicState(found, holder=holder)}
    return differences([wish], state, powers)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"partitions": 0}, "partitions=0"),
        ({"partitions": "3"}, "partitions='3'"),
        ({"replicas": True}, "replicas=True"),
        ({"max_bytes": -1}, "max_bytes=-1"),
        ({"retention": 0.5}, "whole seconds"),
        ({"retention": -1}, "retention=-1"),
        ({"retention": math.nan}, "retention=nan"),
        ({"retention": "1d"}, "retention='1d'"),
        ({"compacted": "yes"}, "True or False"),
    ],
)
def test_a_wish_that_cannot_be_is_told(settings: dict[str, Any], told: str) -> None:
    """Each bad value is told with the topic and with what is expected."""
    with pytest.raises(ConfigurationError, match=told) as caught:
        Topic("orders", **settings)
    assert "'orders'" in str(caught.value)


def test_all_mistakes_of_a_wish_are_told_together() -> None:
    """The name's too."""
    with pytest.raises(ConfigurationError) as caught:
        Topic("", partitions=0, replicas=1000, retention=-5)
    assert len(caught.value.problems) == 4


def test_a_wish_says_what_it_was_made_of() -> None:
    """Its repr is the call, and what is not wished is not in it."""
    assert repr(Topic("a", partitions=3, compacted=False)) == "Topic('a', partitions=3, compacted=False)"
    assert Topic("a", retention=math.inf).settings() == {"retention": math.inf}


def test_a_missing_topic_is_made_as_far_as_the_broker_can() -> None:
    """What means nothing there, or is refused, is not in the step that makes it."""
    (made,) = steps(Topic("a", partitions=3, retention=60), None)
    assert (made.kind, made.to_dict()["wished"]) == ("make", {"partitions": 3, "retention": 60})
    made, refused = steps(Topic("a", partitions=3, retention=60, compacted=True), None, LIMITED)
    assert made.to_dict() == {"step": "make", "topic": "a", "wished": {"retention": 60}}
    assert (refused.kind, refused.setting, refused.note) == ("impossible", "compacted", "not here")


def test_what_is_not_wished_does_not_differ() -> None:
    """A topic without a wish is as it is wished, whatever it is."""
    found = Topic("a", partitions=9, replicas=3, retention=60, compacted=True)
    assert steps(Topic("a"), found) == []
    assert steps(Topic("a", compacted=False), Topic("a", compacted=False), LIMITED) == []


def test_more_partitions_move_keys_and_fewer_cannot_be() -> None:
    """Both are said."""
    (more,) = steps(Topic("a", partitions=6), Topic("a", partitions=4))
    assert (more.kind, more.deletes) == ("change", False)
    assert "keys move" in more.note
    (fewer,) = steps(Topic("a", partitions=2), Topic("a", partitions=4))
    assert (fewer.kind, fewer.found, fewer.wished) == ("impossible", 4, 2)
    assert "Kafka takes no partitions away" in fewer.note


@pytest.mark.parametrize(
    ("wish", "found", "deletes"),
    [
        ({"retention": 60}, {"retention": 3600}, True),
        ({"retention": 60}, {"retention": math.inf}, True),
        ({"retention": 3600}, {"retention": 60}, False),
        ({"retention": math.inf}, {"retention": 60}, False),
        ({"max_bytes": 100}, {}, True),
        ({"max_bytes": 100}, {"max_bytes": 200}, True),
        ({"max_bytes": 200}, {"max_bytes": 100}, False),
        ({"compacted": True}, {"compacted": False}, True),
        ({"compacted": False}, {"compacted": True}, False),
    ],
)
def test_a_step_that_takes_messages_away_says_so(wish: dict[str, Any], found: dict[str, Any], deletes: bool) -> None:  # noqa: FBT001
    """Keeping less deletes, keeping more does not."""
    (step,) = steps(Topic("a", **wish), Topic("a", **found))
    assert (step.kind, step.deletes) == ("change", deletes)
    assert bool(step.note) is deletes


def test_what_is_somebody_else_s_is_left_as_it_is() -> None:
    """A topic in a stream that Torpor did not make is changed there, and a fixed setting by its own tool."""
    (step,) = steps(Topic("a", retention=60), Topic("a", retention=90), LIMITED, holder="the stream 'ALL'")
    assert (step.kind, "the stream 'ALL'" in step.note) == ("impossible", True)
    (step,) = steps(Topic("a", replicas=3), Topic("a", replicas=1))
    assert (step.kind, step.note) == ("impossible", "move them by hand")


def test_wishes_that_mean_nothing_to_a_broker_are_told() -> None:
    """They differ from nothing, and are not passed over in silence either."""
    wish = Topic("a", partitions=3, retention=60)
    assert steps(wish, Topic("a", retention=60), LIMITED) == []
    assert unheeded([wish], LIMITED) == ["a: partitions=3 means nothing on NATS."]


wishes = st.builds(
    Topic,
    st.just("a"),
    partitions=st.none() | st.integers(1, 20),
    replicas=st.none() | st.integers(1, 3),
    retention=st.none() | st.integers(1, 10**6) | st.just(math.inf),
    max_bytes=st.none() | st.integers(1, 10**9),
    compacted=st.none() | st.booleans(),
)


@given(wishes, wishes)
def test_taking_the_steps_leaves_none_to_take(wish: Topic, found: Topic) -> None:
    """Once each possible step is taken, what is left is what cannot be done; nothing else was touched."""
    after = Topic("a", **found.settings())  # type: ignore[arg-type]
    for step in steps(wish, found):
        if step.is_possible and step.setting is not None:
            assert step.found == getattr(found, step.setting)
            setattr(after, step.setting, step.wished)
    left = steps(wish, after)
    assert not any(step.is_possible for step in left)
    assert {step.setting for step in left} <= {"partitions", "replicas"}


def test_a_setting_is_shown_as_people_say_it() -> None:
    """Times by their unit, sizes with commas, no number for what has no end."""
    told: list[tuple[str, Any]]
    told = [("retention", 86_400 * 30), ("retention", 5400), ("retention", 7), ("retention", math.inf)]
    assert [shown(name, value) for name, value in told] == ["30d", "90m", "7s", "for ever"]
    told = [("max_bytes", None), ("max_bytes", 1_000_000), ("compacted", True)]
    assert [shown(name, value) for name, value in told] == ["unlimited", "1,000,000", "yes"]
    assert Step(Topic("a", retention=math.inf), setting="retention", found=60).to_dict()["wished"] == "forever"
