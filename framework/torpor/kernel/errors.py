"""Every error that Torpor raises on purpose. One root; a message says what, what was expected, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class TorporError(Exception):
    """The root of Torpor's errors."""


class ConfigurationError(TorporError):
    """Mistakes in a declaration or in the settings, collected and told together, before any connection is opened."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = "1 problem" if count == 1 else f"{count} problems"
        super().__init__("\n".join([f"{head} to fix:", *(f"  {n}. {text}" for n, text in enumerate(self.problems, 1))]))


class DecodeError(TorporError):
    """Bytes that cannot become the event that the handler expects. The message is parked with its bytes."""


class Rejected(TorporError):
    """The broker refuses this message and always will (too large, no such topic, no permission)."""


class BrokerUnavailable(TorporError):
    """The broker does not answer. What was not confirmed is tried again."""


class StoreUnavailable(TorporError):
    """The database does not answer, or is locked by another process. The unit is tried again."""


class StatementFailed(TorporError):
    """The database refused a statement (syntax, constraint, type). The handler that sent it has failed.

    `parameter` is the number of the parameter that it could not read, where it has told that one was the reason.
    """

    def __init__(self, message: str, *, parameter: int | None = None) -> None:
        self.parameter = parameter
        super().__init__(message)


class SchemaMismatch(TorporError):
    """The database's tables are older or newer than this version of the code expects."""


class UndeclaredEvent(TorporError):
    """A handler published an event that its declaration does not name."""


class LeaseLost(TorporError):
    """Another process has taken over this duty; what the old holder writes is refused."""


class NotRunning(TorporError):
    """Something was asked of a service that has not started, or has stopped."""


class NeverSettled(TorporError):
    """The services of a test were still at work when the harness lost patience."""


class CircuitOpen(TorporError):
    """A system that keeps failing is not called, until a probe has shown that it works again."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class CallFailed(TorporError):
    """Another system was called over HTTP, and has not answered."""


class TimedOut(TorporError, TimeoutError):
    """A call took longer than its `Timeout` allows, and was cancelled; or a request was not answered in time, and it is
    unknown whether it was handled."""

    def __init__(self, message: str, *, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class NotAnswered(TorporError):
    """A request has no answer, and will have none.

    `code` is `nobody` (no process answers it), `failed` (the other handler raised), `undecodable` (the other side
    cannot read the request), `unavailable` (its database is away, or it has too much to do), `oversized` (the answer is
    too large for the broker) or `unreadable` (the answer does not fit). `request_id` stands in the other side's log.
    """

    def __init__(self, message: str, *, code: str, request_id: str) -> None:
        self.code = code
        self.request_id = request_id
        super().__init__(message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that ends a sentence about an unknown name: `` Did you mean 'x'?`` or nothing."""
    import difflib  # only whoever has made a mistake pays for it

    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
