"""The watermark is the first offset that is not done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.kafka.partition import Partition


@given(st.data(), st.lists(st.integers(0, 60), unique=True, min_size=1))
def test_the_watermark_is_the_first_that_is_not_done(data: st.DataObject, offsets: list[int]) -> None:
    """Over offsets with gaps, finished in any order, some twice, the watermark never passes one that is not done."""
    offsets = sorted(offsets)
    partition = Partition(0)
    partition.take(offsets)
    done = set[int]()
    for offset in data.draw(st.lists(st.sampled_from(offsets))):
        partition.finish(offset)
        done.add(offset)
        left = [other for other in offsets if other not in done]
        assert partition.watermark == (left[0] if left else offsets[-1] + 1)
        assert partition.held == len(left)


def test_what_another_has_settled_is_none_of_ours() -> None:
    """After another consumer has committed further, our late news about what is before change nothing."""
    partition = Partition(0)
    partition.take(range(5))
    partition.finish(1)
    partition.advance(3)
    assert (partition.watermark, partition.held, partition.position) == (3, 2, 5)
    partition.finish(0)
    partition.finish(3)
    assert (partition.watermark, partition.held) == (4, 1)
    partition.advance(9)
    partition.finish(4)
    assert (partition.watermark, partition.held, partition.position) == (9, 0, 9)


def test_what_is_abandoned_stays_before_the_watermark() -> None:
    """What is given back is in hand no more, and is never committed."""
    partition = Partition(0)
    partition.take([0, 1])
    partition.abandon()
    partition.finish(1)
    assert (partition.watermark, partition.held) == (0, 0)
