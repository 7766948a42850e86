"""An answer to a request, before any server's own kind of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    # By method, path, headers (their names in lower case) and body.
    Answerer = Callable[[str, str, Mapping[str, str], bytes], Awaitable["Answer"]]

JSON = "application/json"
PROBLEM = "application/problem+json"


class Answer:
    """What is said to a request."""

    __slots__ = ("body", "head", "headers", "status")

    def __init__(
        self, status: int, body: bytes = b"", content_type: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.status = status
        self.body = body
        self.headers = tuple(headers) if content_type is None else (("content-type", content_type), *headers)
        self.head: bytes | None = None  # what a server has made of its status and headers

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"


def problem(status: int, title: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """What is wrong with a request, by RFC 9457."""
    told = {"type": "about:blank", "title": title, "status": status, "detail": title}
    return Answer(status, _json(told), PROBLEM, headers)


def as_json(value: Any, status: int = 200) -> Answer:
    """A value as JSON."""
    return Answer(status, _json(value), JSON)


def _json(value: Any) -> bytes:
    from json import dumps  # late: an event that is done is answered without

    return dumps(value, ensure_ascii=False).encode()


class AnsweringApp:
    """Answers as an ASGI application, beside the routes of FastAPI."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Answerer) -> None:
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}
        body, is_more = b"", True
        while is_more:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event.get("body", b"")
            is_more = event.get("more_body", False)
        answer = await self._answer(scope["method"], scope["path"], headers, body)
        shown = [(name.encode(), value.encode()) for name, value in answer.headers]
        if answer.body:
            shown.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": shown})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
