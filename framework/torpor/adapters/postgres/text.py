"""Any text as PostgreSQL stores it, and back.

PostgreSQL stores no NUL, and nothing that is not Unicode. A message may hold both in its key or id, and must be stored
all the same, if only to be parked. So these are escaped, by the control character SUBSTITUTE, which is escaped too.
"""

from __future__ import annotations

import re
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ESCAPE = "\x1a"
# What no stored text holds: an escape is followed by four digits, or by the name of a digest.
_SEPARATOR = f"{ESCAPE};"
_NONE = f"{ESCAPE}0"
_LONGEST = 500  # characters, so that two of them fit into an index's row


def stored(text: str) -> str:
    """Text as it is stored: nearly always as it is."""
    if text.isprintable():
        return text
    return _unstorable().sub(lambda found: f"{ESCAPE}{ord(found[0]):04x}", text)


def read(text: str) -> str:
    """Stored text as it was."""
    if ESCAPE not in text:
        return text
    return _escaped().sub(lambda found: chr(int(found[1], 16)), text)


def indexed(text: str) -> str:
    """Text to be found by: itself, or a digest of a long one, since an index takes no long text."""
    if len(text) <= _LONGEST:
        return stored(text)
    return f"{ESCAPE}sha256:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def joined(texts: Sequence[str | None]) -> str:
    """Texts as one, each as it is stored, which `string_to_array` takes apart."""
    if None in texts or not "".join(cast("Sequence[str]", texts)).isprintable():
        texts = [_NONE if text is None else stored(text) for text in texts]
    return _SEPARATOR.join(cast("Sequence[str]", texts))


def array(texts: Iterable[str]) -> str:
    """Stored texts as the literal of an array."""
    quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]
    return literal('{"' + '","'.join(quoted) + '"}') if quoted else "'{}'"


def literal(text: str) -> str:
    """Stored text as a literal, which reads the same under any setting of the server."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


@cache
def _unstorable() -> re.Pattern[str]:
    return re.compile("[\x00\x1a\ud800-\udfff]")


@cache
def _escaped() -> re.Pattern[str]:
    return re.compile("\x1a([0-9a-f]{4})")
