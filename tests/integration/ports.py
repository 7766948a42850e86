"""Ports for servers that are started a while after theirs was chosen."""

from __future__ import annotations

import random
import socket

# Below what Linux takes for connections, so that none of these takes a port between its choice and the server's start.
_PORTS = range(16_384, 32_000)
_given: set[int] = set()  # so that two who ask one after the other are not given the same


def free_port() -> int:
    """A port that nobody listens on, and that nobody else here was given."""
    while True:
        port = random.choice(_PORTS)  # nothing to guard
        if port in _given:
            continue
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
