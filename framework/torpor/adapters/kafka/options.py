"""The knobs of the Kafka adapter, in one object, and the URL that says them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from torpor.runtime.access import TLS, Query, split_query

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from torpor.kernel.topic import Topic

DEFAULT_PORT = 9092
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
QUERY = ("sasl", "password_file", *TLS, "partitions", "replication", "session")
_SESSION = 15.0


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
    has_certificate: bool = False  # `tls` has one of ours

    partitions: int | None = None  # of a new topic; the server's default when None
    replication: int | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # of a new topic: retention.ms, cleanup.policy …
    topics: Mapping[str, Topic] = field(default_factory=dict)  # what is wished of new topics, by name; it goes before

    connect_timeout: float = 5.0
    request_timeout: float = 5.0  # for an answer, and for a commit
    publish_timeout: float = 10.0  # without any confirmation, while some are outstanding
    batch_bytes: int = 262_144  # of one partition, sent and confirmed together
    commit_interval: float = 0.5  # between commits of what is acknowledged
    handover: float = 5.0  # how long a rebalance waits for what is in hand; below half of session_timeout
    session_timeout: float = _SESSION  # after which the group goes on without a dead consumer
    metadata_age: float = 30.0  # after which new partitions are seen
    fetch_bytes: int = 1_048_576  # ahead for each partition


def options_of(url: str, *, name: str) -> KafkaOptions:
    """The options in a URL: kafka://user:password@host:9092,host2:9092?sasl=SCRAM-SHA-512&ca=ca.pem&partitions=6."""
    head, query = split_query(url)
    given = Query(query, QUERY)
    credentials, at, hosts = head.partition("://")[2].rstrip("/").rpartition("@")
    servers = tuple(_server(host, given.problems) for host in hosts.split(","))
    user, password = _signed_in(credentials if at else None, given)
    mechanism = (given.text("sasl") or "PLAIN").upper()
    if mechanism not in MECHANISMS:
        given.problems.append(f"TORPOR_BROKER_URL has sasl={mechanism!r}. Expected one of {', '.join(MECHANISMS)}.")
    partitions, replication = given.number("partitions"), given.number("replication")
    session = float(given.number("session") or _SESSION)
    tls = given.tls()
    given.finish()
    return KafkaOptions(
        servers=servers,
        name=name,
        user=user,
        password=password,
        mechanism=mechanism,
        tls=tls,
        has_certificate="cert" in given,
        partitions=partitions,
        replication=replication,
        session_timeout=session,
        handover=session / 3,
    )


def _signed_in(credentials: str | None, given: Query) -> tuple[str | None, str | None]:
    """User and password, the latter from the URL or from a file."""
    user, colon, password = (credentials or "").partition(":")
    if credentials is None:
        for name in ("sasl", "password_file"):
            if name in given:
                given.problems.append(
                    f"TORPOR_BROKER_URL has {name} and no user. Write kafka://user:password@host:9092."
                )
        return None, None
    if "password_file" not in given and not (user and colon):
        given.problems.append(
            "TORPOR_BROKER_URL has a user without a password. Write kafka://user:password@host:9092, "
            "or kafka://user@host:9092?password_file=/run/secrets/kafka."
        )
    elif "password_file" in given and (colon or not user):
        given.problems.append("TORPOR_BROKER_URL has password_file. Write kafka://user@host:9092, without a password.")
    return unquote(user), given.secret("password_file") if "password_file" in given else unquote(password)


def _server(text: str, problems: list[str]) -> str:
    """A host with its port."""
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = "" if parts.path else parts.hostname or "", parts.port or DEFAULT_PORT
    except ValueError:
        host, port = "", 0
    if not host:
        shown = text.partition(":")[0]  # what follows may be a password that lost its '@'
        problems.append(f"TORPOR_BROKER_URL names {shown!r}, which is no host:port. Expected kafka://host:9092.")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
