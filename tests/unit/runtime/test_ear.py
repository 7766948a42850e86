"""An ear that the broker does not let hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.kernel.errors import BrokerUnavailable
from torpor.ports.exchange import ExchangePromises
from torpor.runtime.ear import Ear

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.exchange import Heard, Take


class StrictExchange:
    """An exchange that lets nobody listen until it is told to."""

    def __init__(self) -> None:
        self.promises = ExchangePromises(keeps_order=True, tells_absence=True)
        self.is_open = False
        self.is_away = False
        self.listening: list[StrictListening] = []

    async def listen(self, topic: str, group: str, take: Take) -> StrictListening:
        if self.is_away:
            raise BrokerUnavailable("away")
        self.listening.append(StrictListening(None if self.is_open else f"Allow {topic}."))
        return self.listening[-1]

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        raise NotImplementedError

    async def ask(self, request: Message) -> Message | None:
        raise NotImplementedError

    async def answer(self, heard: Heard, answer: Message) -> None:
        raise NotImplementedError


class StrictListening:
    """A listening that may hear or not."""

    def __init__(self, trouble: str | None) -> None:
        self.trouble = trouble
        self.is_stopped = False

    async def stop(self) -> None:
        self.is_stopped = True


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def wait(self, event: object, seconds: float) -> bool:
        raise NotImplementedError


async def test_it_tries_again_after_a_while_and_leaves_nothing_behind() -> None:
    """Not at each look; a broker that is away changes nothing, and what is deaf is stopped once it is replaced."""
    exchange, clock = StrictExchange(), HandClock()
    ear = Ear(exchange, "topic", "group", take=lambda _: None, clock=clock)
    assert ear.trouble is None
    await ear.open()
    await ear.look()
    assert (ear.trouble, len(exchange.listening)) == ("Allow topic.", 1)

    clock.now, exchange.is_away = 6.0, True
    with pytest.raises(BrokerUnavailable):
        await ear.look()
    assert ear.trouble == "Allow topic."

    exchange.is_away, exchange.is_open = False, True
    await ear.look()
    assert ear.trouble is None
    await ear.look()
    assert [listening.is_stopped for listening in exchange.listening] == [True, False]
    await ear.stop()
    assert exchange.listening[-1].is_stopped
