"""One transaction over a batch of deliveries, on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torpor.adapters.postgres.database import changed
from torpor.adapters.postgres.errors import DRIVER_ERRORS, refusal
from torpor.adapters.postgres.requests import PostgresRequests
from torpor.adapters.postgres.rows import outbox_columns, outbox_literals, parked_columns, timer_columns
from torpor.adapters.postgres.statements import PostgresStatements
from torpor.adapters.postgres.text import array, indexed, literal, stored
from torpor.adapters.postgres.transaction import Transaction
from torpor.ports.unit import Admission

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from types import TracebackType

    from torpor.adapters.postgres.database import Database
    from torpor.adapters.postgres.session import Lender
    from torpor.kernel.message import Message, ParkedMessage, Timer
    from torpor.ports.requests import Requests
    from torpor.ports.statements import Statements

# What is sent with COMMIT, as literals: beyond, to parse them costs more than the exchange.
_FEW = 8  # messages
_SHORT = 8_192  # bytes of their payloads
_PARAMETERS = [f"${number}" for number in range(1, 9)]


class PostgresUnit:
    """One open transaction, and the context manager that `Store.unit` gives. It begins with its first statement."""

    __slots__ = ("_database", "_last", "_plain", "_statements", "_transaction", "requests", "statements")

    def __init__(self, database: Database, plain: set[str], lender: Callable[[], Lender]) -> None:
        self._database = database
        self._plain = plain  # the bindings whose last admission was the plain case: all new, and nothing parked
        self._transaction = Transaction(database.units)
        self._statements = PostgresStatements(self._transaction, lender)
        self._last: Sequence[Message] = ()  # what is appended with the commit
        self.statements: Statements = self._statements
        self.requests: Requests = PostgresRequests(self._transaction, database)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._statements.forget()
        finally:
            await self._transaction.rollback()

    async def admit(self, binding: str, messages: Sequence[Message], queue: str | None = None) -> Admission:
        """Enters the ids into the binding's inbox and tells which were not there, as the unit sees it."""
        if not messages:
            return Admission((), ())
        ids = {indexed(message.id): message.id for message in messages}
        if queue is None:
            queues = {indexed(message.key): message.key for message in messages if message.key is not None}
        else:
            queues = {indexed(queue): queue}
        if binding in self._plain and self._transaction.is_untouched:
            if await self._is_plain(binding, ids, queues):
                return Admission(ids.values(), ())
            self._plain.discard(binding)
            await self._transaction.restart()
        admission = await self._admit(binding, ids, queues)
        if len(admission.fresh) == len(ids) and not admission.blocked:
            self._plain.add(binding)
        return admission

    async def _is_plain(self, binding: str, ids: Collection[str], queues: Collection[str]) -> bool:
        """Begins and admits in one exchange, which can only tell whether all ids are new and nothing of the queues is
        parked."""
        database = self._database
        name, at = literal(stored(binding)), repr(database.clock.time())
        if len(ids) == 1 and len(queues) <= 1 and not database.options.is_pooled:
            (id,) = ids
            queue = next(map(literal, queues), "NULL")
            enter = database.queries["enter_one"].format(name, literal(id), queue, at)
        else:
            enter = database.literally("enter").format(name, array(sorted(ids)), array(queues), at)
        return (await self._transaction.begin(enter)) in {f"INSERT 0 {len(ids)}", "SELECT 1"}

    async def _admit(self, binding: str, ids: Mapping[str, str], queues: Mapping[str, str]) -> Admission:
        connection = await self._transaction.connection()
        named, name = self._database.queries, stored(binding)
        try:
            # In order, so that two units that enter the same ids do not deadlock.
            fresh = await connection.fetch(named["admit"], name, sorted(ids), self._database.clock.time())
            blocked = await connection.fetch(named["blocked"], name, list(queues)) if queues else ()
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_inbox") from error
        return Admission({ids[row[0]] for row in fresh}, {queues[row[0]] for row in blocked})

    async def claim(self, number: int) -> bool:
        """Takes a due parked row out of the table; False when another has taken it or an operator holds it."""
        connection = await self._transaction.connection()
        try:
            return changed(await connection.execute(self._database.queries["claim"], number)) == 1
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_parked") from error

    async def append(
        self, messages: Sequence[Message], parked: Sequence[ParkedMessage], timers: Sequence[Timer] = ()
    ) -> None:
        """Adds to the outbox log, in order, to the parked rows and to the timers. The log comes last, so that the
        locks of its shards are held for as short as can be; a few short messages come with the commit."""
        named = self._database.queries
        if timers:
            await self._execute(named["set_timers"], *timer_columns(timers))
        if parked:
            await self._execute(named["park"], *parked_columns(parked))
        if not messages:
            return
        await self._send()
        if len(messages) <= _FEW and sum(len(message.data) for message in messages) <= _SHORT:
            self._last = messages
            return
        columns = outbox_columns(messages, self._database.shards)
        await self._execute(named["append"].format(*_PARAMETERS), *columns, self._database.clock.time())

    async def cancel(self, timer: str, due_at: float | None = None) -> bool:
        """Takes a timer out by its name, and only with that due time when one is given; False when it is not there."""
        connection = await self._transaction.connection()
        try:
            return changed(await connection.execute(self._database.queries["cancel"], indexed(timer), due_at)) == 1
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_timer") from error

    async def savepoint(self) -> None:
        """Marks a place to fall back to; a second call moves the mark."""
        await self._send()
        await self._statements.flush()
        self._transaction.mark()

    async def rollback_to_savepoint(self) -> None:
        """Takes back all that came after the mark, which stays."""
        self._last = ()
        await self._transaction.fall_back()
        await self._statements.forget()

    async def commit(self) -> None:
        """Makes it durable. When it raises StoreUnavailable it is unknown whether it was: the inbox will tell."""
        await self._statements.flush()
        await self._transaction.commit(self._last_append())

    async def _send(self) -> None:
        """Appends what was left for the commit: it is not the last after all."""
        if self._last:
            await self._execute(self._last_append())
        self._last = ()

    def _last_append(self) -> str:
        """The statement, with literals, that appends what was left for the commit."""
        if not self._last:
            return ""
        is_one = len(self._last) == 1
        append = self._database.literally("append_one") if is_one else self._database.queries["append"]
        literals = outbox_literals(self._last, self._database.shards)
        return append.format(*literals, repr(self._database.clock.time()))

    async def _execute(self, statement: str, *parameters: object) -> None:
        connection = await self._transaction.connection()
        try:
            await connection.execute(statement, *parameters)
        except DRIVER_ERRORS as error:
            raise refusal(error, "torpor_outbox") from error
