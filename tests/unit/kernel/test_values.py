"""Keys, retries and errors: the pure rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.kernel.errors import ConfigurationError, did_you_mean
from torpor.kernel.keys import slot_of
from torpor.kernel.message import Message
from torpor.kernel.order import Order
from torpor.kernel.retry import Retry, wait_before

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, st.integers(1, 64))
def test_a_key_has_one_slot(key: str, one: str, other: str, slots: int) -> None:
    """Messages of one key share a slot, whatever their ids."""
    first = slot_of(Message("t", b"", id=one, type="t", key=key), slots)
    assert 0 <= first < slots
    assert first == slot_of(Message("t", b"", id=other, type="t", key=key), slots)


@given(st.lists(st.tuples(ANY_TEXT, st.none() | ANY_TEXT)), st.integers(1, 64))
def test_the_lanes_of_many_are_those_of_each(messages: list[tuple[str, str | None]], lanes: int) -> None:
    """By key, or by id where there is none; by id when nothing waits; all in one when all follow each other."""
    made = [Message("t", b"", id=id, type="t", key=key) for id, key in messages]
    keyless = [Message("t", b"", id=id, type="t") for id, _ in messages]
    assert Order.KEY.lanes_of(made, lanes) == [slot_of(message, lanes) for message in made]
    assert Order.NONE.lanes_of(made, lanes) == [slot_of(message, lanes) for message in keyless]
    assert Order.STRICT.lanes_of(made, lanes) == [0] * len(made)


def test_messages_without_a_key_are_spread() -> None:
    """A message without a key takes a slot by its id, so that such messages run side by side."""
    slots = {slot_of(Message("t", b"", id=str(n), type="t"), 16) for n in range(200)}
    assert len(slots) == 16


def test_a_retry_counts_and_chooses() -> None:
    """A failure is tried again up to the attempts, if its exception is among `on` and not in `give_up_on`."""
    retry = Retry(attempts=3, on=(ValueError, KeyError), give_up_on=(UnicodeError,))
    assert retry.allows(ValueError(), 1)
    assert retry.allows(KeyError(), 2)
    assert not retry.allows(ValueError(), 3)
    assert not retry.allows(UnicodeError(), 1)
    assert not retry.allows(OSError(), 1)


def test_a_retry_waits_after_the_attempts_at_once() -> None:
    """The waits are used one after the other, by exceptions worth another attempt; then the message parks."""
    retry = Retry(attempts=2, later=[10, 60], give_up_on=(KeyError,))
    assert [retry.wait_after(ValueError(), failures) for failures in range(1, 6)] == [None, 10, 60, None, None]
    assert retry.wait_after(KeyError(), 2) is None
    with pytest.raises(ConfigurationError, match="above 0"):
        Retry(later=[0])


def test_a_retry_without_attempts_is_refused() -> None:
    """A policy that would never handle a message is refused where it is written."""
    with pytest.raises(ConfigurationError, match="at least 1"):
        Retry(attempts=0)


@given(st.integers(1, 10_000))
def test_waits_grow_to_a_limit(attempt: int) -> None:
    """The wait before an attempt never shrinks and never passes the limit."""
    assert 0 < wait_before(attempt) <= wait_before(attempt + 1) <= 5


def test_problems_are_numbered_and_counted() -> None:
    """A configuration error tells how many mistakes there are, and each."""
    error = ConfigurationError(["one thing", "another"])
    assert str(error) == "2 problems to fix:\n  1. one thing\n  2. another"
    assert str(ConfigurationError(["one thing"])).startswith("1 problem to fix")


def test_a_near_name_is_suggested() -> None:
    """A hint names the nearest known name, or says nothing."""
    assert did_you_mean("statuscode", ["status_code", "tags"]) == " Did you mean 'status_code'?"
    assert did_you_mean("xyz", ["status_code"]) == ""


def test_a_message_shows_itself_in_a_line() -> None:
    """A key and an id from outside may be huge; what is logged of them is not."""
    message = Message("t", b"{}", id="i" * 100_000, type="y", key="k" * 100_000)
    assert len(repr(message)) < 250
    assert repr(Message("t", b"{}", id="1", type="y", key="k")) == "<Message t id=1 key='k' 2 bytes>"
