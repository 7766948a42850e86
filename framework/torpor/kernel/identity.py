"""Who calls: a value, and the rules by which the claims of a token are believed. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_NOTHING: Mapping[str, Any] = {}
_EARLIEST = 0
_LATEST = 2**40


class Caller:
    """Who has called, and what they may do.

    ```python
    @orders.get("/mine", auth=Jwt("https://id.example.com", "orders"))
    async def mine(caller: Caller, tx: Tx) -> list[str]:
        rows = await tx.fetch("SELECT id FROM orders WHERE owner = $1", caller.subject)
        return [row["id"] for row in rows]
    ```

    `kind` is `user` (a token), `api_key`, `certificate` or `custom`. A message that a handler publishes carries `kind`
    and `subject` in the attributes `authtype` and `authid` of CloudEvents, and so do the messages that follow from it;
    whoever handles one may ask for its Caller, who then has neither scopes, roles nor claims.
    """

    __slots__ = ("claims", "issuer", "kind", "roles", "scopes", "subject")

    def __init__(
        self,
        subject: str,
        *,
        kind: str = "user",
        issuer: str = "",
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        claims: Mapping[str, Any] = _NOTHING,
    ) -> None:
        self.subject = subject
        self.kind = kind
        self.issuer = issuer
        self.scopes = frozenset(scopes)
        self.roles = frozenset(roles)
        self.claims = claims

    def attributes(self) -> dict[str, str]:
        """What a message tells of its caller, by the CloudEvents extension authcontext."""
        return {"authtype": self.kind, "authid": self.subject}

    def __repr__(self) -> str:
        return f"<Caller {self.kind} {self.subject!r}>"


def caller_of(attributes: Mapping[str, str]) -> Caller | None:
    """The caller that a message tells of."""
    subject = attributes.get("authid")
    return None if subject is None else Caller(subject, kind=attributes.get("authtype", "unknown"))


class Denied(Exception):  # an answer on its way to the edge, not an error that is told to anybody but the log
    """Why somebody is not let in. The text is for the log alone."""

    def __init__(self, reason: str, *, is_known: bool = False) -> None:
        super().__init__(reason)
        self.is_known = is_known  # who calls is known, and may not do this


def claims_problem(claims: Mapping[str, Any], *, issuer: str, audience: str, now: float, leeway: float) -> str | None:
    """Why the claims of a token whose signature is right are not believed, or None."""
    return next(_problems(claims, issuer=issuer, audience=audience, earliest=now - leeway, latest=now + leeway), None)


def _problems(
    claims: Mapping[str, Any], *, issuer: str, audience: str, earliest: float, latest: float
) -> Iterator[str]:
    if claims.get("iss") != issuer:
        yield f"its issuer is {_shown(claims.get('iss'))}, not {issuer!r}"
    meant = claims.get("aud")
    if audience not in (meant if isinstance(meant, list) else [meant]):
        yield f"its audience is {_shown(meant)}, not {audience!r}"
    if "exp" not in claims:
        yield "it does not say when it expires"
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if not all(_is_time(time) for time in times.values()):
        yield "its times are no numbers"
    if times["exp"] <= earliest:
        yield "it has expired"
    if times.get("nbf", earliest) > latest:
        yield "it is not valid yet"
    if times.get("iat", earliest) > latest:
        yield "it was issued in the future"
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        yield "it names no subject"


def words_of(claim: Any) -> list[str]:
    """A claim that is a list of words, or a text of them."""
    if isinstance(claim, str):
        return claim.split()
    return [word for word in claim if isinstance(word, str)] if isinstance(claim, list) else []


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _EARLIEST <= value < _LATEST


def _shown(value: Any) -> str:
    return repr(value)[:100]
