"""What a Kafka URL says."""

from __future__ import annotations

import pytest

from torpor.adapters.kafka.options import options_of
from torpor.adapters.kafka.topics import check_topic
from torpor.kernel.errors import ConfigurationError


def test_a_url_says_servers_credentials_and_topics() -> None:
    """Servers get the default port, credentials are unquoted, and the query says the rest."""
    options = options_of(
        "kafka://me:s%2Fecret@one,two:9093,[::1]:9094?sasl=scram-sha-512&tls=yes&partitions=6&replication=3",
        name="orders",
    )
    assert options.servers == ("one:9092", "two:9093", "[::1]:9094")
    assert (options.user, options.password, options.mechanism) == ("me", "s/ecret", "SCRAM-SHA-512")
    assert options.tls is not None
    assert (options.partitions, options.replication, options.name) == (6, 3, "orders")
    assert "s/ecret" not in repr(options)


def test_a_plain_url_asks_for_nothing() -> None:
    """Without credentials and query there is no TLS, no user, and the server's defaults hold."""
    options = options_of("kafka://host:9092", name="t")
    assert (options.user, options.tls, options.partitions, options.replication) == (None, None, None, None)


def test_a_url_says_how_soon_a_silent_replica_is_replaced() -> None:
    """The session is a quarter of a minute unless the query says it, and a rebalance has a third of it."""
    asked, usual = (options_of(f"kafka://host:9092{query}", name="t") for query in ("?session=3", ""))
    assert (asked.session_timeout, asked.handover) == (3.0, 1.0)
    assert (usual.session_timeout, usual.handover) == (15.0, 5.0)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafka://", "no host:port"),
        ("kafka://host:port", "no host:port"),
        ("kafka://host/path", "no host:port"),
        ("kafka://me@host", "a user without a password"),
        ("kafka://host?sasl=PLAIN", "sasl and no user"),
        ("kafka://me:x@host?sasl=GSSAPI", "sasl='GSSAPI'"),
        ("kafka://host?partitions=0", "partitions='0'"),
        ("kafka://host?partition=3", "Did you mean 'partitions'"),
        ("kafka://host?ca=/nowhere.pem", "holds no certificates"),
        ("kafka://host?cert=/nowhere.pem", "cert='/nowhere.pem', which cannot be used"),
        ("kafka://host?key=/nowhere.pem", "key= without cert="),
        ("kafka://host?tls=perhaps", "tls='perhaps'"),
        ("kafka://host?tls=no&ca=/nowhere.pem", "Leave out one of them"),
        ("kafka://me@host?password_file=/nowhere", "password_file='/nowhere', which cannot be read"),
        ("kafka://me:s3cret@host?password_file=/dev/null", "without a password"),
        ("kafka://host?password_file=/dev/null", "password_file and no user"),
        ("kafka://me@host?password_file=/dev/null", "which holds no text"),
        ("kafka://me:s3?cret@host", "has a '?' before its '@'"),
        ("kafka://me:s3cret", "'me', which is no host:port"),
    ],
)
def test_a_wrong_url_is_told_without_secrets(url: str, told: str) -> None:
    """Each mistake is named, with what was expected."""
    with pytest.raises(ConfigurationError, match="TORPOR_BROKER_URL") as caught:
        options_of(url, name="t")
    assert told in str(caught.value)
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("topic", ["", ".", "..", "a b", "a/b", "é", "x" * 250])
def test_a_topic_that_kafka_does_not_take_is_told(topic: str) -> None:
    """A name that cannot be a topic is a mistake of the configuration."""
    with pytest.raises(ConfigurationError, match="cannot be a Kafka topic"):
        check_topic(topic)
