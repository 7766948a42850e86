"""Contracts to messages and back."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from torpor.contract.payload import VERSION, content_type_of
from torpor.kernel.errors import DecodeError, TorporError
from torpor.kernel.media import JSON, OCTETS, is_json, media_of
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torpor.ports.payload import PayloadCodec

C = TypeVar("C")

_SHOWN = 5


def encode(contract: Any, *, id: str, key: str | None, attributes: Mapping[str, str]) -> Message:
    """The message that carries a contract, on the contract's own topic."""
    cls = type(contract)
    topic = cls.__torpor_topic__ or topic_of(cls)
    field = cls.__torpor_key__
    if key is None and field is not None:
        key = str(getattr(contract, field))
    if cls.__torpor_is_plain__:
        data = cls.__pydantic_serializer__.to_json(contract)
    else:
        data, attributes = _encoded(contract, attributes)
    return Message(topic, data, id=id, type=cls.__torpor_type__ or topic, key=key, attributes=attributes)


def decode(cls: type[C], message: Message) -> C:
    """The contract that a message carries. Raises DecodeError, which tells each field that is wrong."""
    declared: Any = cls
    expected, attributes = declared.__torpor_type__, message.attributes
    if message.type != expected and message.type and expected:
        raise DecodeError(
            f"{message.topic} carries {message.type!r}, and {cls.__name__} is {expected!r}. "
            f'Publish it on a topic of its own, or declare the class with type="{message.type}".'
        )
    is_plain = declared.__torpor_is_plain__ and VERSION not in attributes
    try:
        if is_plain and attributes.get("datacontenttype", JSON) == JSON:
            plain: C = declared.__pydantic_validator__.validate_json(message.data)
            return plain
        return _decoded(cls, message)
    except ValueError as error:
        if not _is_of_pydantic(error):
            raise
        raise DecodeError(f"{cls.__name__} does not fit: {_told(error)}") from error


def decoder_of(cls: type[C]) -> Callable[[Message], C]:
    """`decode` of one class, which takes a shorter way for a message that needs nothing else."""
    declared: Any = cls
    expected = declared.__torpor_type__

    def decode_plain(message: Message) -> C:
        attributes = message.attributes
        if message.type == expected and VERSION not in attributes and attributes.get("datacontenttype", JSON) == JSON:
            try:
                plain: C = declared.__pydantic_validator__.validate_json(message.data)
            except ValueError:
                pass  # what is wrong is told the long way
            else:
                return plain
        return decode(cls, message)

    return decode_plain if declared.__torpor_is_plain__ else partial(decode, cls)


def topic_of(cls: type[Any]) -> str:
    """The topic of a contract that has been checked to have one."""
    topic: str | None = cls.__torpor_topic__
    if topic is None:
        raise DecodeError(f'{cls.__name__} has no topic. Declare it: class {cls.__name__}(Event, topic="...").')
    return topic


def _encoded(contract: Any, attributes: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
    """A payload that is not just JSON, and the attributes with what they say of it."""
    cls = type(contract)
    codec: PayloadCodec | None = cls.__torpor_codec__
    described = {**attributes, "datacontenttype": content_type_of(cls)}
    if cls.__torpor_version__ != 1:
        described[VERSION] = str(cls.__torpor_version__)
    if codec is None:
        return cls.__pydantic_serializer__.to_json(contract), described
    dataschema = codec.dataschema(cls)
    if dataschema is not None:
        described["dataschema"] = dataschema
    return codec.encode(contract), described


def _check_content(cls: Any, message: Message) -> None:
    """Raises DecodeError unless a message that says its content type is of the contract's."""
    said = message.attributes.get("datacontenttype")
    expected = content_type_of(cls)
    if said is None or said == expected:
        return
    media = media_of(expected)
    if media in {OCTETS, media_of(said)} or (media == JSON and is_json(said)):
        return
    raise DecodeError(
        f"{message.topic} carries {said[:80]!r}, and {cls.__name__} is {expected!r}. "
        "Publish it as that, or declare the class with a codec that reads the other."
    )


def _decoded(cls: type[C], message: Message) -> C:
    """What is not just JSON of the first version. Raises DecodeError or pydantic's error."""
    declared: Any = cls
    codec: PayloadCodec | None = declared.__torpor_codec__
    _check_content(declared, message)
    data = message.data
    if VERSION in message.attributes or declared.__torpor_version__ != 1:
        from torpor.contract.versions import current

        data = current(cls, message)
    try:
        if codec is None:
            plain: C = declared.__pydantic_validator__.validate_json(data)
            return plain
        read: C = codec.decode(cls, data, message.attributes.get("dataschema"))
    except TorporError:
        raise
    except Exception as error:
        if codec is None or _is_of_pydantic(error):
            raise
        raise DecodeError(f"{cls.__name__} does not fit: {str(error) or type(error).__name__}.") from error
    return read


def _is_of_pydantic(error: Exception) -> bool:
    """Whether an error is pydantic's, found out without importing it: what it has not raised may not need it."""
    pydantic = sys.modules.get("pydantic_core")
    return pydantic is not None and isinstance(error, pydantic.ValidationError)


def _told(error: Any) -> str:
    """The first few mistakes, without the values: a payload may hold what no log should."""
    mistakes: list[dict[str, Any]] = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(str(part) for part in m['loc']) or 'payload'}: {m['msg']}" for m in mistakes[:_SHOWN]]
    more = len(mistakes) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
