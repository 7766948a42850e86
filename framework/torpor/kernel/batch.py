"""How many messages a handler takes at once."""

from __future__ import annotations

import math

from torpor.kernel.errors import ConfigurationError

_MOST = 10_000


class Batch:
    """Hands a handler a list of events, in one transaction.

    ```python
    @orders.on(OrderPlaced, batch=Batch(500, window=0.05))
    async def count(events: list[OrderPlaced], tx: Tx) -> None | Failed: ...
    ```

    `size` is the most that it takes at once; it takes fewer when fewer wait. `window` is how many seconds it waits for
    more before it begins with less than that. Batches of a binding follow each other, so that every key keeps its
    order. When the handler fails, the batch is taken back and halved, down to the message that fails.
    """

    __slots__ = ("size", "window")

    def __init__(self, size: int = 100, *, window: float = 0.0) -> None:
        problems = []
        if not 1 <= size <= _MOST:
            problems.append(f"Batch({size}): expected a size from 1 to {_MOST}.")
        if not (math.isfinite(window) and window >= 0):
            problems.append(f"Batch(window={window}): expected seconds, 0 or more.")
        if problems:
            raise ConfigurationError(problems)
        self.size = size
        self.window = window

    def __repr__(self) -> str:
        return f"Batch({self.size}, window={self.window:g})"
