"""What a handler can answer besides events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Park:
    """Returned by a handler to set its message aside at once, with a reason, and without its effects.

    ```python
    @orders.on(PaymentCaptured)
    async def mark_paid(event: PaymentCaptured, tx: Tx) -> OrderPaid | Park:
        if event.currency != "EUR":
            return Park("only euros are taken")
        ...
    ```
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return f"Park({self.reason!r})"


class Failed:
    """Returned by a batch handler to name the events that it could not handle; the others keep their effects.

    ```python
    @orders.on(OrderPlaced, batch=Batch(500))
    async def count(events: list[OrderPlaced], tx: Tx) -> Failed | None:
        late = [event for event in events if event.is_late]
        ...
        return Failed(late, "came too late") if late else None
    ```

    The handler must have done nothing for those it names. They are tried again by the binding's `Retry`, or parked.
    When the list also holds others of their keys, it is taken back, halved, and handed over again, so that none
    overtakes one that has failed.
    """

    __slots__ = ("events", "reason")

    def __init__(self, events: Sequence[object], reason: str) -> None:
        self.events = tuple(events)
        self.reason = reason

    def __repr__(self) -> str:
        return f"Failed({len(self.events)} events, {self.reason!r})"
