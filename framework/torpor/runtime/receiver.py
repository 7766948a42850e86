"""The push side: messages are handed in, go through the lanes, and whoever handed them in is told what to answer."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING

from torpor.kernel.message import Delivery
from torpor.runtime.lane import WINDOW, Intake, taking_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message
    from torpor.runtime.context import Context
    from torpor.runtime.plan import SubscriberBinding
    from torpor.runtime.unit import Units


class Verdict(IntEnum):
    """What became of a push. Of several, the greatest counts."""

    DONE = 0  # the effects, or the parked copies, are durable
    REFUSED = 1  # no further attempt can change that it fails, and there is no database to park it in
    BUSY = 2  # to be sent again soon


class Push:
    """Messages that were handed in together, and whoever waits for them."""

    __slots__ = ("_left", "_verdict", "answered", "due_at")

    def __init__(self, many: int, due_at: float) -> None:
        self._left = many
        self._verdict = Verdict.DONE
        self.due_at = due_at
        self.answered: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def settle(self, verdict: Verdict) -> None:
        """Notes what became of one of them."""
        self._verdict = max(self._verdict, verdict)
        self._left -= 1
        if not self._left:
            self.answer(self._verdict)

    def answer(self, verdict: Verdict) -> None:
        """Tells whoever waits, unless they were told, or are gone."""
        if not self.answered.done():
            self.answered.set_result(verdict)


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
        self._pushes: dict[str, Push] = {}  # by the id of a message that is under way
        self._awaited: dict[Push, None] = {}  # in the order of their deadlines
        self._expiring: asyncio.Task[None] | None = None
        self._is_taking = False

    def start(self) -> None:
        """Begins to take messages."""
        self._is_taking = True
        self._context.report(self.binding.handled.name, None)

    async def stop(self) -> None:
        """Takes no more; what was taken goes on in its lanes, unless its handler pauses."""
        self._is_taking = False
        self.gate.shut()

    async def receive(self, arrivals: Sequence[tuple[Message, str | None]]) -> Verdict:
        """Handles messages, each with what is wrong with its envelope; returns once they are settled, or when the
        handler's deadline is over. One that is under way already is to come again."""
        if not self._has_room():
            return Verdict.BUSY
        fresh = {message.id: (message, fault) for message, fault in arrivals if message.id not in self._pushes}
        is_busy = len(fresh) < len({message.id for message, _ in arrivals})
        if not fresh:
            return Verdict.BUSY if is_busy else Verdict.DONE  # an empty batch
        push = Push(len(fresh), self._context.clock.time() + self.binding.policies.deadline)
        self._pushes.update(dict.fromkeys(fresh, push))
        self.intake.put([Delivery(message, push, fault=fault) for message, fault in fresh.values()])
        verdict = await self._answer(push)
        return Verdict.BUSY if is_busy else verdict

    def abandon(self) -> None:
        """Answers whoever still waits: what is not settled will not be here."""
        self.intake.abandon()
        for push in self._pushes.values():
            push.answer(Verdict.BUSY)
        self._pushes.clear()
        if self._expiring is not None:
            self._expiring.cancel()

    async def _answer(self, push: Push) -> Verdict:
        """What to answer, once it is known or the deadline is over. One task watches all deadlines: a timer for each
        would cost more than the rest of the wait."""
        self._awaited[push] = None
        if self._expiring is None or self._expiring.done():
            self._expiring = self._context.health.watch(self.binding.handled.name, self._expire())
        try:
            return await push.answered
        finally:
            del self._awaited[push]

    async def _expire(self) -> None:
        clock = self._context.clock
        while self._awaited:
            oldest = next(iter(self._awaited))
            wait = oldest.due_at - clock.time()
            if wait > 0:
                await clock.sleep(wait)
            else:
                oldest.answer(Verdict.BUSY)
                await clock.sleep(0)  # it leaves by itself

    def _has_room(self) -> bool:
        """Whether what comes now would be handled soon."""
        is_in_trouble = self._context.health.reasons.get(self.binding.handled.name) is not None
        is_full = self.intake.under_way >= WINDOW
        return self._is_taking and not (is_in_trouble or is_full or self.gate.pauses)

    async def _settled(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            push: Push | None = delivery.token
            if push is not None:
                self._pushes.pop(delivery.message.id, None)
                push.settle(self._verdict(delivery))

    def _verdict(self, delivery: Delivery) -> Verdict:
        if not self._is_stateless or delivery.outcome == "succeeded":
            return Verdict.DONE
        retry, error = self.binding.policies.retry, delivery.error
        is_for_later = error is not None and retry.wait_after(error, delivery.attempts) is not None
        return Verdict.BUSY if delivery.outcome is None or is_for_later else Verdict.REFUSED
