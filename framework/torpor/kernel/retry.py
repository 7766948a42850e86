"""The failure ladder's arithmetic: who is tried again, how often, and how long to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_WAIT = 0.1
_LONGEST_WAIT = 5.0


class Retry:
    """How often a failing message is handled before it is parked.

    ```python
    @orders.on(PaymentCaptured, retry=Retry(attempts=5, give_up_on=(UnknownOrder,)))
    async def mark_paid(event: PaymentCaptured, tx: Tx) -> None: ...
    ```

    The attempts follow each other at once, in the message's lane, each from a clean transaction. `on` names the
    exceptions worth another attempt, `give_up_on` those that park at the first failure.
    """

    __slots__ = ("attempts", "give_up_on", "on")

    def __init__(
        self,
        attempts: int = 3,
        *,
        on: Sequence[type[Exception]] = (Exception,),
        give_up_on: Sequence[type[Exception]] = (),
    ) -> None:
        if attempts < 1:
            raise ConfigurationError([f"Retry(attempts={attempts}) never handles a message. Give at least 1."])
        self.attempts = attempts
        self.on = tuple(on)
        self.give_up_on = tuple(give_up_on)

    def allows(self, error: BaseException, failures: int) -> bool:
        """Whether a message that has failed `failures` times, the last time by `error`, is tried again."""
        return failures < self.attempts and isinstance(error, self.on) and not isinstance(error, self.give_up_on)

    def __repr__(self) -> str:
        return f"Retry(attempts={self.attempts})"


def wait_before(attempt: int) -> float:
    """Seconds to wait before the attempt after `attempt` failures of a broker or a database."""
    return float(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 16)))
