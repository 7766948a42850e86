"""Secrets are read late, and shown nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor import ConfigurationError, Secret

if TYPE_CHECKING:
    from pathlib import Path


def test_a_secret_is_read_from_a_variable_or_a_file(tmp_path: Path) -> None:
    """A changed file is seen; the end of its last line is not of the secret."""
    token = Secret("BANK_TOKEN")
    file = tmp_path / "token"
    file.write_text("one\n")
    assert token.read({"BANK_TOKEN": "plain"}) == "plain"
    assert token.read({"BANK_TOKEN_FILE": str(file)}) == "one"
    file.write_text("two\n")
    assert token.read({"BANK_TOKEN_FILE": str(file)}) == "two"


def test_what_is_wrong_is_told_without_the_secret(tmp_path: Path) -> None:
    """A missing one, two of one name, an empty file; and no text shows what a secret holds."""
    token = Secret("BANK_TOKEN")
    assert repr(token) == "Secret('BANK_TOKEN')"
    empty = tmp_path / "empty"
    empty.write_text("")
    for environ in ({}, {"BANK_TOKEN": "s3cret", "BANK_TOKEN_FILE": "x"}, {"BANK_TOKEN_FILE": str(empty)}):
        with pytest.raises(ConfigurationError) as raised:
            token.read(environ)
        assert "BANK_TOKEN" in str(raised.value)
        assert "s3cret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="without _FILE"):
        Secret("BANK_TOKEN_FILE")
