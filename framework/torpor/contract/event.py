"""Events and commands that are pydantic models. The class owns its topic and its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from torpor.contract.plugins import look_for_plugins_late

if TYPE_CHECKING:
    from torpor.contract.declaring import Upcast  # noqa: TC004  # of class variables, which pydantic leaves alone
    from torpor.ports.payload import PayloadCodec

A = TypeVar("A")

look_for_plugins_late()  # the first model is built below


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
    __torpor_is_request__: ClassVar[bool] = False
    __torpor_durable__: ClassVar[bool] = True
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
        durable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        declared = {"topic": topic, "key": key, "type": type or topic, "version": version, "upcasts": upcasts}
        for name, value in {**declared, "codec": codec, "durable": durable}.items():
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
    `codec` writes another format than JSON. With `durable=False` it is fleeting: published after the commit, straight
    to whoever listens at that moment, and never kept or repeated.
    """


class Command(Contract):
    """A request to do something, handled by one service. Declared as an `Event` is."""

    __torpor_is_command__ = True


class Request(Contract, Generic[A]):
    """A question to another service whose answer is waited for: `Request[int]` is answered with a number.

    ```python
    class GetPrice(Request[int], topic="prices.get"):
        sku: str
    ```

    One service answers it, by `answer`; who has an `Ask` asks it. It is delivered at most once, and kept nowhere: what
    must be done, whoever is away, is a `Command`.
    """

    __torpor_is_request__ = True
    __torpor_durable__ = False
