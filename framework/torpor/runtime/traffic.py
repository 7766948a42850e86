"""Traffic: all of a service's messages that pass through the broker and are not kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, NotRunning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message
    from torpor.ports.exchange import Exchange, Take
    from torpor.ports.store import Store
    from torpor.runtime.answering import Answering
    from torpor.runtime.asking import Asking
    from torpor.runtime.context import Context
    from torpor.runtime.ear import Ear
    from torpor.runtime.hearing import Hearing
    from torpor.runtime.plan import AnswererBinding, Plan, SubscriberBinding
    from torpor.runtime.telling import Telling


class Traffic:
    """What one service asks and answers, tells and hears, from start to drain."""

    def __init__(self, plan: Plan, exchange: Exchange | None, *, store: Store, context: Context) -> None:
        self._asking: Asking | None = None  # until something is asked
        self._exchange = exchange
        self._plan = plan
        self._store = store
        self._context = context
        self._telling: Telling | None = None  # until there is something to tell
        self._answering: list[Answering] = []
        self._hearing: list[Hearing] = []
        self._ears: dict[str, Ear] = {}

    @property
    def ask(self) -> Asking:
        """What asks other services."""
        if self._asking is None:
            from torpor.runtime.asking import Asking

            self._asking = Asking(self._exchange, self._context.envelope)
        return self._asking

    @property
    def under_way(self) -> int:
        """How many messages wait or are being handled."""
        hearing = sum(hearing.intake.under_way for hearing in self._hearing)
        return hearing + sum(answering.under_way for answering in self._answering)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is handled, or is on its way out."""
        return not self.under_way and (self._telling is None or self._telling.is_idle)

    def tell(self, messages: Sequence[Message]) -> None:
        """Sends the fleeting events of a unit that has committed. Must not wait."""
        if messages:
            if self._telling is None:
                from torpor.runtime.telling import Telling

                self._telling = Telling(self._exchange, self._plan.name, self._context)
            self._telling.put(messages)

    async def open(self) -> None:
        """Begins to hear and to answer. Raises BrokerUnavailable, and goes on where it was when called again."""
        exchange = self._exchange
        if exchange is None:
            if self._plan.uses_exchange:
                raise NotRunning(f"{self._plan.name!r} needs a broker that carries what is not kept.")
            return
        for listener in self._plan.listeners:
            if listener.handled.name not in self._ears:
                await self._hear(listener, exchange)
        for answerer in self._plan.answerers:
            if answerer.handled.name not in self._ears:
                await self._answer(answerer, exchange)

    async def look(self) -> None:
        """Tells of each handler whether it hears. Called now and then."""
        for name, ear in self._ears.items():
            with contextlib.suppress(BrokerUnavailable):  # of which another part tells
                await ear.look()
            self._context.health.report(name, ear.trouble)

    async def retire(self) -> None:
        """Hears no more: what was heard goes on."""
        await asyncio.gather(*(ear.stop() for ear in self._ears.values()))

    async def drained(self) -> None:
        """Waits until all that was heard is handled, and all that is to be told is told."""
        for hearing in self._hearing:
            await hearing.intake.drained()
        for answering in self._answering:
            await answering.drained()
        if self._telling is not None:
            await self._telling.drained()

    def abandon(self) -> None:
        """Lets go of what is not handled."""
        for hearing in self._hearing:
            hearing.intake.abandon()
        for answering in self._answering:
            answering.abandon()

    async def _hear(self, listener: SubscriberBinding, exchange: Exchange) -> None:
        from torpor.runtime.hearing import Hearing
        from torpor.runtime.single import Single

        handled = listener.handled
        single = Single(handled, self._store, self._context, returns_events=True)
        hearing = Hearing(listener, single, context=self._context)
        await self._listen(handled.name, exchange, listener.topic, group=listener.group, take=hearing.take)
        self._hearing.append(hearing)

    async def _answer(self, answerer: AnswererBinding, exchange: Exchange) -> None:
        from torpor.runtime.answering import Answering
        from torpor.runtime.single import Single

        handled = answerer.handled
        single = Single(handled, self._store, self._context, returns_events=False)
        answering = Answering(answerer, single, exchange=exchange, context=self._context)
        await self._listen(handled.name, exchange, answerer.topic, group=self._plan.name, take=answering.take)
        self._answering.append(answering)

    async def _listen(self, name: str, exchange: Exchange, topic: str, *, group: str, take: Take) -> None:
        from torpor.runtime.ear import Ear

        ear = Ear(exchange, topic, group, take=take, clock=self._context.clock)
        await ear.open()
        self._ears[name] = ear
        self._context.health.report(name, ear.trouble)
