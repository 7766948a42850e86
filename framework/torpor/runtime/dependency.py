"""Dependencies, the same in routes and in event handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Depends:
    """Marks a parameter as the result of a function: `Annotated[Clock, Depends(clock)]`.

    The function may be plain, a coroutine, or a generator that yields once and cleans up after the handler, before
    the commit. It may ask for `Tx`, `Message` and dependencies of its own, and runs once for each handled message.
    A function registered with `@service.lifespan` is entered once for the service, and gives every handler the same
    value.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"Depends({getattr(self.function, '__name__', self.function)})"
