"""What a handler's statement may not be."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from torpor.adapters.postgres.errors import first_line
from torpor.kernel.errors import StatementFailed

_OURS = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE", "PREPARE"})
# A function's body may have BEGIN and END; the others end a transaction wherever they stand.
_ENDING = frozenset({"COMMIT", "ROLLBACK", "ABORT"})


@lru_cache(maxsize=1024)
def checked(statement: str) -> str:
    """The statement. Raises StatementFailed when it is several, or would begin or end a transaction."""
    verbs = _verbs(statement)
    if len(verbs) > 1:
        raise StatementFailed(
            f"A text holds {len(verbs)} statements. Send them one by one. Statement: {first_line(statement)}"
        )
    if verbs and verbs[0] in _OURS:
        raise _not_theirs(verbs[0], statement)
    return statement


def check_migration(script: str) -> None:
    """Raises StatementFailed when a migration would end its transaction."""
    for verb in _verbs(script):
        if verb in _ENDING:
            raise _not_theirs(verb, script)


def _not_theirs(verb: str, statement: str) -> StatementFailed:
    return StatementFailed(
        f"{verb} is not for handlers and migrations: Torpor begins, commits and rolls back around them. "
        f"Raise an exception to take the work back. Statement: {first_line(statement)}"
    )


def _verbs(script: str) -> list[str]:
    """The first word of each statement."""
    verbs: list[str] = []
    is_inside = False
    for token in _tokens().finditer(script):
        if token.lastgroup == "end":
            is_inside = False
        elif token.lastgroup != "comment" and not is_inside:
            verbs.append(token[0].upper())
            is_inside = True
    return verbs


@cache
def _tokens() -> re.Pattern[str]:
    """What a semicolon may stand in, by PostgreSQL's own rules. Each alternative is linear.

    Comments do not nest here: what a nested one leaves over is refused by PostgreSQL or by us, and never runs.
    """
    return re.compile(
        r"""
        (?P<comment> --[^\n]* | /\*(?s:.*?)(?:\*/|\Z) )
        | (?<!\w)[eE]'(?:[^'\\]|\\(?s:.)|'')*(?:'|\Z) | '[^']*(?:'|\Z) | "[^"]*(?:"|\Z)
        | (?<![\w$])\$(?P<tag>[^\W\d]\w*)?\$ (?s:.*?) (?:\$(?(tag)(?P=tag))\$|\Z)
        | (?P<end> ; ) | [^\W\d][\w$]* | [^\s\w]
        """,
        re.VERBOSE,
    )
