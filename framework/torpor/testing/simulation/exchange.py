"""An exchange under simulation: the memory switch behind a network that loses what nobody keeps."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextvars import copy_context
from typing import TYPE_CHECKING

from torpor.testing.simulation.loop import current_process, immediately

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torpor.kernel.errors import Rejected
    from torpor.kernel.message import Message
    from torpor.ports.exchange import Exchange, Heard, Listening, Take
    from torpor.testing.simulation.loop import Process
    from torpor.testing.simulation.weather import Network


class ExchangeServer:
    """What all connections share. It learns only after a while that a process is gone."""

    def __init__(self, network: Network, waiting: Callable[[], int]) -> None:
        self.network = network
        self.asking: Counter[Process] = Counter()  # requests that are waited for
        self.listening: list[tuple[Process, Listening]] = []
        self._waiting = waiting

    def forget_the_dead(self) -> None:
        """Sends no more to processes that are gone. Called now and then."""
        for process, listening in self.listening:
            if process.is_dead:
                immediately(listening.stop())
        self.listening = [(process, listening) for process, listening in self.listening if not process.is_dead]

    def left_over(self) -> int:
        """How many waits for an answer are left, beside those that died with their processes."""
        return self._waiting() - sum(count for process, count in self.asking.items() if process.is_dead)


class SimulatedExchange:
    """One replica's exchange."""

    def __init__(self, server: ExchangeServer, inner: Exchange) -> None:
        self.promises = inner.promises
        self._server = server
        self._inner = inner

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        await self._server.network.cross("tell")
        return {} if self._is_lost("fleeting events are") else await self._inner.tell(messages)

    async def listen(self, topic: str, group: str, take: Take) -> Listening:
        await self._server.network.cross("listen")
        loop, process, context = asyncio.get_running_loop(), current_process(), copy_context()

        def arrive(heard: Heard) -> None:
            if process.is_dead:
                self._server.network.trace.note(process.name, "is sent what it never hears")
            else:
                loop.call_soon(take, heard, context=context)  # a frozen one hears it once it thaws

        listening = await self._inner.listen(topic, group, arrive)
        self._server.listening.append((process, listening))
        return listening

    async def ask(self, request: Message) -> Message | None:
        await self._server.network.cross("ask")
        if self._is_lost("a request is"):
            await asyncio.get_running_loop().create_future()
        process = current_process()
        self._server.asking[process] += 1
        try:
            answer = await self._inner.ask(request)
        finally:
            self._server.asking[process] -= 1
        await self._server.network.delay()
        return answer

    async def answer(self, heard: Heard, answer: Message) -> None:
        await self._server.network.cross("answer")
        if not self._is_lost("an answer is"):
            await self._inner.answer(heard, answer)

    def _is_lost(self, what: str) -> bool:
        network = self._server.network
        is_lost = network.weather.happens(network.weather.lost_passing)
        if is_lost:
            network.trace.note(current_process().name, f"{what} lost on the way")
        return is_lost
