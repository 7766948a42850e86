"""Events and commands: the typed contracts of a payload. The class owns its topic and its key."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """What events and commands share: a topic, the field that is the key, and the CloudEvents type."""

    model_config = ConfigDict(frozen=True)

    __torpor_topic__: ClassVar[str | None] = None
    __torpor_key__: ClassVar[str | None] = None
    __torpor_type__: ClassVar[str | None] = None

    def __init_subclass__(
        cls, *, topic: str | None = None, key: str | None = None, type: str | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if topic is not None:
            cls.__torpor_topic__ = topic
            cls.__torpor_type__ = topic
        if key is not None:
            cls.__torpor_key__ = key
        if type is not None:
            cls.__torpor_type__ = type


class Event(Contract):
    """Something that happened, told to whoever listens.

    ```python
    class OrderPlaced(Event, topic="orders.placed", key="order_id"):
        order_id: str
        total_cents: int
    ```

    `topic` is where it is published. `key` names the field whose value orders it: events of one key are handled in
    the order in which they were committed. `type` is the CloudEvents type, the topic unless said.
    """


class Command(Contract):
    """A request to do something, handled by one service. Declared as an `Event` is."""
