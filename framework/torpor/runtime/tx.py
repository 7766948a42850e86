"""The transaction, as a handler sees it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from torpor.contract.codec import encode
from torpor.kernel.errors import ConfigurationError, NotRunning, StatementFailed, UndeclaredEvent
from torpor.kernel.message import Timer
from torpor.runtime.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from sqlmodel.ext.asyncio.session import AsyncSession

    from torpor.contract.event import Contract
    from torpor.kernel.identity import Caller
    from torpor.kernel.message import Message
    from torpor.ports.clock import Clock
    from torpor.ports.unit import Unit
    from torpor.runtime.steps import StepKey


_PASSED_ON = ("traceparent", "authtype", "authid")


class Envelope:
    """What a service puts on each message it publishes."""

    __slots__ = ("_second", "_text", "clock", "new_id", "service")

    def __init__(self, service: str, *, clock: Clock, new_id: Callable[[], str] | None = None) -> None:
        self.service = service
        self.new_id = new_id or self._first_id
        self.clock = clock
        self._second = -1.0
        self._text = ""

    def attributes(self, cause: Message | None, caller: Caller | None = None) -> Mapping[str, str]:
        """The attributes of a new message, which tell its cause and pass on its correlation, trace and caller."""
        attributes = {"source": self.service, "time": self._now(), "datacontenttype": "application/json"}
        if cause is not None:
            attributes["causationid"] = cause.id
            attributes["correlationid"] = cause.attributes.get("correlationid", cause.id)
            for name in _PASSED_ON:
                if name in cause.attributes:
                    attributes[name] = cause.attributes[name]
        if caller is not None:
            attributes |= caller.attributes()
        return attributes

    def _first_id(self) -> str:
        """An id, by what is imported once one is needed: who publishes nothing needs none."""
        from torpor.runtime.ids import new_id

        self.new_id = new_id
        return new_id()

    def _now(self) -> str:
        """The time as RFC 3339 writes it. The text of a second is kept: it is most of what this costs."""
        second, part = divmod(self.clock.time(), 1.0)
        if second != self._second:
            self._second, self._text = second, f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._text}.{int(part * 1_000_000):06d}Z"


class Publisher(Protocol):
    """What is known of a handler when it publishes."""

    name: str
    location: str
    publishes: frozenset[type[Contract]]


class Tx:
    """The transaction of one handled message or request.

    What is done through it, the handler's published events included, is committed together once the handler
    returns, or not at all. Parameters of statements are written `$1`, `$2` … on every database.

    ```python
    @orders.on(PaymentCaptured)
    async def mark_paid(event: PaymentCaptured, tx: Tx) -> OrderPaid:
        await tx.execute("UPDATE orders SET status = 'paid' WHERE id = $1", event.order_id)
        return OrderPaid(order_id=event.order_id)
    ```
    """

    __slots__ = (
        "_caller", "_deferred", "_envelope", "_follows", "_handled", "_is_shared", "_request", "_session", "_unit",
        "fleeting", "forgotten", "message", "published", "timers",
    )  # fmt: skip

    def __init__(
        self,
        unit: Unit,
        handled: Publisher,
        *,
        envelope: Envelope,
        message: Message | None,
        request: str | None = None,
        deferred: Deferred | None = None,
        caller: Caller | None = None,
    ) -> None:
        self._caller = caller
        self._unit: Unit | None = unit
        self._handled = handled
        self._envelope = envelope
        self._deferred = Deferred() if deferred is None else deferred
        self._is_shared = deferred is not None  # then the unit sends what is left
        self._follows = bool(self._deferred)  # behind statements of handlers before this one
        self._session: AsyncSession | None = None
        self._request = request  # what its client calls it, when it does
        self.message = message
        self.published: list[Message] = []
        self.fleeting: list[Message] = []  # not for the outbox: told once the unit has committed
        self.timers: list[Timer] = []
        self.forgotten: set[str] = set()  # tags

    async def execute(self, statement: str, *parameters: object) -> int:
        """Runs a statement at once; returns the number of rows it changed."""
        await self._flush_deferred()
        return await self._open.statements.execute(statement, parameters)

    async def fetch(self, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Runs a query; returns its rows by column name."""
        await self._flush_deferred()
        return await self._open.statements.fetch(statement, parameters)

    async def fetch_one(self, statement: str, *parameters: object) -> dict[str, Any] | None:
        """Runs a query; returns its first row, or None."""
        rows = await self.fetch(statement, *parameters)
        return rows[0] if rows else None

    async def insert_many(self, table: str, rows: Iterable[Mapping[str, object]]) -> int:
        """Adds rows to `table` or `schema.table` at once, the fastest way the database has; returns how many. A row is
        its columns by name, each of the same columns. Names are taken as they are, capitals too."""
        from torpor.runtime.rows import table_rows

        columns, values = table_rows(table, rows)
        await self._flush_deferred()
        return await self._open.statements.insert_many(table, columns, values) if values else 0

    def write(self, statement: str, *parameters: object) -> None:
        """Hands over a statement whose result is not needed: sent with its like, in order, before the next read or
        the commit. It is the fastest way to write; its errors fail the handler late."""
        _ = self._open
        self._deferred.add(statement, parameters)

    @property
    def session(self) -> AsyncSession:
        """A SQLModel session in this transaction, made on first use. The unit commits it."""
        if self._session is None:
            if self._follows and self._deferred:
                self._deferred.is_in_doubt = True  # a session cannot wait for them here
                raise StatementFailed("Statements of earlier messages are to be sent first. The unit is replayed so.")
            self._session = self._open.statements.session()
        return self._session

    def publish(
        self,
        event: object,
        *,
        key: str | None = None,
        after: float | timedelta | None = None,
        at: datetime | None = None,
        timer: str | None = None,
    ) -> None:
        """Publishes an event once the transaction has committed, after those published before it.

        With `after` (seconds, or a timedelta) or `at` (a datetime with its zone) it waits in the database until then.
        `timer` names the wait: a later one of that name takes its place, and `cancel` ends it.
        """
        envelope = self._envelope
        message = self._made(event, key, envelope.attributes(self.message, self._caller))
        due_at = _due(after, at, envelope.clock)
        if not getattr(event, "__torpor_durable__", True):
            if due_at is not None or timer is not None:
                told = f"{type(event).__name__} is fleeting (durable=False), and cannot wait. Give it no time."
                raise ConfigurationError([told])
            self.fleeting.append(message)
        elif due_at is not None:
            self.timers.append(Timer(timer or message.id, due_at, message))
        elif timer is not None:
            raise ConfigurationError(
                [f"tx.publish(timer={timer!r}) names a wait, and has none. Give it after= or at=."]
            )
        else:
            self.published.append(message)

    def forget(self, *tags: str) -> None:
        """Has the answers that are kept with these tags given to nobody any more, once the transaction has committed;
        see `Cached`."""
        _ = self._open
        given: tuple[object, ...] = tags
        for tag in given:
            if not isinstance(tag, str):
                told = f"tx.forget({tag!r}): a tag is a text, such as 'orders'."
                raise ConfigurationError([f"{told} Write tx.forget(*tags) for a list of them."])
        self.forgotten.update(tags)

    async def cancel(self, timer: str) -> bool:
        """Ends a named wait, so that its event is not published; False when it is over already, or never was."""
        waiting = [wait for wait in self.timers if wait.name == timer]
        for wait in waiting:
            self.timers.remove(wait)
        return await self._open.cancel(timer) or bool(waiting)

    @property
    def step_key(self) -> StepKey:
        """Makes keys for calls to other systems: `tx.step_key("charge")` is the same each time this is handled."""
        from torpor.runtime.steps import StepKey

        return StepKey(self._handled.name, self._request if self.message is None else self.message.id)

    async def finish(self, returned: Iterable[Contract] = ()) -> None:
        """Publishes what the handler has returned, at one time, and sends what was handed over and not yet sent: the
        session's changes, and the deferred statements unless the unit gathers those of several handlers."""
        if returned:
            attributes = self._envelope.attributes(self.message, self._caller)
            for event in returned:
                message = self._made(event, None, attributes)
                (self.published if event.__torpor_durable__ else self.fleeting).append(message)
        if self._session is not None or not self._is_shared:
            await self._flush_deferred()
        if self._session is not None:
            await self._session.flush()

    async def close(self) -> None:
        """Ends the handler's use of the transaction; a later use tells so."""
        self._unit = None
        if self._session is not None:
            await self._session.close()

    def _made(self, event: object, key: str | None, attributes: Mapping[str, str]) -> Message:
        """The message of an event that is published. Raises UndeclaredEvent."""
        if type(event) not in self._handled.publishes:
            name, where = type(event).__name__, f"{self._handled.name!r} ({self._handled.location})"
            raise UndeclaredEvent(
                f"Handler {where} published {name}, which its declaration does not name. "
                f"Add it to the return annotation, or give the decorator publishes=[{name}]."
            )
        _ = self._open
        return encode(event, id=self._envelope.new_id(), key=key, attributes=attributes)

    @property
    def _open(self) -> Unit:
        if self._unit is None:
            raise NotRunning(
                f"Handler {self._handled.name!r} ({self._handled.location}) used its Tx after it had returned. "
                "Await all of a handler's work inside the handler."
            )
        return self._unit

    async def _flush_deferred(self) -> None:
        if self._deferred:
            follows, self._follows = self._follows, False
            await self._deferred.send(self._open.statements, are_of_several=follows)


def _due(after: float | timedelta | None, at: datetime | None, clock: Clock) -> float | None:
    """When a message is due; None for at once."""
    if at is not None:
        if after is not None or at.tzinfo is None:
            raise ConfigurationError([f"tx.publish(at={at}) needs a datetime with its zone, and no after= beside it."])
        return at.timestamp()
    if after is None:
        return None
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    if not 0 <= seconds < math.inf:
        raise ConfigurationError([f"tx.publish(after={after}) has no end, or lies in the past. Give seconds."])
    return clock.time() + seconds


class Transactions:
    """Transactions of a route's own making, for one that must look more than once, or wait between.

    ```python
    @orders.post("/orders", status_code=202)
    async def place(order: NewOrder, transactions: Transactions) -> Accepted:
        async with transactions() as tx:  # commits at its end, rolls back on an exception
            ...
    ```

    A route that needs one transaction asks for `Tx`. An event handler has exactly one, so it cannot ask for these.
    """

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[], AbstractAsyncContextManager[Tx]]) -> None:
        self._begin = begin

    def __call__(self) -> AbstractAsyncContextManager[Tx]:
        """Begins a transaction."""
        return self._begin()
