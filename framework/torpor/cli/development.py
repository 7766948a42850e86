"""What `torpor dev` runs on: checked options, an environment of defaults, a lock on the data, a broker."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torpor.adapters.nats.embedded import EmbeddedNats

_PATIENCE = 2.0  # seconds in which a server that was just killed lets go of its port and its data
_POLL = 0.05
_BACKLOG = 512
_DRAIN_SECONDS = "4"


class Development:
    """What was asked of `torpor dev`."""

    __slots__ = ("data", "host", "is_reloading", "paths", "port", "since", "watched")

    def __init__(self, paths: Sequence[str], *, host: str, port: int, data: Path, is_reloading: bool) -> None:
        self.paths = tuple(paths)
        self.watched = tuple(Path(path).resolve() for path in paths)
        self.host = host
        self.port = port
        self.data = data.resolve()
        self.is_reloading = is_reloading
        self.since = time.time()


def environment_of(plan: Development, environ: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: what is set stays, and the rest is made to need nothing installed."""
    databases = f"sqlite:///{quote(str(plan.data))}/{{service}}.db"
    defaults = {
        "TORPOR_LOG_FORMAT": "console",
        "TORPOR_DRAIN_SECONDS": _DRAIN_SECONDS,
    }
    if not environ.get("TORPOR_DATABASE_URL_FILE"):
        defaults["TORPOR_DATABASE_URL"] = databases
    address = {"TORPOR_HTTP_HOST": plan.host, "TORPOR_HTTP_PORT": str(plan.port)}
    return {**environ, **{name: environ.get(name) or value for name, value in defaults.items()}, **address}


def broker_of(plan: Development, environ: Mapping[str, str]) -> EmbeddedNats | None:
    """The embedded broker, not yet started; None when the environment names another."""
    if environ.get("TORPOR_BROKER_URL") or environ.get("TORPOR_BROKER_URL_FILE"):
        return None
    from torpor.adapters.nats.embedded import EmbeddedNats

    return EmbeddedNats(plan.data / "nats")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; waits a little for a server that is just ending there.

    The parent holds it, so that a request that comes while the worker starts again waits and is not refused.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
            return socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_POLL)
                continue
            raise ConfigurationError([_refused(host, port, error)]) from error


def _refused(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Stop what listens there, or choose another: --port {port + 1}"
    return f"{host}:{port} cannot be listened on: {error.strerror or error}. Choose another --host or --port."


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Makes the data folder, and keeps another `torpor dev` out of it. A killed holder's lock is gone with it."""
    data.mkdir(parents=True, exist_ok=True)
    ignore = data / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    with (data / "lock").open("a+") as file:
        _take(file.fileno(), data)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _take(descriptor: int, data: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() < deadline:
                time.sleep(_POLL)
                continue
            holder = os.pread(descriptor, 20, 0).decode().strip()
            raise ConfigurationError(
                [f"Another `torpor dev` (process {holder}) uses {data}. Stop it, or give another folder: --data DIR"]
            ) from error
        return
