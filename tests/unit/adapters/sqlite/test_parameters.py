"""Parameters are `$1` for handlers and `?1` for SQLite, and nothing else of a statement changes."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torpor.adapters.sqlite.parameters import translate
from torpor.kernel.errors import StatementFailed

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00") | st.sampled_from("$1'\"-/*`[]; \n"))


def quoted(opening: str, closing: str) -> st.SearchStrategy[tuple[str, str]]:
    """A literal or name, which stays as it is; the quote in it is doubled."""
    return TEXT.map(lambda text: (opening + text.replace(closing, closing * 2) + closing,) * 2)


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


LINE_COMMENT = TEXT.map(lambda text: ("--" + text.replace("\n", " ") + "\n",) * 2)
COMMENT = TEXT.map(lambda text: ("/*" + text.replace("*/", "* /") + " */",) * 2)
BRACKETS = TEXT.map(lambda text: ("[" + text.replace("]", "") + "]",) * 2)
PARAMETER = st.integers(1, 40).map(lambda number: (f"${number}", f"?{number}"))
WORD = st.sampled_from(["a$1", "x", "été", "_$2$3", "=", "(", ")", ",", "5", "$", "$x", "1.5e3"]).map(
    lambda text: (text,) * 2
)
PIECE = st.one_of(
    quoted("'", "'"), quoted('"', '"'), quoted("`", "`"), BRACKETS, LINE_COMMENT, COMMENT, PARAMETER, WORD
)


@given(st.lists(PIECE))
def test_only_parameters_change(pieces: list[tuple[str, str]]) -> None:
    """Literals, quoted names, comments and names with a dollar sign stay as they are, whatever they hold."""
    written = " ".join(["SELECT", *(before for before, _ in pieces)])
    expected = " ".join(["SELECT", *(after for _, after in pieces)])

    assert translate(written) == expected


@given(st.lists(st.one_of(st.integers(1, 5), TEXT), min_size=1, max_size=20), st.lists(TEXT, min_size=5, max_size=5))
def test_sqlite_reads_what_was_meant(columns: list[int | str], parameters: list[str]) -> None:
    """SQLite gives the parameter for a parameter and the literal for a literal, in any order and any number."""
    written = [f"${column}" if isinstance(column, int) else literal(column) for column in columns]
    query = (
        f"SELECT {', '.join(written)} -- $9\n/* '$8 */ WHERE $1 = $1 AND $2 = $2 AND $3 = $3 AND $4 = $4 AND $5 = $5"
    )

    with closing(sqlite3.connect(":memory:")) as connection:
        (row,) = connection.execute(translate(query), parameters)

    assert list(row) == [parameters[column - 1] if isinstance(column, int) else column for column in columns]


@given(TEXT)
def test_a_text_without_a_dollar_sign_is_left_alone(text: str) -> None:
    """Nothing but a dollar sign and a number is a parameter, even in what is no SQL."""
    statement = "SELECT " + text.replace("$", "")

    assert translate(statement) == statement


@pytest.mark.parametrize("ending", ["'$1", '"$1', "`$1", "[$1", "/* $1", "-- $1"])
def test_what_is_never_closed_reaches_to_the_end(ending: str) -> None:
    """SQLite will refuse it (a comment apart), and tells so of the text that was written."""
    assert translate(f"SELECT $1, {ending}") == f"SELECT ?1, {ending}"


@pytest.mark.parametrize("verb", ["BEGIN", "commit", "End", "ROLLBACK", "SAVEPOINT", "RELEASE"])
@pytest.mark.parametrize("before", ["", " \n", "-- first\n", "/* x */ "])
def test_a_handler_cannot_begin_or_end_the_transaction(before: str, verb: str) -> None:
    """A statement that would is refused, with what to do instead; the word elsewhere is fine."""
    with pytest.raises(StatementFailed, match="Raise an exception"):
        translate(f"{before}{verb} x")

    assert translate(f"SELECT 1 AS {verb}") == f"SELECT 1 AS {verb}"
