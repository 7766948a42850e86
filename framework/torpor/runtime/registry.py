"""The registry: the connections of one service in one process, their groups, and the way to those of the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING

from torpor.kernel.errors import BrokerUnavailable
from torpor.kernel.frames import BINARY, TEXT, frame
from torpor.kernel.message import Message
from torpor.runtime.ids import new_id
from torpor.runtime.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torpor.ports.exchange import Exchange, Heard
    from torpor.runtime.context import Context
    from torpor.runtime.ear import Ear
    from torpor.runtime.peer import Peer

    Told = tuple[int, bytes]  # the kind of a message to a client, and its bytes

TOPIC = "torpor.sockets."
_GROUP, _ONE, _BINARY, _REPLICA = "torpor.group", "torpor.connection", "application/octet-stream", "socketreplica"
_SLICE = 200  # connections that are written to before others have a turn
_MOST_WAITING = 1000  # broadcasts


class Registry:
    """Knows who is connected, and passes on what they are sent."""

    def __init__(self, service: str, exchange: Exchange | None, context: Context) -> None:
        self._exchange = exchange
        self._context = context
        self._numbers = context.metrics
        self._replica = new_id()
        self._topic = f"{TOPIC}{service}"
        self._telling = Telling(exchange, service, context)
        self._ear: Ear | None = None
        self._peers: dict[str, Peer] = {}
        self._groups: dict[str, set[Peer]] = {}
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._passing: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._waiting and self._telling.is_idle

    @property
    def peers(self) -> tuple[Peer, ...]:
        """Who is connected."""
        return tuple(self._peers.values())

    def __len__(self) -> int:
        return len(self._peers)

    async def open(self) -> None:
        """Begins to hear the other replicas. Raises BrokerUnavailable, and may be called again then."""
        if self._exchange is not None and self._ear is None:
            from torpor.runtime.ear import Ear

            group, clock = f"sockets-{self._replica}", self._context.clock
            ear = Ear(self._exchange, self._topic, group, take=self._hear, clock=clock)
            await ear.open()
            self._ear = ear

    async def look(self) -> None:
        """Tells whether the other replicas are heard. Called now and then."""
        if self._ear is not None:
            with contextlib.suppress(BrokerUnavailable):  # of which another part tells
                await self._ear.look()
            self._context.health.report("sockets.broadcasts", self._ear.trouble)

    async def close(self) -> None:
        """Hears no more, and tells what is to be told."""
        if self._ear is not None:
            await self._ear.stop()
        await self._telling.drained()

    def add(self, peer: Peer) -> None:
        """Somebody is connected."""
        self._peers[peer.id] = peer
        self._numbers.connections += 1

    def remove(self, peer: Peer) -> bool:
        """Somebody is gone; whether they were still here."""
        if self._peers.pop(peer.id, None) is None:
            return False
        self._numbers.connections -= 1
        self.leave(peer, peer.groups)
        return True

    def join(self, peer: Peer, groups: Sequence[str]) -> None:
        """Makes a peer a member of groups."""
        if peer.id in self._peers:
            peer.groups = tuple(dict.fromkeys((*peer.groups, *groups)))
            for group in groups:
                self._groups.setdefault(group, set()).add(peer)

    def leave(self, peer: Peer, groups: Sequence[str]) -> None:
        """Ends memberships."""
        for group in groups:
            members = self._groups.get(group, set())
            members.discard(peer)
            if not members:
                self._groups.pop(group, None)
        peer.groups = tuple(group for group in peer.groups if group not in groups)

    def write(self, peer: Peer, framed: bytes) -> None:
        """Sends to a peer, unless it is gone."""
        if peer.id in self._peers:
            peer.wire.write(framed)

    def broadcast(self, group: str, told: Told) -> None:
        """Sends to the members of a group, here and in the other replicas."""
        self._pass_on(_GROUP, group, told)
        self._deliver(group, frame(*told))

    def send_to(self, connection: str, told: Told) -> None:
        """Sends to a connection, here or elsewhere."""
        peer = self._peers.get(connection)
        if peer is None:
            self._pass_on(_ONE, connection, told)
        else:
            peer.wire.write(frame(*told))

    def _deliver(self, group: str, framed: bytes) -> None:
        members = self._groups.get(group)
        if members and len(members) <= _SLICE and not self._waiting:
            _write(tuple(members), framed)
        elif members and len(self._waiting) < _MOST_WAITING:
            self._waiting.append((group, framed))
            if self._passing is None:
                self._passing = self._context.health.watch("sockets", self._pass())
        elif members:
            self._numbers.drop("broadcast")

    async def _pass(self) -> None:
        """Writes broadcasts to many, in order, and lets others have a turn in between."""
        while self._waiting:
            group, framed = self._waiting[0]
            members = tuple(self._groups.get(group, ()))
            for at in range(0, len(members), _SLICE):
                _write(members[at : at + _SLICE], framed)
                await asyncio.sleep(0)
            self._waiting.popleft()
        self._passing = None

    def _pass_on(self, kind: str, key: str, told: Told) -> None:
        """Has the other replicas hear it."""
        if self._exchange is None:
            return
        opcode, data = told
        attributes = {_REPLICA: self._replica}
        if opcode == BINARY:
            attributes["datacontenttype"] = _BINARY
        self._telling.put([Message(self._topic, data, id=new_id(), type=kind, key=key, attributes=attributes)])

    def _hear(self, heard: Heard) -> None:
        message = heard.message
        if heard.fault is not None or message.key is None or message.attributes.get(_REPLICA) == self._replica:
            return
        framed = frame(BINARY if message.attributes.get("datacontenttype") == _BINARY else TEXT, message.data)
        if message.type == _GROUP:
            self._deliver(message.key, framed)
        elif message.type == _ONE and message.key in self._peers:
            self._peers[message.key].wire.write(framed)


def _write(peers: Iterable[Peer], framed: bytes) -> None:
    for peer in peers:
        peer.wire.write(framed)
