"""What a broker's adapter must tell of a group's progress. In a test module, with the fixture `backend` of
`conformance.broker`:

```python
class TestProgress(ProgressConformance): ...
```
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest

from torpor.kernel.errors import TorporError
from torpor.testing.conformance.broker import DEADLINE, BrokerSuite, counted, numbers, open_consumer, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from torpor.kernel.progress import Progress
    from torpor.ports.broker import Broker
    from torpor.ports.consumer import Consumer
    from torpor.testing.conformance.broker import BrokerBackend

_CLOCKS = 1.0  # seconds by which the server's clock may be another than ours


async def progress_when(consumer: Consumer, holds: Callable[[Progress], bool]) -> Progress:
    """The progress once something holds of it, by the deadline: acknowledgements take their time."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with contextlib.suppress(TorporError):  # a consumer that is about to join
                progress = await consumer.progress()
                if holds(progress):
                    return progress
            await asyncio.sleep(0.05)


class ProgressConformance(BrokerSuite):
    """How many messages a group has not settled, how old they are, and which consumer they wait for."""

    @pytest.fixture
    async def second(self, backend: BrokerBackend) -> AsyncIterator[Broker]:
        """A second broker, as of another process."""
        broker = backend.broker()
        await broker.start()
        yield broker
        await broker.stop()

    async def test_the_lag_is_what_is_not_settled(self, broker: Broker, topic: str) -> None:
        """Messages count from their publishing to their acknowledgement, fetched or not; nothing counts before."""
        consumer = await open_consumer(broker, topic)
        idle = await progress_when(consumer, lambda progress: progress.lag == 0)
        assert (idle.lag, idle.oldest_at, dict(idle.shares)) == (0, None, {})

        await broker.publish(counted(topic, range(5)))
        assert (await progress_when(consumer, lambda progress: progress.lag > 0)).lag == 5
        held = await take(consumer, 5, acknowledge=False)
        assert (await consumer.progress()).lag == 5

        await consumer.acknowledge(held[:2])
        assert (await progress_when(consumer, lambda progress: progress.lag != 5)).lag == 3
        await consumer.acknowledge(held[2:])
        done = await progress_when(consumer, lambda progress: progress.lag == 0)
        assert (done.oldest_at, dict(done.shares)) == (None, {})

    async def test_asking_takes_nothing(self, broker: Broker, topic: str) -> None:
        """Who asks how far a group is changes nothing of what its consumers are given."""
        consumer = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(10)))
        await progress_when(consumer, lambda progress: progress.lag == 10)
        first = await take(consumer, 5)
        await consumer.progress()
        assert numbers([*first, *await take(consumer, 5)]) == list(range(10))

    async def test_the_oldest_is_the_first_that_is_not_settled(self, broker: Broker, topic: str) -> None:
        """Its time is that of its publishing, and becomes that of the next one once it is settled."""
        consumer = await open_consumer(broker, topic)
        before = time.time()
        await broker.publish(counted(topic, [1]))
        between = time.time()
        await asyncio.sleep(0.2)  # which sets the two apart
        await broker.publish(counted(topic, [2]))
        held = await take(consumer, 2, acknowledge=False)

        oldest = (await progress_when(consumer, lambda progress: progress.lag == 2)).oldest_at
        assert oldest is not None
        assert before - _CLOCKS <= oldest <= between + _CLOCKS
        await consumer.acknowledge(held[:1])
        newer = (await progress_when(consumer, lambda progress: progress.lag == 1)).oldest_at
        assert newer is not None
        assert newer >= oldest + 0.1

    @pytest.mark.parametrize("is_shared", [False, True], ids=["in order", "shared"])
    async def test_the_place_moves_when_something_is_settled(
        self, broker: Broker, topic: str, *, is_shared: bool
    ) -> None:
        """A consumer's share stays where it is while nothing of it is settled, whatever comes, and moves when the
        first is."""
        consumer = await open_consumer(broker, topic, is_shared=is_shared)
        await broker.publish(counted(topic, range(3)))
        held = await take(consumer, 3, acknowledge=False)
        here = (await progress_when(consumer, lambda progress: bool(progress.shares))).shares
        await broker.publish(counted(topic, range(3, 6)))
        await take(consumer, 3, acknowledge=False)
        standing = (await progress_when(consumer, lambda progress: progress.lag == 6)).shares
        still = await consumer.progress()
        assert standing.keys() == here.keys() == still.shares.keys()
        assert dict(still.shares) == dict(standing)
        if not is_shared:
            assert dict(standing) == dict(here)

        await consumer.acknowledge(held[:1])
        moved = await progress_when(consumer, lambda progress: progress.lag == 5)
        assert dict(moved.shares) != dict(standing)

    async def test_one_that_stands_by_has_no_share(self, broker: Broker, second: Broker, topic: str) -> None:
        """It tells of the group's lag, which is not its own to settle."""
        active = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(3)))
        held = await take(active, 3, acknowledge=False)
        other = await open_consumer(second, topic)
        waiting = asyncio.create_task(other.fetch(1))
        seen = await progress_when(other, lambda progress: progress.lag == 3 and not progress.shares)
        assert dict((await progress_when(active, lambda progress: bool(progress.shares))).shares)
        assert seen.oldest_at is not None
        await active.acknowledge(held)
        assert (await progress_when(other, lambda progress: progress.lag == 0)).shares == {}
        waiting.cancel()
        await asyncio.wait({waiting})

    async def test_what_comes_to_another_is_its_share(self, broker: Broker, second: Broker, topic: str) -> None:
        """Once another consumer has taken over, what is left is its own to settle."""
        active = await open_consumer(broker, topic)
        await broker.publish(counted(topic, range(3)))
        await take(active, 3, acknowledge=False)
        other = await open_consumer(second, topic)
        coming = asyncio.create_task(take(other, 3, acknowledge=False))
        await asyncio.wait({asyncio.create_task(active.stop())})
        await broker.stop()
        held = await coming
        assert (await progress_when(other, lambda progress: bool(progress.shares))).lag == 3
        await other.acknowledge(held)
        await progress_when(other, lambda progress: progress.lag == 0)

    async def test_each_group_has_its_own(self, broker: Broker, topic: str) -> None:
        """What one group has settled another one may still have before it."""
        first, second = await open_consumer(broker, topic, "first"), await open_consumer(broker, topic, "second")
        await broker.publish(counted(topic, range(4)))
        await take(first, 4)
        await progress_when(first, lambda progress: progress.lag == 0)
        assert (await progress_when(second, lambda progress: progress.lag > 0)).lag == 4
