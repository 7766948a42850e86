"""Event-driven services that sleep at zero and wake at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.contract.event import Command, Event, command, event
    from torpor.contract.payload import Raw
    from torpor.kernel.batch import Batch
    from torpor.kernel.errors import ConfigurationError, TorporError
    from torpor.kernel.idempotent import Idempotent
    from torpor.kernel.message import Message
    from torpor.kernel.order import Order
    from torpor.kernel.outcome import Failed, Park
    from torpor.kernel.pause import Pause
    from torpor.kernel.retry import Retry
    from torpor.ports.payload import PayloadCodec
    from torpor.runtime.breaker import Breaker
    from torpor.runtime.dependency import Depends
    from torpor.runtime.ids import new_id
    from torpor.runtime.router import Router
    from torpor.runtime.service import Service
    from torpor.runtime.steps import StepKey
    from torpor.runtime.timeout import Timeout
    from torpor.runtime.tx import Transactions, Tx

__all__ = [
    "Batch",
    "Breaker",
    "Command",
    "ConfigurationError",
    "Depends",
    "Event",
    "Failed",
    "Idempotent",
    "Message",
    "Order",
    "Park",
    "Pause",
    "PayloadCodec",
    "Raw",
    "Retry",
    "Router",
    "Service",
    "StepKey",
    "Timeout",
    "TorporError",
    "Transactions",
    "Tx",
    "__version__",
    "command",
    "event",
    "new_id",
]

__version__ = "0.1.0"

_HOMES = {
    "Batch": "torpor.kernel.batch",
    "Breaker": "torpor.runtime.breaker",
    "Command": "torpor.contract.event",
    "ConfigurationError": "torpor.kernel.errors",
    "Depends": "torpor.runtime.dependency",
    "Event": "torpor.contract.event",
    "Failed": "torpor.kernel.outcome",
    "Idempotent": "torpor.kernel.idempotent",
    "Message": "torpor.kernel.message",
    "Order": "torpor.kernel.order",
    "Park": "torpor.kernel.outcome",
    "Pause": "torpor.kernel.pause",
    "PayloadCodec": "torpor.ports.payload",
    "Raw": "torpor.contract.payload",
    "Retry": "torpor.kernel.retry",
    "Router": "torpor.runtime.router",
    "Service": "torpor.runtime.service",
    "StepKey": "torpor.runtime.steps",
    "Timeout": "torpor.runtime.timeout",
    "TorporError": "torpor.kernel.errors",
    "Transactions": "torpor.runtime.tx",
    "Tx": "torpor.runtime.tx",
    "command": "torpor.contract.event",
    "event": "torpor.contract.event",
    "new_id": "torpor.runtime.ids",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'torpor' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
