"""How far a group is, as JetStream tells it of its durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import BrokerUnavailable
from torpor.kernel.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torpor.adapters.nats.connection import Connection
    from torpor.ports.consumer import Subscription


class Gauge:
    """Asks after one durable."""

    def __init__(self, connection: Connection, subscription: Subscription, *, stream: str, durable: str) -> None:
        self._connection = connection
        self._subscription = subscription
        self._stream = stream
        self._durable = durable
        self._oldest: tuple[int, float | None] = (0, None)  # the first unsettled place, and when its message came

    async def read(self, *, is_active: bool, held: int) -> Progress:
        """How far the group is, for a consumer of it that is active or not, and holds so many."""
        info = await self._connection.request(f"CONSUMER.INFO.{self._stream}.{self._durable}")
        if "error" in info:
            raise BrokerUnavailable(f"Consumer {self._durable!r} of stream {self._stream!r}: {info['error']}.")
        pending, unacknowledged = int(info["num_pending"]), int(info["num_ack_pending"])
        if not pending + unacknowledged:
            return Progress(0)
        floor = int(info["ack_floor"]["stream_seq"])
        place: Hashable = floor
        if self._subscription.is_shared:
            place = floor, unacknowledged, info["delivered"]["stream_seq"]  # moves with any of its consumers
            is_ours = held > 0 or pending > 0
        else:
            is_ours = is_active or not _is_pinned(info)
        return Progress(
            pending + unacknowledged,
            oldest_at=await self._time_after(floor),
            shares={"": place} if is_ours else {},
        )

    async def _time_after(self, floor: int) -> float | None:
        """When the first message of the topic behind a place came; None when it has gone meanwhile, or when we may not
        look."""
        if self._oldest[0] != floor + 1:
            asked = {"seq": floor + 1, "next_by_subj": self._subscription.topic}
            try:
                answer = await self._connection.request(f"STREAM.MSG.GET.{self._stream}", asked)
            except BrokerUnavailable:  # what is not permitted is in the log
                answer = {}
            found = answer.get("message")
            self._oldest = floor + 1, None if found is None else _moment(found["time"])
        return self._oldest[1]


def _is_pinned(info: dict[str, Any]) -> bool:
    """Whether some consumer of the group is the active one."""
    return any(group.get("pinned_client_id") for group in info.get("priority_groups") or ())


def _moment(text: str) -> float:
    """A time of the server's, which has nanoseconds."""
    from datetime import datetime

    head, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{head}+00:00").timestamp() + float(f"0.{fraction or 0}")
