"""Which pages of other origins may read a route's answers."""

from __future__ import annotations

from torpor.kernel.errors import ConfigurationError

ANY = "*"


class Cors:
    """Lets a browser's pages of these origins call, by the CORS protocol. Without it none of another origin may.

    ```python
    orders = Service("orders", rules=[Cors("https://shop.example.com", headers=["authorization"])])
    ```

    `headers` are those that a page may send, and `expose` those that it may read, beside the harmless ones. With
    `credentials` cookies come along, which is never so for every origin (`"*"`). A browser remembers it for `max_age`
    seconds.
    """

    __slots__ = ("credentials", "expose", "headers", "max_age", "origins")

    def __init__(
        self,
        *origins: str,
        headers: tuple[str, ...] | list[str] = (),
        expose: tuple[str, ...] | list[str] = (),
        credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        problems = [
            f"Cors({origin!r}): expected an origin such as https://shop.example.com, without a path."
            for origin in origins
            if origin != ANY and (origin.count("/") != 2 or "://" not in origin or origin.endswith("/"))
        ]
        if not origins:
            problems.append('Cors() lets nobody in. Name origins, or "*" for all.')
        if credentials and ANY in origins:
            problems.append('Cors("*", credentials=True) hands every page what its visitor may see. Name the origins.')
        if problems:
            raise ConfigurationError(problems)
        self.origins = frozenset(origins)
        self.headers = tuple(headers)
        self.expose = tuple(expose)
        self.credentials = credentials
        self.max_age = max_age

    def allowed(self, origin: str) -> str | None:
        """What is answered to an origin: itself, `*`, or nothing."""
        if ANY in self.origins:
            return ANY
        return origin if origin in self.origins else None

    def __repr__(self) -> str:
        return f"Cors({', '.join(map(repr, sorted(self.origins)))})"
