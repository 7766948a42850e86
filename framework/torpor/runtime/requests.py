"""What is wrong with a handler that answers requests."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torpor.runtime.injection import Call
    from torpor.runtime.router import OnRequest

_MOST = 10_000


def answerer_problems(source: OnRequest, call: Call) -> tuple[Any, list[str]]:
    """The type of a request's answer, and what is wrong with who answers it, as ends of sentences about the handler."""
    from torpor.contract.answer import UNSAID, answer_of, shown_type

    request, many = source.contract, source.concurrency
    name = getattr(request, "__name__", repr(request))
    if not getattr(request, "__torpor_is_request__", False):
        return None, [f'answers {name}, which is no Request. Write: class {name}(Request[Answer], topic="...").']
    found = []
    if not 1 <= many <= _MOST:
        found.append(f"has concurrency={many!r}. Give a number from 1 to {_MOST}.")
    answer = answer_of(request)
    if answer is UNSAID:
        found.append(f"answers {name}, which does not say with what. Write: class {name}(Request[Answer], ...).")
        return None, found
    returned = call.hints.get("return", UNSAID)
    if "return" in call.function.__annotations__ and returned is UNSAID:
        return None, found  # it cannot be read, which has been told
    if returned is UNSAID:
        found.append(f"does not say what it returns. {name} is answered with {shown_type(answer)}: annotate that.")
    elif (NoneType if returned is None else returned) != (NoneType if answer is None else answer):
        found.append(f"returns {shown_type(returned)}, and {name} is answered with {shown_type(answer)}. Say one.")
    return answer, found
