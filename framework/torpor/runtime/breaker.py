"""A circuit breaker around calls to another system."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from torpor.kernel.breaker import Circuit, Permit, Refusal
from torpor.kernel.errors import CircuitOpen, ConfigurationError, TimedOut
from torpor.runtime.timeout import Deadline, Entered, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from torpor.kernel.breaker import Outcome
    from torpor.ports.clock import Clock

_LONGEST_ERROR = 200
_log = logging.getLogger("torpor.breaker")


class Breaker:
    """Stops calling a system that keeps failing: while its circuit is open, `CircuitOpen` is raised at once.

    ```python
    payments_api = Breaker("payments-api", failures=5, open_seconds=30, timeout=Timeout(2.0))


    @orders.on(OrderPlaced)
    async def charge(event: OrderPlaced) -> None:
        async with payments_api:
            ...  # the call, and nothing else
    ```

    The circuit opens once `failures` of the last `of` calls have failed (twice `failures` unless said). After
    `open_seconds` one call goes through as a probe, which closes it or opens it anew. A call has failed by an exception
    among `on`, or by the breaker's own `timeout`; any other exception counts as an answer; a cancelled call does not
    count. Each process counts for itself. `clock` is for tests.
    """

    __slots__ = ("_circuit", "_clock", "_entered", "_last_error", "name", "on", "timeout")

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        of: int | None = None,
        open_seconds: float = 30.0,
        timeout: Timeout | None = None,
        on: Sequence[type[Exception]] = (Exception,),
        clock: Clock | None = None,
    ) -> None:
        of = 2 * failures if of is None else of
        problems = [*_mistakes(failures, of, open_seconds), *_mistaken_types(timeout, on)]
        if problems:
            raise ConfigurationError([f"Breaker({name!r}): {problem}" for problem in problems])
        self.name = name
        self.timeout = timeout
        self.on = tuple(on)
        self._clock = clock
        self._circuit = Circuit(failures=failures, of=of, open_seconds=open_seconds)
        self._entered: Entered[tuple[Permit, Deadline | None]] = Entered()
        self._last_error = ""

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return self._circuit.state

    def reset(self) -> None:
        """Closes the circuit and forgets all failures, as between two tests."""
        self._circuit.reset()

    async def __aenter__(self) -> None:
        answer = self._circuit.ask(self._now())
        if isinstance(answer, Refusal):
            raise CircuitOpen(
                f"{self.name!r} is not called: {self._described()}. Expected it to work again first. "
                "Catch CircuitOpen to do without it, or let the message fail.",
                retry_after=answer.retry_after,
            )
        deadline = None
        if self.timeout is not None:
            clock = self.timeout.clock or self._clock
            deadline = Deadline(self.timeout.seconds, clock=clock, what=f"A call to {self.name!r}")
            await deadline.begin()
        self._entered.add((answer, deadline))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, deadline = self._entered.take()
        if deadline is not None:
            try:
                await deadline.end(kind, error, trace)
            except TimedOut as late:
                self._settle(permit, "failed", late)
                raise
        self._settle(permit, self._outcome(error), error)

    def _outcome(self, error: BaseException | None) -> Outcome:
        if error is None:
            return "succeeded"
        if not isinstance(error, Exception):  # cancelled, or the process ends
            return "abandoned"
        return "failed" if isinstance(error, self.on) else "succeeded"

    def _settle(self, permit: Permit, outcome: Outcome, error: BaseException | None) -> None:
        if outcome == "failed":
            self._last_error = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        change = self._circuit.settle(permit, outcome, self._now())
        if change == "open" and outcome == "failed":
            _log.warning("%s is not called any more: %s", self.name, self._described())
        elif change == "closed":
            _log.info("%s works again", self.name)

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock.time()

    def _described(self) -> str:
        """The state, in words."""
        circuit = self._circuit
        failed = f"{circuit.failed} of its last {circuit.counted} calls failed"
        if circuit.state == "closed":
            return f"closed, {failed}"
        last = f"{failed}, the last with {self._last_error}"
        if circuit.state == "half-open":
            return f"half-open, one call probes it; {last}"
        left = circuit.seconds_left(self._now())
        return f"open, {f'for {left:.3g} s more' if left else 'the next call probes it'}; {last}"

    def __repr__(self) -> str:
        return f"<Breaker {self.name!r} {self._described()}>"


def _mistakes(failures: int, of: int, open_seconds: float) -> list[str]:
    problems = []
    if failures < 1:
        problems.append(f"failures={failures} never lets a call through. Give at least 1.")
    elif of < failures:
        problems.append(f"of={of} calls cannot fail {failures} times. Give of= at least {failures}, or leave it out.")
    if not (math.isfinite(open_seconds) and open_seconds > 0):
        problems.append(f"open_seconds={open_seconds} never stops calling. Give a positive number of seconds.")
    return problems


def _mistaken_types(timeout: object, on: object) -> list[str]:
    problems = []
    if timeout is not None and not isinstance(timeout, Timeout):
        problems.append(f"timeout={timeout!r} is no Timeout. Give Timeout(seconds).")
    if not isinstance(on, (list, tuple)) or not all(isinstance(k, type) and issubclass(k, Exception) for k in on):
        problems.append(f"on={on!r} is no list of exception classes. Give on=[ConnectionError], for example.")
    elif not on:
        problems.append("on=[] never counts a failure. Name the exceptions that mean the system does not work.")
    return problems
