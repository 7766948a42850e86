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

    __slots__ = ("done", "duplicate", "failed", "in_flight", "is_paused", "lost", "parked", "seconds")

    def __init__(self) -> None:
        self.done = 0
        self.duplicate = 0
        self.failed = 0
        self.parked = 0
        self.lost = 0
        self.in_flight = 0
        self.is_paused = False
        self.seconds = Buckets()


class Metrics:
    """The numbers of one service."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._handlers: dict[str, HandlerMetrics] = {}
        self._lags: dict[str, tuple[dict[str, str], float | None, float | None]] = {}
        self.published = 0
        self.refused = 0
        self.told = 0
        self.lost = 0
        self.connections = 0
        self.shared_failed = 0
        self.cached: dict[tuple[str, str], int] = {}  # by handler and outcome
        self._limited: dict[str, int] = {}  # by handler
        self._dropped = dict.fromkeys(("slow", "silent", "rate", "full", "broadcast"), 0)

    def drop(self, reason: str) -> None:
        """Counts a connection, or a broadcast, that was given up."""
        self._dropped[reason] += 1

    def limit(self, handler: str, requests: int = 1) -> None:
        """Counts requests that a `Limit` has refused. 0 is told too, from then on."""
        self._limited[handler] = self._limited.get(handler, 0) + requests

    def of(self, handler: str) -> HandlerMetrics:
        """The numbers of a handler, from its name."""
        known = self._handlers.get(handler)
        return self._handlers.setdefault(handler, HandlerMetrics()) if known is None else known

    def note_lag(self, labels: dict[str, str], *, lag: int | None, age: float | None) -> None:
        """Notes how many messages a handler's group has not settled, and how old the oldest is, where that is known."""
        self._lags[labels["handler"]] = {"service": self._service, **labels}, lag, age

    def families(self) -> Iterable[Family]:
        """All numbers, for an exposition."""
        service = {"service": self._service}
        handlers = [({**service, "handler": name}, numbers) for name, numbers in self._handlers.items()]
        outcomes: list[Sample] = [
            ({**labels, "outcome": outcome}, float(getattr(numbers, outcome)))
            for labels, numbers in handlers
            for outcome in ("done", "duplicate", "failed", "parked", "lost")
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
            "torpor_lag",
            "Messages of a topic that a handler's group has not settled; every replica tells of the whole group.",
            "gauge",
            [(labels, lag) for labels, lag, _ in self._lags.values() if lag is not None],
        )
        yield Family(
            "torpor_lag_seconds",
            "How old the oldest of these messages is; 0 when there is none.",
            "gauge",
            [(labels, age) for labels, _, age in self._lags.values() if age is not None],
        )
        yield from self._outgoing(service)
        yield from self._shared(service)
        yield from self._connections(service)

    def _shared(self, service: dict[str, str]) -> Iterable[Family]:
        yield Family(
            "torpor_cached",
            "Requests of routes with Cached, by outcome: hit, miss, or passed when the answer is not to be kept.",
            "counter",
            [
                ({**service, "handler": name, "outcome": outcome}, float(n))
                for (name, outcome), n in self.cached.items()
            ],
        )
        yield Family(
            "torpor_limited",
            "Requests, and connections of sockets, that a Limit has refused.",
            "counter",
            [({**service, "handler": name}, float(n)) for name, n in self._limited.items()],
        )
        yield Family(
            "torpor_shared_failed",
            "Times that what the replicas share did not answer.",
            "counter",
            [(service, float(self.shared_failed))],
        )

    def _connections(self, service: dict[str, str]) -> Iterable[Family]:
        yield Family("torpor_connections", "WebSockets that are open.", "gauge", [(service, float(self.connections))])
        yield Family(
            "torpor_connections_dropped",
            "WebSockets that were given up, by reason; `broadcast` counts broadcasts that found no room.",
            "counter",
            [({**service, "reason": reason}, float(count)) for reason, count in self._dropped.items()],
        )

    def _outgoing(self, service: dict[str, str]) -> Iterable[Family]:
        yield Family(
            "torpor_told", "Fleeting events that were handed to the broker.", "counter", [(service, float(self.told))]
        )
        yield Family(
            "torpor_told_lost",
            "Fleeting events that were committed and could not be handed to the broker.",
            "counter",
            [(service, float(self.lost))],
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
