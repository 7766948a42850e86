"""The shelf's port: small values that the replicas of a service share for a while. Proved by
`torpor.testing.conformance.shelf`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ABSENT = 0  # the revision of what does not lie there
LARGEST = 524_288  # bytes of a value


class ShelfPromises:
    """What an adapter promises; the conformance suite shows each, or skips what is not promised."""

    __slots__ = ("is_persistent", "is_shared", "resolution")

    def __init__(self, *, is_shared: bool, is_persistent: bool, resolution: float) -> None:
        self.is_shared = is_shared  # what one process puts, another finds
        self.is_persistent = is_persistent  # what was put is there when all the service's processes were not
        self.resolution = resolution  # seconds that a value may be there beyond its time


class Placed:
    """What lies on the shelf. No two values of a key ever have one revision, which is above 0."""

    __slots__ = ("revision", "value")

    def __init__(self, value: bytes, revision: int) -> None:
        self.value = value
        self.revision = revision


class Shelf(Protocol):
    """One service's shelf. A key is any text. What lies here may be gone before its time: when there is no room, when
    the backend was started again, or when somebody has removed it. All of it raises BrokerUnavailable or
    StoreUnavailable when the backend does not answer; it is unknown then what was done.
    """

    promises: ShelfPromises

    async def find(self, keys: Sequence[str]) -> Mapping[str, Placed]:
        """What lies under the keys. Those under which nothing does are left out."""
        ...

    async def put(self, key: str, value: bytes, *, seconds: float, revision: int | None = None) -> int | None:
        """Lays a value under a key for so many seconds, above 0: in place of whatever is there, or only in place of
        that revision, or with ABSENT only where nothing is. Returns the new revision, or None when something else is
        there; of several who put in place of one revision, one succeeds. Raises Rejected for more than LARGEST bytes.
        """
        ...

    async def remove(self, keys: Sequence[str]) -> None:
        """Takes away what lies under the keys."""
        ...


def check_size(key: str, value: bytes) -> None:
    """Raises Rejected for a value that is too large."""
    from torpor.kernel.errors import Rejected

    if len(value) > LARGEST:
        raise Rejected(
            f"The value under {key[:80]!r} has {len(value)} bytes, and a shelf takes at most {LARGEST}. "
            "Put less there, such as a reference."
        )
