"""A database server under simulation: the memory store behind a network, with effects, and with units that it ends
when their client is gone."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from torpor.kernel.parked import ParkedQuery
from torpor.testing.simulation.loop import current_process, immediately

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message
    from torpor.ports.store import Store
    from torpor.testing.simulation.ledger import Effect, Ledger
    from torpor.testing.simulation.loop import Process
    from torpor.testing.simulation.script import Script
    from torpor.testing.simulation.weather import Network

_ALL = 1_000_000


class Seat:
    """One client's place in the queue for the database's only writer."""

    def __init__(self) -> None:
        self.process: Process = current_process()
        self.is_lost = False  # the server has ended it

    def rolled_back(self) -> None:
        """The server ends it without its client."""
        self.is_lost = True


class Database:
    """What the replicas of one service share. It outlives them."""

    def __init__(self, service: str, store: Store, *, network: Network, ledger: Ledger, script: Script) -> None:
        self.service = service
        self.store = store
        self.network = network
        self.ledger = ledger
        self.script = script
        self.seats: dict[Seat, None] = {}  # in order of asking
        self._writer: Seat | None = None
        self._queue: deque[tuple[Seat, asyncio.Future[None]]] = deque()

    async def take(self, seat: Seat) -> None:
        """Waits for the right to write."""
        self.seats[seat] = None
        if self._writer is None:
            self._writer = seat
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((seat, turn))
        try:
            await turn
        except asyncio.CancelledError:
            self.leave(seat)
            raise

    def leave(self, seat: Seat) -> None:
        """Gives the right to write to the next."""
        self.seats.pop(seat, None)
        if self._writer is not seat:
            return
        self._writer = None
        while self._queue:
            next_seat, turn = self._queue.popleft()
            if not (next_seat.process.is_dead or next_seat.is_lost or turn.done()):
                self._writer = next_seat
                turn.set_result(None)
                return

    def hang_up(self, process: Process | None = None) -> None:
        """Rolls back the units of a process that is gone, or of all of them."""
        for seat in [seat for seat in self.seats if process is None or seat.process is process]:
            seat.rolled_back()
            self.leave(seat)
        for seat, turn in self._queue:
            if seat.is_lost and not turn.done():
                turn.set_result(None)  # it wakes up without the writer, and finds itself lost

    async def redrive(self, numbers: Sequence[int], *, at: float) -> None:
        """An operator's redrive, at the server itself."""
        seat = Seat()
        await self.take(seat)
        if not seat.is_lost:
            immediately(self.store.parking.redrive(ParkedQuery(numbers=numbers), at))
        self.leave(seat)

    def record(self, messages: list[Message], effects: list[Effect]) -> None:
        """Notes a commit."""
        lot = immediately(self.store.parking.list(limit=_ALL))
        self.ledger.committed(self.service, messages, effects=effects, lot=lot)
