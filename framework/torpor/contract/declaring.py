"""Events and commands that are classes of another kind, such as Structs. It needs no pydantic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from torpor.contract.payload import STRUCTS, is_struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from torpor.ports.payload import PayloadCodec

    Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

C = TypeVar("C", bound="type[Any]")


def event(
    *,
    topic: str,
    key: str | None = None,
    type: str | None = None,
    version: int = 1,
    upcasts: Mapping[int, Upcast] | None = None,
    codec: PayloadCodec | None = None,
    durable: bool = True,
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
            "is_request": False,
            "durable": durable,
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
