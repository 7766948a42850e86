"""What a service counts. A message costs a few integer additions; the rest is done when someone asks."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Buckets:
    """A histogram of seconds. `counts` has one number for each bound and one for what is beyond the last."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self) -> None:
        self.bounds = _BOUNDS
        self.counts = [0] * (len(_BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


Sample = tuple[dict[str, str], float | Buckets]  # labels and their value


class Family:
    """One metric: its name, its meaning, and its samples by labels."""

    __slots__ = ("help", "kind", "name", "samples")

    def __init__(self, name: str, help: str, kind: str, samples: list[Sample]) -> None:  # noqa: A002  # Prometheus says so
        self.name = name
        self.help = help
        self.kind = kind
        self.samples = samples


class HandlerMetrics:
    """The numbers of one handler."""

    __slots__ = ("done", "duplicate", "failed", "in_flight", "is_paused", "parked", "seconds")

    def __init__(self) -> None:
        self.done = 0
        self.duplicate = 0
        self.failed = 0
        self.parked = 0
        self.in_flight = 0
        self.is_paused = False
        self.seconds = Buckets()


class Metrics:
    """The numbers of one service."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._handlers: dict[str, HandlerMetrics] = {}
        self.published = 0
        self.refused = 0

    def of(self, handler: str) -> HandlerMetrics:
        """The numbers of a handler, from its name."""
        return self._handlers.setdefault(handler, HandlerMetrics())

    def families(self) -> Iterable[Family]:
        """All numbers, for an exposition."""
        service = {"service": self._service}
        handlers = [({**service, "handler": name}, numbers) for name, numbers in self._handlers.items()]
        outcomes: list[Sample] = [
            ({**labels, "outcome": outcome}, float(getattr(numbers, outcome)))
            for labels, numbers in handlers
            for outcome in ("done", "duplicate", "failed", "parked")
        ]
        yield Family(
            "torpor_handled",
            "Messages and requests by handler and outcome; failed counts attempts.",
            "counter",
            outcomes,
        )
        yield Family(
            "torpor_handler_seconds",
            "Seconds from a unit's start to its commit.",
            "histogram",
            [(labels, n.seconds) for labels, n in handlers],
        )
        yield Family(
            "torpor_in_flight",
            "Messages and requests that are being handled.",
            "gauge",
            [(labels, float(n.in_flight)) for labels, n in handlers],
        )
        yield Family(
            "torpor_paused",
            "1 while a handler takes no messages because most of the last have failed.",
            "gauge",
            [(labels, float(n.is_paused)) for labels, n in handlers],
        )
        yield Family(
            "torpor_published", "Messages that the relay has published.", "counter", [(service, float(self.published))]
        )
        yield Family(
            "torpor_refused",
            "Messages that the broker refused, and the relay parked.",
            "counter",
            [(service, float(self.refused))],
        )
