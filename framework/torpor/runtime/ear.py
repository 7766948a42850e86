"""An ear: one group's listening, which tries again now and then while the broker does not let it hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.ports.clock import Clock
    from torpor.ports.exchange import Exchange, Listening, Take

_AGAIN_SECONDS = 5.0


class Ear:
    """Listens to a topic from `open` to `stop`."""

    __slots__ = ("_again_at", "_clock", "_exchange", "_listening", "_place")

    def __init__(self, exchange: Exchange, topic: str, group: str, *, take: Take, clock: Clock) -> None:
        self._exchange = exchange
        self._place = (topic, group, take)
        self._clock = clock
        self._listening: Listening | None = None
        self._again_at = 0.0

    @property
    def trouble(self) -> str | None:
        """Why it hears nothing."""
        return None if self._listening is None else self._listening.trouble

    async def open(self) -> None:
        """Begins. Raises BrokerUnavailable."""
        self._listening = await self._exchange.listen(*self._place)
        self._again_at = self._clock.time() + _AGAIN_SECONDS

    async def look(self) -> None:
        """Begins anew when it hears nothing and it is time: it may be permitted by now. Raises BrokerUnavailable."""
        if self.trouble is not None and self._clock.time() >= self._again_at:
            deaf = self._listening
            await self.open()
            if deaf is not None:
                await deaf.stop()

    async def stop(self) -> None:
        """Hears no more."""
        if self._listening is not None:
            await self._listening.stop()
