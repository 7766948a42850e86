"""What a WebSocket may cost: a value."""

from __future__ import annotations

from torpor.kernel.errors import ConfigurationError

MESSAGE_SIZE = 65_536  # bytes, unless a BodyLimit says another


class SocketLimits:
    """What each connection of a socket may cost. Whoever goes beyond it is closed, and the others do not notice.

    ```python
    @orders.socket("/chat", limits=SocketLimits(rate=10, burst=20))
    async def talk(message: str) -> str:
        return message
    ```

    More than `rate` messages a second, beyond a `burst`, close with 1008. A client for which more than `buffer` bytes
    wait is too slow, and is closed with 1013. Whoever was silent for `heartbeat` seconds is pinged, and dropped when
    that brings no answer in as many. A process takes so many `connections`, and answers the others 503.
    """

    __slots__ = ("buffer", "burst", "connections", "heartbeat", "rate")

    def __init__(
        self,
        *,
        rate: float = 50.0,
        burst: int = 100,
        buffer: int = 262_144,
        heartbeat: float = 20.0,
        connections: int = 20_000,
    ) -> None:
        given = {"rate": rate, "burst": burst, "buffer": buffer, "heartbeat": heartbeat, "connections": connections}
        problems = [
            f"SocketLimits({name}={value}): expected more than 0." for name, value in given.items() if value <= 0
        ]
        if problems:
            raise ConfigurationError(problems)
        self.rate = rate
        self.burst = burst
        self.buffer = buffer
        self.heartbeat = heartbeat
        self.connections = connections

    def __repr__(self) -> str:
        return f"SocketLimits({', '.join(f'{name}={getattr(self, name)!r}' for name in sorted(self.__slots__))})"


def is_own_origin(origin: str, host: str) -> bool:
    """Whether a page of an origin was served by the same host that it calls now."""
    scheme, separator, place = origin.lower().partition("://")
    default = {"http": ":80", "https": ":443"}.get(scheme, "")
    return bool(separator and place) and place.removesuffix(default) == host.lower().removesuffix(default)
