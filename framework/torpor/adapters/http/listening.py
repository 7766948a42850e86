"""Sockets that listen."""

from __future__ import annotations

import errno
import socket

from torpor.kernel.errors import ConfigurationError

BACKLOG = 2048


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on an address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)  # localhost is 127.0.0.1
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigurationError([_refused(host, port, error)]) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError([_refused(host, port, error)]) from error
    listener.settimeout(0)  # the loop waits, the socket does not
    return listener


def port_of(listener: socket.socket) -> int:
    """The port that a socket listens on."""
    return int(listener.getsockname()[1])


def _refused(host: str, port: int, error: OSError | UnicodeError) -> str:
    other = "choose another with --port or TORPOR_HTTP_PORT"
    number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (None, "no host has such a name")
    if number == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use. Stop what listens there, or {other}."
    if number == errno.EACCES:
        return f"Port {port} on {host} is not this user's to take. Ports up to 1023 are root's: {other}."
    return (
        f"{host!r} is no address of this machine ({reason}). "
        "Set --host or TORPOR_HTTP_HOST, for example to 127.0.0.1, or to 0.0.0.0 for all."
    )
