"""The push side: messages are handed in, go through the lanes, and whoever handed them in is told what to answer."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from torpor.kernel.message import Delivery
from torpor.runtime.lane import WINDOW, Intake, taking_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from torpor.kernel.message import Message
    from torpor.runtime.context import Context
    from torpor.runtime.plan import SubscriberBinding
    from torpor.runtime.unit import Units

    Rest = Callable[[], Awaitable[None]]  # returns once what was published is out, or cannot be for now


class Verdict(IntEnum):
    """What became of a push. Of several, the greatest counts."""

    DONE = 0  # the effects, or the parked copies, are durable
    REFUSED = 1  # no further attempt can change that it fails, and there is no database to park it in
    BUSY = 2  # to be sent again soon


class Push:
    """Messages that were handed in together, and whoever is to be told what became of them."""

    __slots__ = ("_left", "_tell", "_verdict", "due_at")

    def __init__(self, many: int, *, due_at: float, tell: Callable[[Verdict], None]) -> None:
        self._left = many
        self._verdict = Verdict.DONE
        self._tell: Callable[[Verdict], None] | None = tell
        self.due_at = due_at

    @property
    def is_answered(self) -> bool:
        """Whether whoever waited has been told."""
        return self._tell is None

    def settle(self, verdict: Verdict) -> None:
        """Notes what became of one of them."""
        if verdict is not Verdict.DONE:
            self._verdict = max(self._verdict, verdict)
        self._left -= 1
        if not self._left:
            self.answer(self._verdict)

    def answer(self, verdict: Verdict) -> None:
        """Tells whoever waits, unless they were told."""
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(verdict)


class Receiver:
    """Takes a binding's messages from requests, in the order in which these come."""

    def __init__(self, binding: SubscriberBinding, units: Units, *, context: Context, is_stateless: bool) -> None:
        self.binding = binding
        self.gate = units.gate
        spawn = partial(context.health.watch, binding.handled.name)
        taking = taking_of(binding.policies, context.clock)
        self.intake = Intake(units.run, spawn=spawn, settled=self._settled, taking=taking)
        self._is_stateless = is_stateless
        self._context = context
        self._pushes: dict[str, Push] = {}  # by the id of a message that is under way, in the order of their coming
        self._expiring: asyncio.Task[None] | None = None
        self._deadline = binding.policies.deadline
        self._is_taking = False

    def start(self) -> None:
        """Begins to take messages."""
        self._is_taking = True
        self._context.report(self.binding.handled.name, None)

    async def stop(self) -> None:
        """Takes no more; what was taken goes on in its lanes, unless its handler pauses."""
        self._is_taking = False
        self.gate.shut()

    def take(self, message: Message, tell: Callable[[Verdict], None]) -> None:
        """Handles a message; tells once it is settled, or when the handler's deadline is over. One that is under way
        already is to come again."""
        pushes = self._pushes
        if message.id in pushes or not self._has_room():
            tell(Verdict.BUSY)
            return
        push = pushes[message.id] = Push(1, due_at=self._context.clock.time() + self._deadline, tell=tell)
        if self._expiring is None:
            self._watch()
        self.intake.put_one(Delivery(message, push))

    async def receive(self, arrivals: Sequence[tuple[Message, str | None]]) -> Verdict:
        """Handles messages, each with what is wrong with its envelope; returns once they are settled, or when the
        handler's deadline is over. Those that are under way already are to come again."""
        if not self._has_room():
            return Verdict.BUSY
        fresh = {message.id: (message, fault) for message, fault in arrivals if message.id not in self._pushes}
        is_busy = len(fresh) < len({message.id for message, _ in arrivals})
        if not fresh:
            return Verdict.BUSY if is_busy else Verdict.DONE  # an empty batch
        told: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

        def tell(verdict: Verdict) -> None:
            if not told.done():  # whoever waited may be gone
                told.set_result(verdict)

        push = Push(len(fresh), due_at=self._context.clock.time() + self._deadline, tell=tell)
        self._pushes.update(dict.fromkeys(fresh, push))
        self._watch()
        self.intake.put([Delivery(message, push, fault=fault) for message, fault in fresh.values()])
        verdict = await told
        return Verdict.BUSY if is_busy else verdict

    def abandon(self) -> None:
        """Answers whoever still waits: what is not settled will not be here."""
        self.intake.abandon()
        pushes, self._pushes = self._pushes, {}
        for push in pushes.values():
            push.answer(Verdict.BUSY)
        if self._expiring is not None:
            self._expiring.cancel()

    def _watch(self) -> None:
        """Has the deadlines kept. One task watches all: a timer for each push would cost more than the rest of it."""
        if self._expiring is None or self._expiring.done():
            self._expiring = self._context.health.watch(self.binding.handled.name, self._expire())

    async def _expire(self) -> None:
        clock = self._context.clock
        while (oldest := next((push for push in self._pushes.values() if not push.is_answered), None)) is not None:
            wait = oldest.due_at - clock.time()
            if wait > 0:
                await clock.sleep(wait)
            else:
                oldest.answer(Verdict.BUSY)
        self._expiring = None

    def _has_room(self) -> bool:
        """Whether what comes now would be handled soon."""
        is_in_trouble = self._context.health.reasons.get(self.binding.handled.name) is not None
        is_full = self.intake.under_way >= WINDOW
        return self._is_taking and not (is_in_trouble or is_full or self.gate.pauses)

    async def _settled(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            push: Push | None = delivery.token  # none, when it was parked here and is tried again
            if push is not None:
                self._pushes.pop(delivery.message.id, None)
                push.settle(self._verdict(delivery))

    def _verdict(self, delivery: Delivery) -> Verdict:
        if not self._is_stateless or delivery.outcome == "succeeded":
            return Verdict.DONE
        retry, error = self.binding.policies.retry, delivery.error
        is_for_later = error is not None and retry.wait_after(error, delivery.attempts) is not None
        return Verdict.BUSY if delivery.outcome is None or is_for_later else Verdict.REFUSED


class Reception:
    """Where a host is handed the messages of its handlers, each by its name."""

    __slots__ = ("_out", "_published", "_rest", "_resting", "receivers")

    def __init__(self, rest: Rest) -> None:
        self.receivers: dict[str, Receiver] = {}
        self._rest = rest
        self._published = 0  # messages, by the units that have committed
        self._out = 0  # of these, as far as is known
        self._resting: set[asyncio.Task[None]] = set()

    async def receive(self, handler: str, arrivals: Sequence[tuple[Message, str | None]]) -> Verdict:
        """Has messages handled, each with what is wrong with its envelope; returns what to answer, once their effects
        are durable and, if that can be, what they published is out."""
        receiver = self.receivers.get(handler)
        verdict = Verdict.BUSY if receiver is None else await receiver.receive(arrivals)
        if verdict is Verdict.DONE and self._out != self._published:
            await self._publish()
        return verdict

    def take(self, handler: str, message: Message, tell: Callable[[Verdict], None]) -> None:
        """As `receive`, of one message that could be read, and without a task: `tell` is called with what to
        answer."""
        receiver = self.receivers.get(handler)
        if receiver is None:
            tell(Verdict.BUSY)
        else:
            receiver.take(message, partial(self._settled, tell))

    def committed(self, published: int) -> None:
        """Notes what is to be out before a request is answered."""
        self._published += published

    def _settled(self, tell: Callable[[Verdict], None], verdict: Verdict) -> None:
        if verdict is not Verdict.DONE or self._out == self._published:
            tell(verdict)
            return
        resting = asyncio.get_running_loop().create_task(self._publish())
        self._resting.add(resting)
        resting.add_done_callback(self._resting.discard)
        resting.add_done_callback(lambda _: tell(verdict))

    async def _publish(self) -> None:
        published = self._published
        await self._rest()
        self._out = max(self._out, published)
