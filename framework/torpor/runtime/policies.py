"""A binding's policies: said as options of `on`, checked, and kept as one value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.kernel.errors import did_you_mean
from torpor.kernel.order import Order
from torpor.kernel.pause import Pause
from torpor.kernel.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.kernel.batch import Batch

_MOST_LANES = 256
LANES = 16  # units of a handler side by side
DEADLINE = 30.0
_LONGEST_DEADLINE = 600  # what Knative waits for an answer at most
_EXPECTED: dict[str, tuple[type, str]] = {
    "retry": (Retry, "Retry(attempts=5)"),
    "order": (Order, "Order.NONE"),
    "pause": (Pause, "Pause(seconds=30)"),
}
_MAY_BE_NONE = frozenset({"retry", "batch", "pause"})


class Policies:
    """How a binding's messages are handled."""

    __slots__ = ("batch", "deadline", "lanes", "order", "pause", "retry")

    def __init__(
        self,
        *,
        retry: Retry | None = None,
        batch: Batch | None = None,
        order: Order = Order.KEY,
        concurrency: int | None = None,
        pause: Pause | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        self.deadline = deadline
        self.retry = retry or Retry()
        self.batch = batch
        self.order = order
        self.pause = pause
        is_single = order is Order.STRICT or batch is not None
        self.lanes = concurrency or (1 if is_single else LANES)


def fleeting_problems(options: Mapping[str, Any]) -> list[str]:
    """What a handler of a fleeting event cannot have, as ends of sentences about the handler."""
    found = [
        f"has {option}=, and its event is fleeting (durable=False): it comes once at most, whatever becomes of it. "
        f"Drop {option}=, or make the event durable."
        for option in ("retry", "batch", "pause")
        if options.get(option) is not None
    ]
    if options.get("order") is Order.STRICT:
        found.append(
            "has order=Order.STRICT, and its event is fleeting (durable=False): none is there for another to wait for. "
            "Drop order=, or make the event durable."
        )
    return found


def misuse(contract: type[Any]) -> list[str]:
    """Why a contract is none to listen to, as the end of a sentence about the handler."""
    name = getattr(contract, "__name__", repr(contract))
    if getattr(contract, "__torpor_is_request__", False):
        return [f"listens to {name}, which is a Request. Decorate it with answer({name})."]
    if getattr(contract, "__torpor_is_command__", False) and not getattr(contract, "__torpor_durable__", True):
        return [f"listens to {name}, a Command with durable=False. What must be done is durable; or make it a Request."]
    return []


def policies_of(options: Mapping[str, Any]) -> tuple[Policies, list[str]]:
    """The policies of a handler's options, and what is wrong with these, as ends of sentences about the handler."""
    problems = _unknown(options) if options else []
    expected = _EXPECTED if options.get("batch") is None else {**_EXPECTED, "batch": _batch()}
    for option, (kind, example) in expected.items():
        given = options.get(option, kind)
        if given is not kind and not isinstance(given, kind) and not (given is None and option in _MAY_BE_NONE):
            problems.append(f"has {option}={given!r}. Give a value: {option}={example}.")
    lanes = options.get("concurrency")
    if lanes is not None and not (isinstance(lanes, int) and 1 <= lanes <= _MOST_LANES):
        problems.append(f"has concurrency={lanes!r}. Give a number from 1 to {_MOST_LANES}.")
    elif lanes is not None and lanes > 1 and options.get("order") is Order.STRICT:
        problems.append(f"has concurrency={lanes} and order=Order.STRICT, which handles one after the other. Drop one.")
    deadline = options.get("deadline", DEADLINE)
    if not (isinstance(deadline, int | float) and 0 < deadline <= _LONGEST_DEADLINE):
        problems.append(f"has deadline={deadline!r}. Give seconds above 0, and at most {_LONGEST_DEADLINE}.")
    if problems:
        return Policies(), problems
    given = {name: options[name] for name in (*_EXPECTED, "batch", "concurrency", "deadline") if name in options}
    return Policies(**{"pause": Pause(), **given}), []


def _batch() -> tuple[type, str]:
    from torpor.kernel.batch import Batch  # late: few take several at once

    return Batch, "Batch(100)"


def _unknown(options: Mapping[str, Any]) -> list[str]:
    from torpor.runtime.options import TopicOptions

    known = TopicOptions.__annotations__
    unknown = options.keys() - known.keys()
    return [f"has an unknown option {option!r}.{did_you_mean(option, known)}" for option in unknown]
