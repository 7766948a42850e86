"""Lanes: in order for a key, side by side for different keys."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from torpor.kernel.order import Order
from torpor.runtime.policies import LANES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from torpor.kernel.message import Delivery
    from torpor.ports.clock import Clock
    from torpor.runtime.policies import Policies

    Handle = Callable[[Sequence[Delivery]], Awaitable[int]]
    Settled = Callable[[Sequence[Delivery]], Awaitable[None]]
    Work = Callable[[Sequence[Delivery]], Awaitable[None]]
    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

BATCH = 50
WINDOW = 1000
_BATCHES_AHEAD = 4


class Taking:
    """How much a lane takes at once, how many lanes there are for which order, and how long a lane waits for more on
    which clock."""

    __slots__ = ("ahead", "clock", "lanes", "order", "size", "window")

    def __init__(
        self,
        *,
        size: int = BATCH,
        lanes: int = LANES,
        order: Order = Order.KEY,
        window: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.size = size
        self.ahead = max(
            WINDOW, _BATCHES_AHEAD * size
        )  # that may be under way, so that a large batch fills up meanwhile
        self.lanes = lanes
        self.order = order
        self.window = window
        self.clock = clock


def taking_of(policies: Policies, clock: Clock) -> Taking:
    """How the lanes of a binding take."""
    batch, lanes, order = policies.batch, policies.lanes, policies.order
    if batch is None:
        return Taking(lanes=lanes, order=order)
    return Taking(size=batch.size, lanes=lanes, order=order, window=batch.window, clock=clock if batch.window else None)


class Lane:
    """A queue of deliveries that follow each other. A lane that wakes takes all that waits, up to a batch."""

    __slots__ = ("_rest", "_taking", "_task", "_work", "is_lingering", "queue")

    def __init__(self, work: Work, spawn: Spawn, taking: Taking) -> None:
        self._work = work
        self._taking = taking
        self.is_lingering = False
        self.queue: deque[Delivery] = deque()
        self._rest: asyncio.Future[None] | None = None  # what it waits for while it has nothing to do
        self._task = spawn(self._run())

    def wake(self) -> None:
        """Has what was queued taken."""
        rest, self._rest = self._rest, None
        if rest is not None and not rest.done():
            rest.set_result(None)

    def abandon(self) -> list[Delivery]:
        """Stops at once; returns what was still queued."""
        self._task.cancel()
        left = list(self.queue)
        self.queue.clear()
        return left

    async def _run(self) -> None:
        queue, loop, work = self.queue, asyncio.get_running_loop(), self._work
        size, clock = self._taking.size, self._taking.clock
        while True:
            while not queue:
                self._rest = loop.create_future()
                await self._rest
            if clock is not None and len(queue) < size:
                self.is_lingering = True
                await clock.sleep(self._taking.window)
                self.is_lingering = False
            many = len(queue)
            await work((queue.popleft(),) if many == 1 else [queue.popleft() for _ in range(min(size, many))])


class Intake:
    """The way into one binding: lanes, how much may be under way, and what is done with the settled. `handle` returns
    how many of a batch it has settled; the others come again."""

    def __init__(
        self, handle: Handle, *, spawn: Spawn, settled: Settled | None = None, taking: Taking | None = None
    ) -> None:
        self._handle = handle
        self._taking = taking or Taking()
        self._spawn = spawn
        self._settled = settled
        self._lanes: list[Lane | None] = [None] * self._taking.lanes
        self._under_way = 0
        self._room = asyncio.Event()
        self._room.set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def under_way(self) -> int:
        """How many deliveries were put in and are not settled."""
        return self._under_way

    @property
    def lingers(self) -> float:
        """How long a lane waits for more, when one does."""
        return self._taking.window if any(lane is not None and lane.is_lingering for lane in self._lanes) else 0.0

    async def room(self) -> int:
        """Waits until something may be put in; returns how many."""
        await self._room.wait()
        return self._taking.ahead - self._under_way

    def put_one(self, delivery: Delivery) -> None:
        """Queues a delivery in its lane."""
        slot = self._taking.order.lane_of(delivery.message, self._taking.lanes)
        lane = self._lanes[slot] or self._begin(slot)
        lane.queue.append(delivery)
        lane.wake()
        self._note(1)

    def put(self, deliveries: Sequence[Delivery]) -> None:
        """Queues deliveries in their lanes."""
        taking, lanes = self._taking, self._lanes
        slots = taking.order.lanes_of([delivery.message for delivery in deliveries], taking.lanes)
        for delivery, slot in zip(deliveries, slots, strict=True):
            (lanes[slot] or self._begin(slot)).queue.append(delivery)
        for slot in set(slots):
            if (lane := lanes[slot]) is not None:
                lane.wake()
        self._note(len(deliveries))

    def _note(self, many: int) -> None:
        self._under_way += many
        self._idle.clear()
        if self._under_way >= self._taking.ahead:
            self._room.clear()

    def _begin(self, slot: int) -> Lane:
        lane = self._lanes[slot] = Lane(self._work, self._spawn, self._taking)
        return lane

    async def drained(self) -> None:
        """Waits until all that was put in is settled."""
        await self._idle.wait()

    def abandon(self) -> None:
        """Stops all lanes at once; what was not settled will come again."""
        for lane in self._lanes:
            if lane is not None:
                lane.abandon()
        self._lanes = [None] * self._taking.lanes

    async def _work(self, batch: Sequence[Delivery]) -> None:
        many = await self._handle(batch)
        if self._settled is not None and many:
            await self._settled(batch[:many])
        self._under_way -= len(batch)
        if self._under_way < self._taking.ahead:
            self._room.set()
        if not self._under_way:
            self._idle.set()
