"""What a handler can answer besides events."""

from __future__ import annotations


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
