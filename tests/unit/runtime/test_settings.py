"""Settings: typed, and every mistake told at once, without secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from torpor.assembly import open_store
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.settings import Settings, without_secrets

if TYPE_CHECKING:
    from pathlib import Path


def test_defaults_are_closed() -> None:
    """Nothing set means no broker, no database, and an address of this machine alone."""
    settings = Settings.read({})
    assert (settings.broker_url, settings.database_url) == (None, None)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8000)


def test_a_database_of_postgres_is_opened_with_its_options() -> None:
    """The URL's query names the schema, the connections and a pooler; the rest is left to the driver."""
    url = "postgresql://u:hunter2@h:1/db?schema={service}&connections=2&pooled=yes&sslmode=require"
    store = open_store(url, "orders")
    assert repr(store) == "<PostgresStore h:1/db>"
    with pytest.raises(ConfigurationError, match="Expected a number"):
        open_store("postgresql://h/db?connections=many", "orders")


def test_every_mistake_is_told_at_once() -> None:
    """Wrong values and unknown names come in one error, with what was expected; other programs' are left alone."""
    environ = {
        "TORPOR_BROKER_URL": "amqp://user:hunter2@host",
        "TORPOR_DATABASE_URL": "orders.db",
        "TORPOR_HTTP_PORT": "http",
        "TORPOR_DRAIN_SECONDS": "-1",
        "TORPOR_LOG_LEVEL": "loud",
        "TORPOR_HTTP_PRT": "1",
        "HOME": "/",
    }
    with pytest.raises(ConfigurationError) as caught:
        Settings.read(environ)
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    assert "nats://" in text
    assert "Did you mean 'TORPOR_HTTP_PORT'?" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://u:a@h1:4222,nats://u:b@h2", "nats://h1:4222,nats://h2"),
        ("u:a@host:4222", "host:4222"),
        ("postgresql://u:a@h/db?password=b", "postgresql://h/db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
        ("kafka://u:s,e/c#r@e%t@h1:9092,h2:9092?ca=/x", "kafka://h1:9092,h2:9092"),
        ("kafka://u:se?cret@h", "kafka://…"),
        ("postgresql://h/db?password=s@cret", "postgresql://…"),
        ("nats://u:secret", "nats://u:…"),
        ("nats://[::1]:4222", "nats://[::1]:4222"),
        ("nats://[::1]", "nats://[::1]"),
        (None, None),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str | None, shown: str | None) -> None:
    """User, password and options of a URL are never shown, of none in a list."""
    assert without_secrets(url) == shown


def test_a_url_is_read_from_the_file_that_is_named(tmp_path: Path) -> None:
    """A secret may be mounted as a file: its text is the URL, without the spaces and the line's end around it."""
    secret = tmp_path / "database"
    secret.write_text("postgresql://torpor:hunter2@db/shop?schema={service}\n")
    settings = Settings.read({"TORPOR_DATABASE_URL_FILE": str(secret)})
    assert settings.database_url == "postgresql://torpor:hunter2@db/shop?schema={service}"
    assert settings.broker_url is None


def test_what_is_wrong_with_a_file_of_a_url_is_told_without_its_text(tmp_path: Path) -> None:
    """A missing file, an empty one, one with no URL, and one beside a URL are each a mistake of its own."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "wrong").write_text("amqp://user:hunter2@host")
    (tmp_path / "bytes").write_bytes(b"\xff")
    for name, told in {"missing": "cannot be read", "empty": "empty", "wrong": "Expected", "bytes": "cannot"}.items():
        with pytest.raises(ConfigurationError, match=told) as caught:
            Settings.read({"TORPOR_BROKER_URL_FILE": str(tmp_path / name)})
        assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="both set"):
        Settings.read({"TORPOR_BROKER_URL": "memory://", "TORPOR_BROKER_URL_FILE": str(tmp_path / "wrong")})
