"""No database: a unit's messages are published when it commits, and what cannot be handled goes to a parked topic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from torpor.kernel.errors import StatementFailed
from torpor.kernel.message import Message
from torpor.ports.outbox import LogState
from torpor.ports.store import StorePromises
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torpor.kernel.message import ParkedMessage, Timer
    from torpor.kernel.parked import Inspection, ParkedQuery
    from torpor.ports.broker import Broker
    from torpor.ports.hints import Hints
    from torpor.ports.leases import Holding, Leases
    from torpor.ports.outbox import LogEntry, OutboxLog
    from torpor.ports.parking import ParkingLot
    from torpor.ports.requests import Answer, Answers, Requests, Turn
    from torpor.ports.statements import Statements
    from torpor.ports.timers import Timers


class DirectStore:
    """Publishes at commit. At least once, as a delivery that was not acknowledged comes again; no inbox knows it.

    Unless it parks, what cannot be handled is not published: whoever has handed it in is told.
    """

    __slots__ = ("_broker", "_parked_topic", "answers", "hints", "leases", "outbox", "parking", "promises", "timers")

    def __init__(self, broker: Broker, service: str, *, parks: bool = True) -> None:
        self.promises = StorePromises(is_durable=False, is_transactional=False, runs_sql=False)
        self.outbox: OutboxLog = NoOutbox()
        self.parking: ParkingLot = ParkedTopic(f"{service}.parked")
        self.timers: Timers = NoTimers()
        self.leases: Leases = FreeLeases()
        self.hints: Hints = NoHints()
        self.answers: Answers = NoAnswers()
        self._broker = broker
        self._parked_topic = f"{service}.parked" if parks else None

    def __repr__(self) -> str:
        return f"<DirectStore {self._parked_topic}>"

    async def start(self) -> None:
        """Nothing to open."""

    async def migrate(self, own: Mapping[str, str]) -> Sequence[str]:
        """Nothing to change."""
        return []

    def unit(self) -> DirectUnit:
        return DirectUnit(self._broker, self._parked_topic)

    async def ping(self) -> None:
        """Nothing to ask."""

    async def stop(self) -> None:
        """Nothing to close."""


class DirectUnit:
    """Holds messages back until the commit, and publishes them in order, those set aside last."""

    __slots__ = ("_broker", "_held", "_mark", "_parked_topic", "_set_aside", "requests", "statements")

    def __init__(self, broker: Broker, parked_topic: str | None) -> None:
        self.statements: Statements = _STATEMENTS
        self.requests: Requests = _REQUESTS
        self._broker = broker
        self._parked_topic = parked_topic
        self._held: list[Message] = []
        self._set_aside: list[Message] = []
        self._mark = (0, 0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.clear()
        self._set_aside.clear()

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        """All are new: nothing remembers them."""
        return Admission({message.id for message in messages}, ())

    async def claim(self, number: int) -> bool:
        """No rows, so none to take."""
        return False

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        if timers:
            raise _no_database()
        self._held += messages
        if self._parked_topic is not None:
            self._set_aside += [_parked_copy(row, self._parked_topic) for row in parked]

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        raise _no_database()

    async def savepoint(self) -> None:
        self._mark = len(self._held), len(self._set_aside)

    async def rollback_to_savepoint(self) -> None:
        held, set_aside = self._mark
        del self._held[held:], self._set_aside[set_aside:]

    async def commit(self) -> None:
        """Publishes. Raises BrokerUnavailable, or the first refusal; the delivery is then not acknowledged."""
        messages, set_aside, self._held, self._set_aside = self._held, self._set_aside, [], []
        if not messages and not set_aside:
            return
        if set_aside:
            await self._broker.declare([set_aside[0].topic], ())
        refusals = await self._broker.publish([*messages, *set_aside])
        if refusals:
            raise refusals[min(refusals)]


class NoRequests:
    """Says what to set, so that answers can be kept."""

    __slots__ = ()

    async def take(self, place: str, key: str, now: float) -> Turn:
        raise _no_database()

    async def keep(self, place: str, key: str, answer: Answer, *, until: float) -> None:
        raise _no_database()


class NoAnswers:
    """Always empty."""

    __slots__ = ()

    async def forget(self, before: float) -> None:
        """No answers."""


class NoStatements:
    """Says what to set, so that statements can run."""

    __slots__ = ()

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        raise _no_database()

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        raise _no_database()

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        raise _no_database()

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        raise _no_database()

    def session(self) -> Any:
        raise _no_database()


_STATEMENTS, _REQUESTS = NoStatements(), NoRequests()


class NoOutbox:
    """Always empty: messages are published by their units."""

    __slots__ = ()

    async def pending(
        self, limit: int, epoch: int | None = None, past: Mapping[int, int] | None = None
    ) -> Sequence[LogEntry]:
        return ()

    async def advance(self, positions: Mapping[int, int], epoch: int, parked: Sequence[ParkedMessage] = ()) -> None:
        """No cursors."""

    async def trim(self, *, published: float, admitted: float) -> None:
        """Nothing is kept."""

    async def state(self) -> LogState:
        return LogState(kept=0, kept_since=None, waiting=0, waiting_since=None, cursors={})

    async def published_since(self, since: float, topic: str | None = None) -> Mapping[str, int]:
        return {}

    async def replay(self, since: float, topic: str | None = None) -> None:
        raise _no_database()


class ParkedTopic:
    """Holds no rows: what is set aside is on the parked topic. Says so to whoever would change some."""

    __slots__ = ("_topic",)

    def __init__(self, topic: str) -> None:
        self._topic = topic

    async def due(self, now: float, limit: int) -> Sequence[ParkedMessage]:
        return ()

    async def list(
        self, query: ParkedQuery | None = None, *, after: int = 0, limit: int = 100
    ) -> Sequence[ParkedMessage]:
        return ()

    async def redrive(self, query: ParkedQuery, at: float) -> int:
        raise self._refusal("redriven")

    async def discard(self, query: ParkedQuery) -> int:
        raise self._refusal("discarded")

    async def count(self, query: ParkedQuery | None = None) -> Mapping[str, int]:
        return {}

    async def inspect(self, number: int) -> Inspection | None:
        return None

    async def edit(self, number: int, data: bytes, *, attributes: Mapping[str, str], at: float) -> bool:
        raise self._refusal("edited")

    def _refusal(self, done: str) -> StatementFailed:
        return StatementFailed(
            f"This service has no database: its parked messages are on the topic {self._topic!r}, and cannot be {done} "
            "there. Publish them again from that topic, or set TORPOR_DATABASE_URL, and later ones are parked in it."
        )


class NoTimers:
    """Always empty: a message that waits needs a database to wait in."""

    __slots__ = ()

    async def due(self, now: float, limit: int) -> Sequence[Timer]:
        return ()

    async def next_due(self) -> float | None:
        return None


class FreeLeases:
    """Grants every lease: there is nothing to guard."""

    __slots__ = ()

    async def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        return 1

    async def release(self, name: str, holder: str) -> None:
        """Nothing is held."""

    async def find(self, name: str) -> Holding | None:
        return None


class NoHints:
    """Nobody has anything left to do for another."""

    __slots__ = ()

    def tell(self) -> None:
        """Nothing to tell."""

    async def listen(self, heard: Callable[[], None]) -> None:
        """Nothing to hear."""


def _parked_copy(row: ParkedMessage, topic: str) -> Message:
    """The original message on the parked topic, with what an operator needs to send it back.

    Its id names the binding too: two bindings may set the same message aside, and a broker would drop a copy.
    """
    message = row.message
    attributes = {
        **message.attributes,
        "torporbinding": row.binding,
        "torporreason": row.reason,
        "torportopic": message.topic,
        "torporid": message.id,
    }
    id = f"{message.id}/{row.binding}"
    return Message(topic, message.data, id=id, type=message.type, key=message.key, attributes=attributes)


def _no_database() -> StatementFailed:
    return StatementFailed("This service has no database. Set TORPOR_DATABASE_URL, for example sqlite:///orders.db.")
