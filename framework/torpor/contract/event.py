"""Events and commands: the typed contracts of a payload. The class owns its topic and its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from torpor.contract.payload import STRUCTS, is_struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from torpor.ports.payload import PayloadCodec

    Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

C = TypeVar("C", bound="type[Any]")


class Contract(BaseModel):
    """What events and commands share: a topic, the field that is the key, the CloudEvents type, a version."""

    model_config = ConfigDict(frozen=True, serialize_by_alias=True)  # written as it is read

    __torpor_topic__: ClassVar[str | None] = None
    __torpor_key__: ClassVar[str | None] = None
    __torpor_type__: ClassVar[str | None] = None
    __torpor_version__: ClassVar[int] = 1
    __torpor_upcasts__: ClassVar[Mapping[int, Upcast]] = {}
    __torpor_codec__: ClassVar[Any] = None  # a PayloadCodec; None is pydantic's own JSON
    __torpor_is_command__: ClassVar[bool] = False
    __torpor_is_plain__: ClassVar[bool] = True  # pydantic's JSON, in its first version

    def __init_subclass__(
        cls,
        *,
        topic: str | None = None,
        key: str | None = None,
        type: str | None = None,
        version: int | None = None,
        upcasts: Mapping[int, Upcast] | None = None,
        codec: PayloadCodec | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        declared = {"topic": topic, "key": key, "type": type or topic, "version": version, "upcasts": upcasts}
        for name, value in {**declared, "codec": codec}.items():
            if value is not None:
                setattr(cls, f"__torpor_{name}__", value)
        cls.__torpor_is_plain__ = cls.__torpor_codec__ is None and cls.__torpor_version__ == 1


class Event(Contract):
    """Something that happened, told to whoever listens.

    ```python
    class OrderPlaced(Event, topic="orders.placed", key="order_id"):
        order_id: str
        total_cents: int
    ```

    `topic` is where it is published. `key` names the field whose value orders it: events of one key are handled in
    the order in which they were committed. `type` is the CloudEvents type, the topic unless said. `version` rises
    when the payload changes so that old code cannot read it, and `upcasts` lead from each older version to the next.
    `codec` writes another format than JSON.
    """


class Command(Contract):
    """A request to do something, handled by one service. Declared as an `Event` is."""

    __torpor_is_command__ = True


def event(
    *,
    topic: str,
    key: str | None = None,
    type: str | None = None,
    version: int = 1,
    upcasts: Mapping[int, Upcast] | None = None,
    codec: PayloadCodec | None = None,
) -> Callable[[C], C]:
    """Makes an event of a class that cannot be an `Event` itself, such as a `msgspec.Struct`.

    ```python
    import msgspec


    @event(topic="ticks", key="symbol")
    class Tick(msgspec.Struct, frozen=True):
        symbol: str
        price: float
    ```

    It says what `Event` says, and returns the class as it is.
    """

    def declare(cls: C) -> C:
        chosen = codec or (STRUCTS if is_struct(cls) else None)
        for name, value in {
            "topic": topic,
            "key": key,
            "type": type or topic,
            "version": version,
            "upcasts": upcasts or {},
            "codec": chosen,
            "is_command": False,
            "is_plain": chosen is None and version == 1,
        }.items():
            setattr(cls, f"__torpor_{name}__", value)
        return cls

    return declare


def command(
    *,
    topic: str,
    key: str | None = None,
    type: str | None = None,
    version: int = 1,
    upcasts: Mapping[int, Upcast] | None = None,
    codec: PayloadCodec | None = None,
) -> Callable[[C], C]:
    """Makes a command of a class that cannot be a `Command` itself; see `event`."""
    as_event = event(topic=topic, key=key, type=type, version=version, upcasts=upcasts, codec=codec)

    def declare(cls: C) -> C:
        as_event(cls).__torpor_is_command__ = True
        return cls

    return declare


def is_contract(value: object) -> bool:
    """Whether a value is an event's or a command's class, declared either way, with a topic or without."""
    return isinstance(value, type) and hasattr(value, "__torpor_topic__")
