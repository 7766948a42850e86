"""Statements as handlers write them, with `$1`, to statements as SQLite reads them, with `?1`."""

from __future__ import annotations

import re
from functools import cache, lru_cache

from torpor.adapters.sqlite.errors import first_line
from torpor.kernel.errors import StatementFailed

_OURS = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"})
_QUOTES = ("'", '"', "`", "[", "--", "/*")
_DIGITS = frozenset("0123456789")
_BEFORE = tuple(" \t\n(,=<>+-*/%|")  # a parameter stands behind one of these, almost always


@lru_cache(maxsize=1024)
def translate(statement: str) -> str:
    """The statement with `?1` for `$1`. Literals, quoted names and comments stay as they are.

    Raises StatementFailed when the statement would begin or end a transaction.
    """
    if _is_plain(statement):
        return statement.replace("$", "?")
    parts: list[str] = []
    start = 0
    verb = ""
    for token in _tokens().finditer(statement):
        if token.lastgroup == "parameter":
            parts += (statement[start : token.start()], "?", token["parameter"])
            start = token.end()
        elif not verb and token.lastgroup == "word":
            verb = token["word"].upper()
    if verb in _OURS:
        raise StatementFailed(
            f"{verb} is not for handlers and migrations: Torpor begins, commits and rolls back around them. "
            f"Raise an exception to take the work back. Statement: {first_line(statement)}"
        )
    parts.append(statement[start:])
    return "".join(parts)


def _is_plain(statement: str) -> bool:
    """Whether every dollar sign is seen at a glance to begin a parameter: the pattern costs a first event much."""
    verb = statement.split(None, 1)[0] if statement.strip() else ""
    if not verb.isalpha() or verb.upper() in _OURS or any(quote in statement for quote in _QUOTES):
        return False
    before, *behind = statement.split("$")
    for text in behind:
        if not (before.endswith(_BEFORE) and text[:1] in _DIGITS):
            return False
        before = text
    return True


@cache
def _tokens() -> re.Pattern[str]:
    """What a dollar sign may stand in, by SQLite's own rules, and a parameter. Each alternative is linear.

    A word's letters are told by the ASCII that they are not: a class with all that is beyond would take six
    milliseconds to compile. A doubled quote reads as two literals side by side, which comes to the same. An unclosed
    one reaches to the end.
    """
    return re.compile(
        r"""
        '[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | `[^`]*(?:`|\Z) | \[[^\]]*(?:\]|\Z)
        | --[^\n]* | /\*(?s:.*?)(?:\*/|\Z)
        | (?P<word> [^\x00-@\[-^`{-\x7f] [^\x00-\#%-/:-@\[-^`{-\x7f]* )
        | \$ (?P<parameter> [0-9]+ )
        """,
        re.VERBOSE,
    )
