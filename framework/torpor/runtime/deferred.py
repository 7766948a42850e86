"""Statements that handlers have handed over, and that are not sent yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import StoreUnavailable

if TYPE_CHECKING:
    from torpor.ports.statements import Statements


class Deferred:
    """What `tx.write` gathers, in order: of one handler, or of the handlers of a unit one after the other.

    Statements of one text that follow each other are sent together. When they are of several handlers, nobody can tell
    whose was refused: `is_in_doubt` then says that the unit must be replayed with each handler's sent by themselves.
    """

    __slots__ = ("_groups", "is_in_doubt")

    def __init__(self) -> None:
        self._groups: list[tuple[str, list[tuple[object, ...]]]] = []
        self.is_in_doubt = False

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, statement: str, parameters: tuple[object, ...]) -> None:
        """Hands over one statement."""
        if self._groups and self._groups[-1][0] == statement:
            self._groups[-1][1].append(parameters)
        else:
            self._groups.append((statement, [parameters]))

    async def send(self, statements: Statements, *, are_of_several: bool) -> None:
        """Sends what there is, in order."""
        groups, self._groups = self._groups, []
        try:
            for statement, rows in groups:
                await statements.execute_many(statement, rows)
        except StoreUnavailable:
            raise
        except Exception:
            self.is_in_doubt = are_of_several
            raise
