"""The knobs of the Kafka adapter, in one object, and the URL that says them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from torpor.kernel.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

DEFAULT_PORT = 9092
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_QUERY = ("sasl", "tls", "ca", "partitions", "replication")
_YES = frozenset({"1", "yes", "true"})


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaOptions:
    """How the adapter uses Kafka. Times are in seconds. What concerns topics is applied to those that `declare` makes;
    an existing topic stays as it is.
    """

    servers: tuple[str, ...] = (f"127.0.0.1:{DEFAULT_PORT}",)  # host:port
    name: str = "torpor"  # as the servers' logs and quotas know us
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    mechanism: str = "PLAIN"  # one of MECHANISMS, when there is a user
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    partitions: int | None = None  # of a new topic; the server's default when None
    replication: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # of a new topic: retention.ms, cleanup.policy …

    connect_timeout: float = 5.0
    request_timeout: float = 5.0  # for an answer, and for a commit
    publish_timeout: float = 10.0  # without any confirmation, while some are outstanding
    batch_bytes: int = 262_144  # of one partition, sent and confirmed together
    commit_interval: float = 0.5  # between commits of what is acknowledged
    handover: float = 5.0  # how long a rebalance waits for what is in hand; below half of session_timeout
    session_timeout: float = 15.0  # after which the group goes on without a dead consumer
    metadata_age: float = 30.0  # after which new partitions are seen
    fetch_bytes: int = 1_048_576  # ahead for each partition


def options_of(url: str, *, name: str) -> KafkaOptions:
    """The options in a URL: kafka://user:password@host:9092,host2:9092?sasl=SCRAM-SHA-512&tls=yes&partitions=6."""
    head, _, query = url.partition("?")
    place = head.partition("://")[2].rstrip("/")
    credentials, at, hosts = place.rpartition("@")
    given = dict(parse_qsl(query, keep_blank_values=True))
    problems = [
        f"TORPOR_BROKER_URL has {unknown!r} in its query.{did_you_mean(unknown, _QUERY)} "
        f"Expected one of {', '.join(_QUERY)}."
        for unknown in given
        if unknown not in _QUERY
    ]
    servers = tuple(_server(host, problems) for host in hosts.split(","))
    mechanism = given.get("sasl", "PLAIN").upper()
    if mechanism not in MECHANISMS:
        problems.append(f"TORPOR_BROKER_URL has sasl={mechanism!r}. Expected one of {', '.join(MECHANISMS)}.")
    user, colon, password = credentials.partition(":")
    if at and not (user and colon):
        problems.append("TORPOR_BROKER_URL has a user without a password. Write kafka://user:password@host:9092.")
    if "sasl" in given and not at:
        problems.append("TORPOR_BROKER_URL has sasl and no user. Write kafka://user:password@host:9092?sasl=….")
    partitions, replication = (_number(given, name, problems) for name in ("partitions", "replication"))
    tls = _tls(given, problems)
    if problems:
        raise ConfigurationError(problems)
    return KafkaOptions(
        servers=servers,
        name=name,
        user=unquote(user) if at else None,
        password=unquote(password) if at else None,
        mechanism=mechanism,
        tls=tls,
        partitions=partitions,
        replication=replication,
    )


def _server(text: str, problems: list[str]) -> str:
    """A host with its port."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = "" if parts.path else parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:
        host, port = "", 0
    if not host:
        problems.append(f"TORPOR_BROKER_URL names {text!r}, which is no host:port. Expected kafka://host:9092.")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _number(given: Mapping[str, str], name: str, problems: list[str]) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    if not text.isdigit() or not 0 < int(text) < 2**15:
        problems.append(f"TORPOR_BROKER_URL has {name}={text!r}. Expected a number from 1 to 32767.")
        return None
    return int(text)


def _tls(given: Mapping[str, str], problems: list[str]) -> ssl.SSLContext | None:
    ca = given.get("ca")
    if given.get("tls", "").lower() not in _YES and ca is None:
        return None
    import ssl

    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        problems.append(f"TORPOR_BROKER_URL has ca={ca!r}, which holds no certificates: {error}.")
        return None
