"""When a binding that keeps failing stops handling for a while."""

from __future__ import annotations

import math

from torpor.kernel.errors import ConfigurationError


class Pause:
    """Pauses a handler most of whose messages fail, so that an outage behind it does not park them all.

    ```python
    @orders.on(OrderPlaced, pause=Pause(failures=20, of=40, seconds=30))
    async def charge(event: OrderPlaced, tx: Tx) -> OrderPaid: ...
    ```

    Once `failures` of the last `of` messages have been set aside, the handler takes no more for `seconds`, and what
    comes waits in its place. Then one message is tried: when it is handled, all go on, and when it fails, the pause
    begins anew. Every handler of a topic has a `Pause()` unless it says `pause=None`.
    """

    __slots__ = ("failures", "of", "seconds")

    def __init__(self, *, failures: int = 50, of: int = 100, seconds: float = 10.0) -> None:
        problems = []
        if not 1 <= failures <= of:
            problems.append(f"Pause(failures={failures}, of={of}): expected 1 or more failures, and no more than `of`.")
        if not (math.isfinite(seconds) and seconds > 0):
            problems.append(f"Pause(seconds={seconds}): expected seconds above 0.")
        if problems:
            raise ConfigurationError(problems)
        self.failures = failures
        self.of = of
        self.seconds = seconds

    def __repr__(self) -> str:
        return f"Pause(failures={self.failures}, of={self.of}, seconds={self.seconds:g})"
