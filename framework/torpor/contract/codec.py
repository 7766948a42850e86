"""Contracts to messages and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from torpor.kernel.errors import DecodeError
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.contract.event import Contract

C = TypeVar("C", bound="Contract")

_SHOWN = 5


def encode(contract: Contract, *, id: str, key: str | None, attributes: Mapping[str, str]) -> Message:
    """The message that carries a contract, on the contract's own topic."""
    cls = type(contract)
    topic = topic_of(cls)
    field = cls.__torpor_key__
    if key is None and field is not None:
        key = str(getattr(contract, field))
    data = cls.__pydantic_serializer__.to_json(contract)
    return Message(topic, data, id=id, type=cls.__torpor_type__ or topic, key=key, attributes=attributes)


def decode(cls: type[C], message: Message) -> C:
    """The contract that a message carries. Raises DecodeError, which tells each field that is wrong."""
    expected = cls.__torpor_type__
    if message.type and expected and message.type != expected:
        raise DecodeError(
            f"{message.topic} carries {message.type!r}, and {cls.__name__} is {expected!r}. "
            f'Publish it on a topic of its own, or declare the class with type="{message.type}".'
        )
    try:
        return cls.model_validate_json(message.data)
    except ValidationError as error:
        raise DecodeError(f"{cls.__name__} does not fit: {_told(error)}") from error


def topic_of(cls: type[Contract]) -> str:
    """The topic of a contract that has been checked to have one."""
    topic = cls.__torpor_topic__
    if topic is None:
        raise DecodeError(f'{cls.__name__} has no topic. Declare it: class {cls.__name__}(Event, topic="...").')
    return topic


def _told(error: ValidationError) -> str:
    """The first few mistakes, without the values: a payload may hold what no log should."""
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    told = [f"{'.'.join(str(part) for part in m['loc']) or 'payload'}: {m['msg']}" for m in mistakes[:_SHOWN]]
    more = len(mistakes) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")
