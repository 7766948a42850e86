"""Ids: in order, each of its own, also after a fork."""

from __future__ import annotations

import multiprocessing

from torpor import new_id


def test_ids_sort_as_they_were_made() -> None:
    """However many are made in a millisecond, and all of them differ."""
    ids = [new_id() for _ in range(20_000)]
    assert ids == sorted(set(ids))


def test_a_forked_process_makes_ids_of_its_own() -> None:
    """It shares none of its parent's randomness, which would make two ids alike."""
    new_id()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        made = [*pool.map(_entropy, range(8), chunksize=4), *(_entropy(n) for n in range(8))]
    assert len(set(made)) == len(made)


def _entropy(_: int) -> str:
    return new_id()[-12:]
