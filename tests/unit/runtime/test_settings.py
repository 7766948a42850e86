"""Settings: typed, and every mistake told at once, without secrets."""

import pytest

from torpor.assembly import open_store
from torpor.kernel.errors import ConfigurationError
from torpor.runtime.settings import Settings, without_secrets


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
        (None, None),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str | None, shown: str | None) -> None:
    """User, password and options of a URL are never shown, of none in a list."""
    assert without_secrets(url) == shown
