"""What passes through memory and is not kept. Like the broker beside it, it has no tasks and no timers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable, Rejected
from torpor.ports.exchange import ExchangePromises, Heard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torpor.kernel.message import Message
    from torpor.ports.exchange import Take


class Switch:
    """Who listens to what, among the brokers of one hub. The members of a group take turns."""

    def __init__(self, *, max_payload: int) -> None:
        self.max_payload = max_payload
        self.told: list[Message] = []
        self._groups: dict[tuple[str, str], list[Take]] = {}
        self._waiting: set[asyncio.Future[Message | None]] = set()

    @property
    def waiting(self) -> int:
        """How many wait for an answer."""
        return len(self._waiting)

    def listen(self, topic: str, group: str, take: Take) -> None:
        """Adds a member to a group."""
        self._groups.setdefault((topic, group), []).append(take)

    def leave(self, topic: str, group: str, take: Take) -> None:
        """Takes a member out of its group."""
        members = self._groups[topic, group]
        members.remove(take)
        if not members:
            del self._groups[topic, group]

    def send(self, heard: Heard) -> bool:
        """Hands a message to one member of each group; tells whether there was any."""
        groups = list(self._listening(heard.message.topic))
        for members in groups:
            members.append(members.pop(0))
            members[-1](heard)
        return bool(groups)

    async def ask(self, request: Message) -> Message | None:
        """Waits for the first answer; None when nobody listens."""
        first: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self._waiting.add(first)
        try:
            if not self.send(Heard(request, first)):
                return None
            return await first
        finally:
            self._waiting.discard(first)

    def cut(self) -> None:
        """Ends all waiting for answers, as the loss of the connection does."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(BrokerUnavailable("The memory broker went down."))

    def check(self, message: Message) -> None:
        """Raises Rejected for a message that is too large."""
        if len(message.data) > self.max_payload:
            raise Rejected(f"{message!r} is too large; the memory broker takes at most {self.max_payload} bytes.")

    def _listening(self, topic: str) -> Iterator[list[Take]]:
        return (members for (listened, _), members in self._groups.items() if listened == topic)


class MemoryExchange:
    """A service's way to a switch, for as long as its broker runs."""

    def __init__(self, switch: Switch, check: Callable[[], None]) -> None:
        self.promises = ExchangePromises(keeps_order=True, tells_absence=True)
        self._switch = switch
        self._check = check

    async def tell(self, messages: Sequence[Message]) -> Mapping[int, Rejected]:
        self._check()
        refusals: dict[int, Rejected] = {}
        for index, message in enumerate(messages):
            try:
                self._switch.check(message)
            except Rejected as refusal:
                refusals[index] = refusal
            else:
                self._switch.told.append(message)
                self._switch.send(Heard(message))
        return refusals

    async def listen(self, topic: str, group: str, take: Take) -> MemoryListening:
        self._check()
        return MemoryListening(self._switch, topic, group=group, take=take)

    async def ask(self, request: Message) -> Message | None:
        self._check()
        self._switch.check(request)
        return await self._switch.ask(request)

    async def answer(self, heard: Heard, answer: Message) -> None:
        self._check()
        self._switch.check(answer)
        if heard.way is not None and not heard.way.done():
            heard.way.set_result(answer)


class MemoryListening:
    """A member of a group, until it stops."""

    trouble: str | None = None

    def __init__(self, switch: Switch, topic: str, *, group: str, take: Take) -> None:
        self._switch = switch
        self._place = (topic, group, take)
        self._is_stopped = False
        switch.listen(*self._place)

    async def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._switch.leave(*self._place)
