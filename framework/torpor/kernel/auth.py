"""Who may call a route: values. What checks them is made from them when a service is assembled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torpor.kernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from torpor.kernel.identity import Caller

ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})


class Auth:
    """Who may call: ways to show who one is, any of which will do, and what whoever it is must be allowed.

    ```python
    people = Jwt(issuer="https://id.example.com", audience="orders")
    orders = Service("orders", auth=people)


    @orders.get("/orders", auth=people.needs("orders:read"))
    async def list_orders(caller: Caller) -> list[str]: ...
    ```

    `a | b` takes either. `needs` asks for scopes, all of them, and for one of the roles. A route's `auth=` stands in
    place of its router's and its service's; a route that anybody may call says `public=True`.
    """

    __slots__ = ("roles", "scopes", "ways")

    def __init__(self, ways: Sequence[Way], *, scopes: Sequence[str] = (), roles: Sequence[str] = ()) -> None:
        self.ways = tuple(ways)
        self.scopes = frozenset(scopes)
        self.roles = frozenset(roles)

    def needs(self, *scopes: str, roles: Sequence[str] = ()) -> Auth:
        """The same ways, for those who have all these scopes, and one of these roles if any is named."""
        return Auth(self.ways, scopes=(*self.scopes, *scopes), roles=(*self.roles, *roles))

    def __or__(self, other: Auth) -> Auth:
        if (self.scopes, self.roles) != (other.scopes, other.roles):
            raise ConfigurationError(
                [f"{self!r} | {other!r} ask for different things. Join the ways first: (a | b).needs(...)."]
            )
        return Auth((*self.ways, *other.ways), scopes=[*self.scopes], roles=[*self.roles])

    def lacks(self, caller: Caller) -> str | None:
        """What a caller is not allowed, in words; None when nothing is missing."""
        if missing := self.scopes - caller.scopes:
            return f"scopes {', '.join(sorted(missing))}"
        if self.roles and not self.roles & caller.roles:
            return f"one of the roles {', '.join(sorted(self.roles))}"
        return None

    def __repr__(self) -> str:
        ways = " | ".join(map(repr, self.ways))
        needs = ", ".join([*map(repr, sorted(self.scopes)), *([f"roles={sorted(self.roles)}"] if self.roles else [])])
        return f"({ways}).needs({needs})" if needs else ways


class JwtWay:
    """Tokens of one issuer."""

    __slots__ = ("algorithms", "audience", "issuer", "jwks", "leeway", "roles_claim", "scopes_claim")

    def __init__(
        self, issuer: str, audience: str, *, jwks: str | None, algorithms: Sequence[str], leeway: float
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self.jwks = jwks
        self.algorithms = tuple(algorithms)
        self.leeway = leeway
        self.scopes_claim = "scope"
        self.roles_claim = "roles"

    def __repr__(self) -> str:
        return f"Jwt({self.issuer!r})"


class KeyWay:
    """API keys, known by their hashes."""

    __slots__ = ("hashes", "header")

    def __init__(self, hashes: Mapping[str, Caller], header: str) -> None:
        self.hashes = hashes
        self.header = header

    def __repr__(self) -> str:
        return f"ApiKeys({len(self.hashes)})"


class CertificateWay:
    """Client certificates that a gateway has checked."""

    __slots__ = ("header",)

    def __init__(self, header: str) -> None:
        self.header = header

    def __repr__(self) -> str:
        return f"ClientCertificate({self.header!r})"


class OwnWay:
    """A function of the user's own."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Mapping[str, str]], Awaitable[Caller | None]]) -> None:
        self.function = function

    def __repr__(self) -> str:
        return f"CustomAuth({getattr(self.function, '__qualname__', self.function)})"


Way = JwtWay | KeyWay | CertificateWay | OwnWay


class Jwt(Auth):
    """Bearer tokens that an issuer has signed.

    ```python
    people = Jwt(issuer="https://id.example.com", audience="orders")
    ```

    The issuer's keys are found by OpenID discovery, or at `jwks`; they are kept, and asked for again when a token names
    one that is not known. Only `algorithms` are believed, all of them asymmetric. `exp`, `nbf` and `iat` may be off by
    `leeway` seconds.
    """

    __slots__ = ()

    def __init__(
        self,
        issuer: str,
        audience: str,
        *,
        jwks: str | None = None,
        algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA"),
        leeway: float = 30.0,
    ) -> None:
        problems = [f"Jwt(issuer={issuer!r}): expected a URL." for _ in "1" if not _is_url(issuer)]
        if not audience:
            problems.append("Jwt(audience='') takes the tokens of every other service. Name this one.")
        if jwks is not None and not _is_url(jwks):
            problems.append(f"Jwt(jwks={jwks!r}): expected a URL.")
        if unknown := sorted(set(algorithms) - ALGORITHMS):
            problems.append(f"Jwt(algorithms={unknown}): expected some of {', '.join(sorted(ALGORITHMS))}.")
        if not algorithms:
            problems.append("Jwt(algorithms=[]) believes no token.")
        if not 0 <= leeway <= 300:
            problems.append(f"Jwt(leeway={leeway}): expected 0 to 300 seconds.")
        if problems:
            raise ConfigurationError(problems)
        super().__init__([JwtWay(issuer, audience, jwks=jwks, algorithms=algorithms, leeway=leeway)])


class ApiKeys(Auth):
    """Keys that clients send in a header, known by their SHA-256 alone.

    ```python
    partners = ApiKeys({"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae": Caller("acme")})
    ```

    `torpor key` makes a key and its hash. A client that changes its key has two hashes here for a while. Keys are long
    and random, so a fast hash keeps them; a password would not be safe so.
    """

    __slots__ = ()

    def __init__(self, hashes: Mapping[str, Caller], *, header: str = "x-api-key") -> None:
        problems = [
            f"ApiKeys: {known[:12]!r}… is no SHA-256 in hexadecimal digits. Make one with: torpor key."
            for known in hashes
            if len(known) != 64 or not set(known) <= set("0123456789abcdef")
        ]
        if problems:
            raise ConfigurationError(problems)
        super().__init__([KeyWay(dict(hashes), header.lower())])


class ClientCertificate(Auth):
    """Client certificates that a gateway checks, and tells of in a header that no client can send past it.

    ```python
    machines = ClientCertificate(header="x-forwarded-client-cert-subject")
    ```
    """

    __slots__ = ()

    def __init__(self, header: str) -> None:
        super().__init__([CertificateWay(header.lower())])


class CustomAuth(Auth):
    """A function of your own: it is given the request's headers, their names in lower case, and returns the caller, or
    None when they show nobody that it knows.

    ```python
    from collections.abc import Mapping


    async def by_session(headers: Mapping[str, str]) -> Caller | None: ...


    sessions = CustomAuth(by_session)
    ```
    """

    __slots__ = ()

    def __init__(self, function: Callable[[Mapping[str, str]], Awaitable[Caller | None]]) -> None:
        super().__init__([OwnWay(function)])


def _is_url(text: str) -> bool:
    scheme, _, rest = text.partition("://")
    return scheme in {"http", "https"} and bool(rest.partition("/")[0])
