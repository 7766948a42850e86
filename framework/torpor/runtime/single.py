"""One handler call for a message that is not kept: nothing admits it, and nothing repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.runtime.context import Committed
from torpor.runtime.injection import Scope
from torpor.runtime.publishing import flattened
from torpor.runtime.tx import Tx

if TYPE_CHECKING:
    from torpor.kernel.message import Message
    from torpor.ports.store import Store
    from torpor.runtime.context import Context
    from torpor.runtime.plan import Handled


class Single:
    """Calls one handler. It has a unit of its own if it asks for `Tx`, or publishes what it returns."""

    __slots__ = ("_context", "_handled", "_has_unit", "_only", "_returns_events", "_store")

    def __init__(self, handled: Handled, store: Store, context: Context, *, returns_events: bool) -> None:
        self._handled = handled
        self._store = store
        self._context = context
        self._returns_events = returns_events
        self._only = handled.call.only_payload  # such a call needs no scope
        self._has_unit = handled.call.uses_tx or (returns_events and bool(handled.publishes))

    async def run(self, message: Message, payload: Any) -> Any:
        """What the handler returned, once its effects are committed. Raises what it raised."""
        if self._has_unit:
            return await self._run_in_unit(message, payload)
        if self._only is not None:
            return await self._handled.function(**{self._only: payload})
        scope = Scope(self._context.resources, payload=payload)
        scope.message = message
        return await self._handled.call.invoke(scope, {})

    async def _run_in_unit(self, message: Message, payload: Any) -> Any:
        async with self._store.unit() as unit:
            tx = Tx(unit, self._handled, envelope=self._context.envelope, message=message)
            try:
                result = await self._handled.call.invoke(Scope(self._context.resources, tx=tx, payload=payload), {})
                await tx.finish(flattened(result) if self._returns_events else ())
            finally:
                await tx.close()
            if tx.published or tx.timers:
                await unit.append(tx.published, [], tx.timers)
            await unit.commit()
        rows = Committed(len(tx.published), timers=len(tx.timers), fleeting=tx.fleeting, forgotten=tx.forgotten)
        self._context.committed(rows)
        return result
