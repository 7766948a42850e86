"""The port of who checks what a request shows of its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.kernel.identity import Caller


class Verifier(Protocol):
    """Checks one way to show who one is."""

    async def verify(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller that a request's headers show (their names in lower case); None when they show nothing of this
        kind. Raises Denied when they do and it is not believed, or cannot be checked now. Raises nothing else, and
        waits for nobody for longer than a few seconds."""
        ...
