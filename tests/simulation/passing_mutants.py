"""Old faults of what is not kept, to be put back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from torpor.adapters.memory.exchange import MemoryExchange
from torpor.contract.codec import encode
from torpor.kernel.message import Message
from torpor.ports.exchange import Heard
from torpor.runtime.host import Host
from torpor.testing.simulation import Parts
from torpor.testing.simulation.services import Asked, Seen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.adapters.memory.broker import MemoryBroker
    from torpor.kernel.errors import Rejected
    from torpor.ports.exchange import Listening, Take


def exchanging(exchange: type[MemoryExchange]) -> Parts:
    """Parts with another exchange."""

    def on(broker: MemoryBroker) -> MemoryExchange:
        made: Any = broker.exchange
        return exchange(made._switch, made._check)

    return Parts(exchange=on)


def hosting(host: type[Host]) -> Parts:
    """Parts with another host."""
    return Parts(host=host)


class RepeatingExchange(MemoryExchange):
    """An exchange that sends a request again when it was asked to be patient."""

    async def listen(self, topic: str, group: str, take: Take) -> Listening:
        def twice(heard: Heard) -> None:
            take(heard)
            take(heard)

        return await super().listen(topic, group, twice if topic == "sim.asked" else take)


class EchoingExchange(MemoryExchange):
    """An exchange that tells fleeting events twice."""

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        await super().tell(messages)
        return await super().tell(messages)


class HastyExchange(MemoryExchange):
    """An exchange that answers what it takes, before anything is done with it."""

    async def listen(self, topic: str, group: str, take: Take) -> Listening:
        def answer(heard: Heard) -> None:
            if heard.way is not None and not heard.way.done():
                number = heard.message.data.rpartition(b":")[2].rstrip(b"}")
                heard.way.set_result(Message("sim.asked", number, id="hasty", type="answer"))
            take(heard)

        return await super().listen(topic, group, answer)


class ForgetfulExchange(MemoryExchange):
    """An exchange that never forgets who has waited for an answer."""

    async def ask(self, request: Message) -> Message | None:
        self._switch._waiting.add(asyncio.get_running_loop().create_future())
        return await super().ask(request)


class PatientHost(Host):
    """A host that waits for an answer as long as it takes."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._way: Any = named["exchange"]

    @property
    def ask(self) -> Any:
        return self._ask_patiently

    async def _ask_patiently(self, request: Asked, **_: Any) -> int:
        answer = await self._way.ask(encode(request, id=self._context.envelope.new_id(), key=None, attributes={}))
        return request.number if answer is not None else -1


class TalkativeExchange(MemoryExchange):
    """An exchange that tells what a handler means to publish before its unit is committed."""

    async def listen(self, topic: str, group: str, take: Take) -> Listening:
        def tell(heard: Heard) -> None:
            if topic == "sim.asked":
                asked = Asked.model_validate_json(heard.message.data)
                seen = Seen(key=asked.key, number=asked.number)
                self._switch.send(Heard(encode(seen, id=heard.message.id, key=asked.key, attributes={})))
            take(heard)

        return await super().listen(topic, group, tell)
