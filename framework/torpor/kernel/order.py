"""In which order a binding's messages are handled."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from torpor.kernel.keys import slot_of, slot_of_text, slots_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torpor.kernel.message import Message

_ALL = "*"  # the one queue of a binding in strict order


class Order(Enum):
    """What a handler's messages wait for.

    ```python
    @orders.on(OrderPlaced, order=Order.NONE)
    async def index(event: OrderPlaced) -> None: ...
    ```

    `KEY`: those of one key follow each other, in order, and wait behind one of theirs that is set aside; others go on
    beside them. `NONE`: none waits for another, and the replicas of the service share the topic's messages. `STRICT`:
    all follow each other, in the order of the topic, and all wait behind one that is set aside.
    """

    KEY = "key"
    NONE = "none"
    STRICT = "strict"

    @property
    def common_queue(self) -> str | None:
        """The queue in which all the binding's messages stand, if there is one."""
        return _ALL if self is Order.STRICT else None

    def queue_of(self, message: Message) -> str | None:
        """What a message stands in line with; None when nothing waits for it."""
        if self is Order.KEY:
            return message.key
        return self.common_queue

    def lane_of(self, message: Message, lanes: int) -> int:
        """The lane of a message."""
        if self is Order.KEY:
            return slot_of(message, lanes)
        return slot_of_text(message.id, lanes) if self is Order.NONE else 0

    def lanes_of(self, messages: Sequence[Message], lanes: int) -> list[int]:
        """The lane of each message."""
        if self is Order.STRICT:
            return [0] * len(messages)
        by_id = self is Order.NONE
        return slots_of([m.id if by_id or m.key is None else m.key for m in messages], lanes)

    def __repr__(self) -> str:
        return f"Order.{self.name}"
