"""The knobs of the NATS adapter, in one object."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from torpor.kernel.errors import ConfigurationError
from torpor.runtime.access import TLS, Query, split_query

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from torpor.kernel.topic import Topic

WEEK = 7 * 24 * 3600.0
DEFAULT_PORT = 4222
SCHEMES = ("nats", "tls", "ws", "wss")
QUERY = ("password_file", "token_file", "credentials", "nkey", *TLS, "replicas")
_MOST_REPLICAS = 5  # of JetStream
_USER = re.compile(r"(^|://|,)([^@:/,]+)@")
_CREDENTIALS, _SEED = (b"BEGIN NATS USER JWT", b"BEGIN USER NKEY SEED"), (b"SU",)
_WAYS = ("user", "token", "credentials", "nkey")


@dataclass(frozen=True, kw_only=True, slots=True)
class JetStreamOptions:
    """How the adapter uses JetStream. Times are in seconds. The defaults suit a service of a few thousand messages
    a second. What concerns groups is applied by `declare`, to existing ones too; what concerns streams, to those that
    it makes.
    """

    servers: str = field(default="nats://127.0.0.1:4222", repr=False)  # several with commas; may hold credentials
    name: str = "torpor"  # as the server's monitoring shows the connection
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: Path | str | None = None  # a file with a JWT and its seed
    nkey: Path | str | None = None  # a file with a seed
    tls: ssl.SSLContext | None = field(default=None, repr=False)  # of one broker only; nothing is sent without TLS then
    has_certificate: bool = False  # `tls` has one of ours
    tls_hostname: str | None = None

    connect_timeout: float = 2.0  # for each server; a lost connection is waited for as long before BrokerUnavailable
    request_timeout: float = 5.0  # for an answer of JetStream's API
    publish_timeout: float = 5.0  # without any confirmation, while some are outstanding
    publish_window: int = 2048  # messages on their way and not confirmed
    max_payload: int | None = None  # a limit lower than the server's
    fetch_window: int = 256  # deliveries fetched ahead for a consumer

    ack_wait: float = 10.0  # after which the server redelivers what a dead consumer of a shared subscription held
    pin_timeout: float = 3.0  # of silence, after which another consumer of a group takes over
    max_ack_pending: int = 2000  # deliveries of a group that may be unacknowledged at a time
    retention: float = WEEK  # how long a stream keeps its messages
    duplicate_window: float = 120.0
    replicas: int = 1
    storage: str = "file"  # or "memory"
    topics: Mapping[str, Topic] = field(default_factory=dict)  # what is wished of new streams, by topic; it goes before


def options_of(url: str, *, name: str) -> JetStreamOptions:
    """The options in a URL: nats://user:password@host:4222, tls://host?credentials=orders.creds&ca=ca.pem."""
    head, query = split_query(url)
    given = Query(query, QUERY)
    user = password = None
    if "password_file" in given:
        head, user = _without_user(head)
        password = given.secret("password_file")
        if user is None:
            given.problems.append(
                "TORPOR_BROKER_URL has password_file. Write nats://user@host:4222, without a password."
            )
    credentials, nkey = given.file("credentials"), given.file("nkey")
    if (credentials or nkey) and find_spec("nkeys") is None:
        given.problems.append("TORPOR_BROKER_URL has credentials or nkey, which need 'nkeys'. Install torpor[nats].")
    for way, path, marks in (("credentials", credentials, _CREDENTIALS), ("nkey", nkey, _SEED)):
        if path is not None and not all(mark in path.read_bytes() for mark in marks):
            told = " and ".join(mark.decode() for mark in marks)
            given.problems.append(
                f"TORPOR_BROKER_URL has {way}={str(path)!r}, which is none. Expected a file with {told}…"
            )
    tls = given.tls(is_asked="tls://" in head or "wss://" in head)
    token = given.secret("token_file")
    replicas = given.number("replicas") or 1
    if replicas > _MOST_REPLICAS:
        given.problems.append(
            f"TORPOR_BROKER_URL has replicas={replicas}. JetStream keeps a stream on up to 5 servers."
        )
    given.finish()
    options = JetStreamOptions(
        servers=head,
        name=name,
        user=user,
        password=password,
        token=token,
        credentials=credentials,
        nkey=nkey,
        tls=tls,
        has_certificate="cert" in given,
        replicas=replicas,
    )
    Servers(options)  # tells what is wrong with the addresses
    return options


def _without_user(head: str) -> tuple[str, str | None]:
    """A URL without the user before its '@', and that user; None unless there is one, without a password."""
    users = {unquote(user) for _, user in _USER.findall(head)}
    rest = _USER.sub(r"\1", head)
    return rest, users.pop() if len(users) == 1 and "@" not in rest else None


class Servers:
    """Where the servers are, and how we sign in: the credentials are taken out of the URLs, so that none is shown."""

    __slots__ = ("addresses", "options", "password", "token", "urls", "user")

    def __init__(self, options: JetStreamOptions) -> None:
        self.options = options
        self.user, self.password, self.token = options.user, options.password, options.token
        self.urls: list[str] = []
        self.addresses: list[str] = []
        urls = [url.strip() for url in options.servers.split(",")]
        if any("@" in url and "://" not in url and "@" not in before for before, url in pairwise(urls)):
            raise ConfigurationError(["The URL of NATS has a ',' before its '@'. In a user or a password write %2C."])
        for url in urls:
            self._take(url)
        ways = [name for name in _WAYS if self._has(name)]
        if len(ways) > 1 or (self.user is None) != (self.password is None):
            told = " and ".join(ways) or "a password"
            raise ConfigurationError(
                [f"NATS is given {told}. Give one of: user and password, token, credentials, nkey."]
            )

    def _has(self, name: str) -> bool:
        return getattr(self if name in {"user", "token"} else self.options, name) is not None

    def _take(self, url: str) -> None:
        scheme, _, rest = url.rpartition("://")
        scheme = scheme or "nats"
        credentials, at, place = rest.rpartition("@")
        try:
            parts = urlsplit(f"//{place}")
            host, port, path = parts.hostname or "", parts.port or DEFAULT_PORT, parts.path
        except ValueError:
            host, port, path = "", 0, ""
        if scheme not in SCHEMES or not host or not port:
            shown = f"{scheme}://{place.partition(':')[0]}"  # what follows may be a password that lost its '@'
            raise ConfigurationError(
                [f"{shown!r} is no NATS URL. Expected nats://host:port, or tls://, ws://, wss://."]
            )
        user, colon, password = credentials.partition(":")
        if at and not colon and self.token is None:
            self.token = unquote(user)
        elif colon and self.user is None:
            self.user, self.password = unquote(user), unquote(password)
        host = f"[{host}]" if ":" in host else host
        self.urls.append(f"{scheme}://{host}:{port}{path}")
        self.addresses.append(f"{host}:{port}")

    def __str__(self) -> str:
        return ", ".join(self.addresses)

    def __repr__(self) -> str:
        return f"<Servers {self}>"
