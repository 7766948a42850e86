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

    The attempts follow each other at once, in the message's lane, each from a clean transaction. `later` gives the
    longest waits, in seconds, before further attempts: `Retry(later=[10, 60, 600])`. Each wait is drawn at random up to
    that (full jitter), in the database, so that no lane waits; meanwhile later messages of the key queue behind. `on`
    names the exceptions worth another attempt, `give_up_on` those that park at the first failure.

    When a message fails, its neighbours' transaction is taken back with it and they are handled again. `isolated` keeps
    a handler with outside effects from that: each message has a savepoint of its own from the first, at some cost. A
    handler without `Tx` leaves nothing in the transaction, and is never called again for a neighbour.
    """

    __slots__ = ("attempts", "give_up_on", "isolated", "later", "on")

    def __init__(
        self,
        attempts: int = 3,
        *,
        later: Sequence[float] = (),
        on: Sequence[type[Exception]] = (Exception,),
        give_up_on: Sequence[type[Exception]] = (),
        isolated: bool = False,
    ) -> None:
        problems = [
            f"Retry(later={list(later)}) has a wait of {wait}. Give seconds above 0." for wait in later if not wait > 0
        ]
        if attempts < 1:
            problems.append(f"Retry(attempts={attempts}) never handles a message. Give at least 1.")
        if problems:
            raise ConfigurationError(problems)
        self.attempts = attempts
        self.later = tuple(later)
        self.on = tuple(on)
        self.give_up_on = tuple(give_up_on)
        self.isolated = isolated

    def allows(self, error: BaseException, failures: int) -> bool:
        """Whether a message that has failed `failures` times, the last time by `error`, is tried again at once."""
        return failures < self.attempts and self._is_worth_it(error)

    def wait_after(self, error: BaseException, failures: int) -> float | None:
        """The longest wait before the next attempt, once those at once are used up; None to park."""
        used = failures - self.attempts
        return self.later[used] if 0 <= used < len(self.later) and self._is_worth_it(error) else None

    def _is_worth_it(self, error: BaseException) -> bool:
        return isinstance(error, self.on) and not isinstance(error, self.give_up_on)

    def __repr__(self) -> str:
        later = f", later={list(self.later)}" if self.later else ""
        return f"Retry(attempts={self.attempts}{later})"


def wait_before(attempt: int) -> float:
    """Seconds to wait before the attempt after `attempt` failures of a broker or a database."""
    return float(min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 16)))
