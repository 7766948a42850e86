"""No hints on SQLite: its file tells no one of a change.

A process would have to look at it many times a second, and an idle service is to sleep. Within a process the duties
are woken at once; what another process has committed is found by the poll, within a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class NoHints:
    """Tells nothing, hears nothing."""

    __slots__ = ()

    def tell(self) -> None:
        """Nobody would hear it."""

    async def listen(self, heard: Callable[[], None]) -> None:
        """There is nothing to hear."""
