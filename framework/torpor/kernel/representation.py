"""How an answer goes out: with a tag, compressed, or marked as on its way out. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from torpor.kernel.errors import ConfigurationError


class ETags:
    """Tags the answers to GET, so that a client which has one already is told so (304), and not sent it again.

    ```python
    @orders.get("/catalogue", rules=[ETags()])
    async def catalogue(tx: Tx) -> list[str]: ...
    ```

    The tag is made from the body, after the handler has run: it spares the way, not the work. A stream has none.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "ETags()"


class Compressed:
    """Compresses answers of `least` bytes or more with gzip, for clients that take it.

    ```python
    orders = Service("orders", rules=[Compressed()])
    ```

    Only text is compressed (JSON, XML, HTML …), and nothing that is compressed already, or that says
    `Cache-Control: no-transform`. A stream is sent as it is. An answer that holds a secret beside what a stranger has
    sent should not be compressed: its length tells of the secret.
    """

    __slots__ = ("least",)

    def __init__(self, least: int = 1024) -> None:
        if least < 0:
            raise ConfigurationError([f"Compressed({least}): expected a number of bytes."])
        self.least = least

    def __repr__(self) -> str:
        return f"Compressed({self.least})"


class Deprecated:
    """Tells the clients of a route, or of a version's router, that it is on its way out, in the headers `Deprecation`
    and `Sunset` of RFC 9745 and RFC 8594.

    ```python
    v1 = Router(prefix="/v1", rules=[Deprecated(date(2026, 1, 31), sunset=date(2026, 12, 31), link="/docs/v2")])
    ```

    `since` and `sunset` are days or moments in UTC; `link` is where it says what to do. OpenAPI marks the routes too.
    """

    __slots__ = ("link", "since", "sunset")

    def __init__(self, since: date, *, sunset: date | None = None, link: str | None = None) -> None:
        self.since = _moment(since)
        self.sunset = None if sunset is None else _moment(sunset)
        self.link = link
        if self.sunset is not None and self.sunset < self.since:
            raise ConfigurationError([f"{self!r} ends before it begins. RFC 9745 wants the sunset last."])

    def __repr__(self) -> str:
        return f"Deprecated({self.since:%Y-%m-%d}, sunset={None if self.sunset is None else f'{self.sunset:%Y-%m-%d}'})"


def _moment(day: date) -> datetime:
    if not isinstance(day, datetime):
        return datetime.combine(day, time(), tzinfo=UTC)
    return day if day.tzinfo is not None else day.replace(tzinfo=UTC)
