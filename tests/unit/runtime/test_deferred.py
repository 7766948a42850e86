"""What handlers hand over to be sent later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from torpor.kernel.errors import StatementFailed, StoreUnavailable
from torpor.runtime.deferred import Deferred

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sent:
    """Statements of a database that notes what it is sent, and may refuse it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.groups: list[tuple[str, list[Sequence[object]]]] = []
        self._refusal = refusal

    async def execute_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.groups.append((statement, list(rows)))

    async def execute(self, statement: str, parameters: Sequence[object]) -> int:
        raise NotImplementedError

    async def fetch(self, statement: str, parameters: Sequence[object]) -> list[dict[str, Any]]:
        raise NotImplementedError

    async def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
        raise NotImplementedError

    def session(self) -> Any:
        raise NotImplementedError


async def test_statements_that_are_alike_go_together_and_order_is_kept() -> None:
    """Neighbours of one text are sent at once; a text that comes again later is sent again later."""
    deferred, sent = Deferred(), Sent()
    for statement, number in (("a", 1), ("a", 2), ("b", 3), ("a", 4)):
        deferred.add(statement, (number,))

    await deferred.send(sent, are_of_several=True)

    assert sent.groups == [("a", [(1,), (2,)]), ("b", [(3,)]), ("a", [(4,)])]
    assert not deferred
    assert not deferred.is_in_doubt


async def test_a_refusal_leaves_a_doubt_only_among_several() -> None:
    """When statements of several handlers were sent together, a refusal does not tell whose was wrong."""
    for are_of_several in (True, False):
        deferred = Deferred()
        deferred.add("a", ())

        with pytest.raises(StatementFailed):
            await deferred.send(Sent(StatementFailed("no")), are_of_several=are_of_several)

        assert deferred.is_in_doubt is are_of_several


async def test_a_lost_database_is_nobodys_fault() -> None:
    """An outage leaves no doubt about a statement."""
    deferred = Deferred()
    deferred.add("a", ())

    with pytest.raises(StoreUnavailable):
        await deferred.send(Sent(StoreUnavailable("gone")), are_of_several=True)

    assert not deferred.is_in_doubt
