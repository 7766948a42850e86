"""Answers in the AsyncAPI document: FastStream tells of requests as of any message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.contract.answer import AnswerCodec, answer_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torpor.contract.event import Contract
    from torpor.runtime.plan import Plan

    Names = Mapping[type[Contract], str]

_INBOX = "Where the one who asks waits for the answer: the reply subject of the request."


def codec_of(request: type[Contract]) -> AnswerCodec:
    """How a request's answers are written."""
    return AnswerCodec(answer_of(request))


def add_replies(made: dict[str, Any], plans: Sequence[Plan], names: Names) -> None:
    """Adds its answer to each operation that asks or answers: a channel without an address, and its only message."""
    for plan in plans:
        for contract in plan.asked:
            _add(made, f"{plan.name}.asks.{names[contract]}", contract, names)
        for answerer in plan.answerers:
            _add(made, answerer.handled.name, answerer.contract, names)


def _add(made: dict[str, Any], operation: str, request: type[Contract], names: Names) -> None:
    name = f"{operation}.answer"
    made["components"]["messages"][name] = {
        "title": name,
        "payload": {"$ref": f"#/components/schemas/{names[request]}.answer"},
        "contentType": codec_of(request).content_type,
    }
    message = {"$ref": f"#/components/messages/{name}"}
    made["channels"][name] = {"address": None, "description": _INBOX, "messages": {"Answer": message}}
    made["operations"][operation]["reply"] = {
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/Answer"}],
    }
