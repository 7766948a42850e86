"""The memory broker's exchange keeps the port's contract, and plays an outage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from torpor.adapters.memory.broker import MemoryBroker, MemoryHub
from torpor.kernel.errors import BrokerUnavailable
from torpor.testing.conformance.broker import counted
from torpor.testing.conformance.exchange import AskingConformance, Ear, TellingConformance, until

if TYPE_CHECKING:
    from torpor.ports.broker import Broker
    from torpor.ports.exchange import Exchange


class MemoryExchanges:
    too_large = 1_048_577

    def __init__(self) -> None:
        self._hub = MemoryHub()

    def exchange(self) -> tuple[Broker, Exchange]:
        broker = MemoryBroker(self._hub)
        return broker, broker.exchange


@pytest.fixture
def exchanges() -> MemoryExchanges:
    """Exchanges on one hub."""
    return MemoryExchanges()


class TestTelling(TellingConformance): ...


class TestAsking(AskingConformance): ...


async def test_who_waits_when_the_hub_goes_down_learns_of_it() -> None:
    """An outage ends the waiting for an answer, of which nobody knows whether it would have come."""
    hub = MemoryHub()
    broker = MemoryBroker(hub)
    await broker.start()
    ear = Ear()
    await broker.exchange.listen("t", "g", ear.take)
    asking = asyncio.create_task(broker.exchange.ask(counted("t", [1])[0]))
    await until(lambda: bool(ear.heard))

    hub.is_down = True

    with pytest.raises(BrokerUnavailable):
        await asking
