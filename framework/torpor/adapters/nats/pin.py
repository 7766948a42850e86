"""The pin: which consumer of a group is the active one, as the server knows it.

An unshared subscription's durable has a priority group with the policy `pinned_client`. The server pins the group to
one client, delivers to that client alone, and takes the pin away when the client has not asked with the pin's id for
the pin timeout. What the former client had been given and not acknowledged is put in order again by a reset: the
durable goes back to its first unacknowledged message, and delivers all from there on anew.

Who has the pin also listens to a subject that is named for it. The server says at once when nobody does: a holder that
was there before and is no more has lost its connection, and need not be waited for.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from torpor.adapters.nats.connection import API
from torpor.kernel.errors import BrokerUnavailable, TorporError

if TYPE_CHECKING:
    from torpor.adapters.nats.connection import Connection

GROUP = "torpor"
LOST = "423"
LEVEL = 4  # of JetStream's API, which knows the reset
SINCE = "nats-server 2.14"

_logger = logging.getLogger("torpor.nats")


class Pin:
    """One consumer's view of the pin of its group. `id` is None while it stands by."""

    def __init__(self, connection: Connection, stream: str, durable: str) -> None:
        self.id: str | None = None
        self.holder: str | None = None  # as it was found at the last look
        self._former: str | None = None
        self._present: str | None = None  # a holder that has answered
        self._gone: str | None = None  # one that had, and is there no more
        self._connection = connection
        self._place = f"{stream}.{durable}"

    def request(self) -> dict[str, Any]:
        """What a pull request says of the group."""
        return {"group": GROUP} if self.id is None else {"group": GROUP, "id": self.id}

    def drop(self) -> None:
        """Gives the id up. The server may not know yet."""
        self._former, self.id = self.id or self._former, None

    async def look(self) -> None:
        """Has what nobody works on delivered again. Called by who stands by, now and then: the server would wait for
        the ack wait. Raises BrokerUnavailable."""
        info = await self._ask("INFO")
        self.holder = _holder(info)
        if self.holder is not None and self.holder in {self._former, self._gone}:
            await self._ask("UNPIN", {"group": GROUP})  # of a connection that was lost, ours or another's
            self.holder = None
        if self.holder is None and info.get("num_ack_pending"):
            await self.reset()

    def hear(self, holder: str, *, is_there: bool) -> bool:
        """Learns whether a holder is connected. Whether it was before, and is no more."""
        if is_there:
            self._present = holder
        elif holder == self._present:
            self._gone = holder
        return holder == self._gone

    async def reset(self) -> None:
        """Has all that is not acknowledged delivered from the first on. Raises BrokerUnavailable."""
        await self._ask("RESET")

    async def give_up(self) -> None:
        """Lets another consumer take over at once, from the first message that is not acknowledged."""
        self.drop()
        if self._former is None:
            return
        try:
            if _holder(await self._ask("INFO")) == self._former:
                await self.reset()
                await self._ask("UNPIN", {"group": GROUP})
        except TorporError as error:
            _logger.debug("Another consumer of %s takes over after the pin timeout: %s", self._place, error)

    async def _ask(self, verb: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        payload = json.dumps(body).encode() if body else b""
        answer = await self._connection.ask(f"{API}.CONSUMER.{verb}.{self._place}", payload)
        told: dict[str, Any] = json.loads(answer.data) if answer.data else {"error": "no answer"}
        if "error" in told:
            raise BrokerUnavailable(f"Consumer {self._place} is not there for {verb}: {told['error']}.")
        return told


def presence_of(holder: str) -> str:
    """The subject that who has the pin listens to."""
    return f"_INBOX.torpor.{holder}"


def _holder(info: dict[str, Any]) -> str | None:
    groups = info.get("priority_groups") or [{}]
    return groups[0].get("pinned_client_id") or None
