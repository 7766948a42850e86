"""Ids: in order, each of its own, also after a fork."""

from __future__ import annotations

import multiprocessing
import sys
from threading import Thread
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from torpor import new_id
from torpor.runtime.ids import Ids

A_TIME = st.integers(0, 2**48 * 1_000_000 - 1)  # nanoseconds that an id can tell


def test_ids_sort_as_they_were_made() -> None:
    """However many are made in a millisecond, and all of them differ."""
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


@given(A_TIME)
def test_an_id_is_a_uuid_that_begins_with_its_time(now: int) -> None:
    """An id is a UUID of version 7 and the RFC's variant, and begins with its millisecond."""
    value = UUID(Ids(lambda: now).new())
    assert (value.version, value.variant) == (7, "specified in RFC 4122")
    assert value.int >> 80 == now // 1_000_000


@given(st.lists(A_TIME, min_size=2, max_size=40))
def test_ids_sort_even_when_the_clock_goes_back(times: list[int]) -> None:
    """Whatever the clock says next, an id sorts after those before it."""
    left = list(times)
    ids = Ids(lambda: left.pop(0))
    made = [ids.new() for _ in times]
    assert made == sorted(set(made))


def test_the_count_of_a_millisecond_runs_over_into_the_next() -> None:
    """A clock that stands still gives more ids than a millisecond can count, in order, and in time's place."""
    ids = Ids(lambda: 5_000_000)
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert {UUID(id).int >> 80 for id in made} == {5, 6, 7}


def test_threads_share_no_id() -> None:
    """Those that make ids at once have each their own, and each of them in order."""
    ids, made = Ids(), [list[str]() for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [Thread(target=lambda own=own: own.extend(ids.new() for _ in range(5_000))) for own in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert [len(own) for own in made] == [5_000] * 4
    assert all(own == sorted(own) for own in made)
    assert len({id[:18] for own in made for id in own}) == 20_000  # by time and count alone


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """It shares none of its parent's randomness, which would make two ids alike."""
    new_id()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        made = [*pool.map(_entropy, range(8), chunksize=4), *(_entropy(n) for n in range(8))]
    assert len(set(made)) == len(made)


def _entropy(_: int) -> str:
    return new_id()[-12:]
