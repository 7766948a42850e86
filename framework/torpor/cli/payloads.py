"""An edited payload: where it comes from, and whether it fits what its handler expects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError, DecodeError
from torpor.kernel.message import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torpor.contract.event import Contract
    from torpor.kernel.message import ParkedMessage
    from torpor.runtime.plan import Plan


def payload_of(word: str) -> bytes:
    """The bytes of a file, or of what is piped in for `-`."""
    if word == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(word).read_bytes()
    except OSError as error:
        raise ConfigurationError([f"The payload {word!r} cannot be read: {error.strerror}."]) from error


def check_payload(service: str, row: ParkedMessage, data: bytes, code: Sequence[str] | None) -> bool:
    """Whether a payload could be checked, by the service's code here or where it is said to be. Raises
    ConfigurationError with the mistakes of one that does not fit."""
    contract = _contract_of(service, row, code)
    if contract is None:
        return False
    from torpor.contract.codec import decode

    message = row.message
    try:
        decode(
            contract,
            Message(
                message.topic, data, id=message.id, type=message.type, key=message.key, attributes=message.attributes
            ),
        )
    except DecodeError as error:
        raise ConfigurationError(
            [f"The payload is not what {row.binding} expects. {error}. Mend it, or send it as it is with --force."]
        ) from error
    return True


def _contract_of(service: str, row: ParkedMessage, code: Sequence[str] | None) -> type[Contract] | None:
    from torpor.assembly import plans_of
    from torpor.cli.discovery import find, load

    try:
        services = [found for found in load(find(code or ["."])) if found.name == service]
        plans = plans_of(services)
    except ConfigurationError:
        if code:
            raise
        return None
    if code and not services:
        raise ConfigurationError([f"{', '.join(code)} has no service {service!r}. Give the place of its code."])
    return next((contract for plan in plans for contract in _contracts(plan, row)), None)


def _contracts(plan: Plan, row: ParkedMessage) -> Iterator[type[Contract]]:
    """What a binding expects; and of an event that the broker refused, what it was."""
    for subscriber in plan.subscribers:
        if subscriber.handled.name == row.binding:
            yield subscriber.contract
    for handled in plan.handlers:
        for contract in handled.publishes:
            if row.binding == "outbox" and contract.__torpor_topic__ == row.message.topic:
                yield contract
