"""The gate before a handler: it lets deliveries through, unless most of the last have failed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from torpor.kernel.breaker import Circuit, Permit, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.breaker import State
    from torpor.kernel.message import Delivery
    from torpor.kernel.pause import Pause
    from torpor.runtime.context import Context


class Gate:
    """Counts what becomes of a binding's deliveries. When too many fail, they wait; then one is let through."""

    __slots__ = ("_circuit", "_context", "_is_shut", "_name", "_open")

    def __init__(self, pause: Pause | None, *, name: str, context: Context) -> None:
        self._name = name
        self._context = context
        self._circuit: Circuit | None = None
        if pause is not None:
            self._circuit = Circuit(failures=pause.failures, of=pause.of, open_seconds=pause.seconds)
        self._open = asyncio.Event()
        self._open.set()
        self._is_shut = False

    @property
    def pauses(self) -> float:
        """For how many seconds more nothing is let through."""
        if self._circuit is None or self._circuit.state == "closed":
            return 0.0
        return self._circuit.seconds_left(self._context.clock.time())

    @property
    def permit(self) -> Permit | None:
        """What `leave` asks for, when all may be handled at once; None sends to `enter`."""
        circuit = self._circuit
        return None if circuit is None or circuit.state != "closed" else circuit.permit

    async def enter(self, wanted: int) -> tuple[Permit | None, int]:
        """Waits until some of the wanted may be handled; returns how many, and what `leave` asks for. None may, when
        the gate is shut and the handler pauses."""
        while self._circuit is not None:
            answer = self._circuit.ask(self._context.clock.time())
            if not isinstance(answer, Refusal):
                return answer, wanted if self._circuit.state == "closed" else 1
            if self._is_shut:
                return None, 0
            await self._context.clock.wait(self._open, answer.retry_after)
        return None, wanted

    def leave(self, permit: Permit | None, deliveries: Sequence[Delivery]) -> None:
        """Counts what became of deliveries that were let through."""
        if self._circuit is None or permit is None:
            return
        if len(deliveries) == 1 and deliveries[0].outcome == "succeeded" and self._circuit.state == "closed":
            self._circuit.succeed(permit, 1)
            return
        outcomes = [delivery.outcome for delivery in deliveries]
        if self._circuit.state == "closed" and outcomes.count("succeeded") == len(outcomes):
            self._circuit.succeed(permit, len(outcomes))
            return
        now = self._context.clock.time()
        for outcome in outcomes:
            state = self._circuit.settle(permit, outcome or "abandoned", now)
            if state is not None:
                self._changed(state)

    def shut(self) -> None:
        """Turns away what waits for a pause to end, now and from now on. What need not wait goes on: a drain."""
        self._is_shut = True
        self._open.set()

    def _changed(self, state: State) -> None:
        """The circuit has closed, and all go on; or it has opened, and all wait."""
        circuit, context = self._circuit, self._context
        context.metrics.of(self._name).is_paused = state != "closed"
        if circuit is None or state == "closed":
            self._open.set()
            context.health.note(self._name, None)
            return
        if not self._is_shut:
            self._open.clear()
        told = f"{circuit.failed} of its last {circuit.counted} messages failed"
        context.health.note(self._name, f"paused: {told}; one is tried every {circuit.open_seconds:g} s")
