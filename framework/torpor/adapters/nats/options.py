"""The knobs of the NATS adapter, in one object."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

WEEK = 7 * 24 * 3600.0
DEFAULT_PORT = 4222
SCHEMES = ("nats", "tls", "ws", "wss")


@dataclass(frozen=True, kw_only=True, slots=True)
class JetStreamOptions:
    """How the adapter uses JetStream. Times are in seconds. The defaults suit a service of a few thousand messages
    a second. What concerns streams and groups is applied by `declare`, to existing ones too where JetStream can.
    """

    servers: str = field(default="nats://127.0.0.1:4222", repr=False)  # several with commas; may hold credentials
    name: str = "torpor"  # as the server's monitoring shows the connection
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: Path | str | None = None  # a file with a JWT and its seed
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_hostname: str | None = None

    connect_timeout: float = 2.0  # for each server; a lost connection is waited for as long before BrokerUnavailable
    request_timeout: float = 5.0  # for an answer of JetStream's API
    publish_timeout: float = 5.0  # without any confirmation, while some are outstanding
    publish_window: int = 512  # messages on their way and not confirmed
    max_payload: int | None = None  # a limit lower than the server's
    fetch_window: int = 256  # deliveries fetched ahead for a consumer

    ack_wait: float = 10.0  # after which the server redelivers what a dead consumer of a shared subscription held
    pin_timeout: float = 3.0  # of silence, after which another consumer of a group takes over
    max_ack_pending: int = 2000  # deliveries of a group that may be unacknowledged at a time
    retention: float = WEEK  # how long a stream keeps its messages
    duplicate_window: float = 120.0
    replicas: int = 1
    storage: str = "file"  # or "memory"


class Servers:
    """Where the servers are, and how we sign in: the credentials are taken out of the URLs, so that none is shown."""

    __slots__ = ("addresses", "options", "password", "token", "urls", "user")

    def __init__(self, options: JetStreamOptions) -> None:
        self.options = options
        self.user, self.password, self.token = options.user, options.password, options.token
        self.urls: list[str] = []
        self.addresses: list[str] = []
        for url in options.servers.split(","):
            self._take(url.strip())
        ways = [name for name in ("user", "token", "credentials") if self._has(name)]
        if len(ways) > 1 or (self.user is None) != (self.password is None):
            told = " and ".join(ways) or "a password"
            raise ConfigurationError([f"NATS is given {told}. Give one of: user and password, token, credentials."])

    def _has(self, name: str) -> bool:
        return getattr(self.options if name == "credentials" else self, name) is not None

    def _take(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        try:
            port = parts.port or DEFAULT_PORT
        except ValueError:
            port = 0
        if parts.scheme not in SCHEMES or not parts.hostname or not port:
            shown = url.rpartition("@")[2]
            raise ConfigurationError(
                [f"{shown!r} is no NATS URL. Expected nats://host:port, or tls://, ws://, wss://."]
            )
        if parts.username and parts.password is None and self.token is None:
            self.token = unquote(parts.username)
        elif parts.username and parts.password is not None and self.user is None:
            self.user, self.password = unquote(parts.username), unquote(parts.password)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.urls.append(f"{parts.scheme}://{host}:{port}{parts.path}")
        self.addresses.append(f"{host}:{port}")

    def __str__(self) -> str:
        return ", ".join(self.addresses)

    def __repr__(self) -> str:
        return f"<Servers {self}>"
