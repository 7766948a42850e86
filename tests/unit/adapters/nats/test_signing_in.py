"""What signing in to NATS by keys needs is installed with the extra, and its absence is told."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from torpor.adapters.nats.options import options_of
from torpor.kernel.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[4]


def test_the_extra_has_what_signs() -> None:
    """Who installs torpor[nats] can sign in by credentials and by an nkey."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(wanted.startswith("nkeys") for wanted in project["optional-dependencies"]["nats"])


@pytest.mark.parametrize("way", ["credentials", "nkey"])
def test_without_it_the_setting_says_what_to_install(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is opened, with the name of the extra."""
    monkeypatch.setitem(sys.modules, "nkeys", None)
    file = tmp_path / "secret"
    file.write_text("-----BEGIN NATS USER JWT----- -----BEGIN USER NKEY SEED----- SUA")
    with pytest.raises(ConfigurationError) as caught:
        options_of(f"nats://127.0.0.1:4222?{way}={file}", name="t")
    assert "need 'nkeys'. Install torpor[nats]." in str(caught.value)
