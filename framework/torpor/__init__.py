"""Event-driven services that sleep at zero and wake at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torpor.contract.event import Command, Event
    from torpor.kernel.batch import Batch
    from torpor.kernel.errors import ConfigurationError, TorporError
    from torpor.kernel.message import Message
    from torpor.kernel.outcome import Failed, Park
    from torpor.kernel.retry import Retry
    from torpor.runtime.breaker import Breaker
    from torpor.runtime.dependency import Depends
    from torpor.runtime.ids import new_id
    from torpor.runtime.router import Router
    from torpor.runtime.service import Service
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
    "Message",
    "Park",
    "Retry",
    "Router",
    "Service",
    "Timeout",
    "TorporError",
    "Transactions",
    "Tx",
    "__version__",
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
    "Message": "torpor.kernel.message",
    "Park": "torpor.kernel.outcome",
    "Retry": "torpor.kernel.retry",
    "Router": "torpor.runtime.router",
    "Service": "torpor.runtime.service",
    "Timeout": "torpor.runtime.timeout",
    "TorporError": "torpor.kernel.errors",
    "Transactions": "torpor.runtime.tx",
    "Tx": "torpor.runtime.tx",
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
