"""Tokens of an issuer: the signature by PyJWT, the claims by our own rules, the keys by the issuer's JWKS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torpor.adapters.jwt.keys import Keys
from torpor.kernel.identity import Caller, Denied, claims_problem, words_of
from torpor.runtime.guard import token_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torpor.adapters.jwt.keys import Fetch
    from torpor.kernel.auth import JwtWay
    from torpor.ports.clock import Clock

_LONGEST_KID = 256


class JwtVerifier:
    """Checks bearer tokens."""

    def __init__(self, way: JwtWay, clock: Clock, fetch: Fetch | None = None) -> None:
        self._way = way
        self._clock = clock
        self._keys = Keys(way, clock, fetch)

    async def verify(self, headers: Mapping[str, str]) -> Caller | None:
        """The caller that a bearer token shows."""
        token = token_of(headers)
        if token is None:
            return None
        claims = await self._claims(token)
        way = self._way
        problem = claims_problem(
            claims, issuer=way.issuer, audience=way.audience, now=self._clock.time(), leeway=way.leeway
        )
        if problem is not None:
            raise Denied(f"its token is not believed: {problem}")
        return Caller(
            claims["sub"],
            issuer=way.issuer,
            scopes=words_of(claims.get(way.scopes_claim)),
            roles=words_of(claims.get(way.roles_claim)),
            claims=claims,
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        """What a token says, once its signature is right. Raises Denied."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Denied(f"its token cannot be read: {type(error).__name__}") from error
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._way.algorithms:
            raise Denied(f"its token has the algorithm {str(algorithm)[:20]!r}, which is not among those believed")
        if kid is not None and (not isinstance(kid, str) or len(kid) > _LONGEST_KID):
            raise Denied("its token names a key that is no name")
        if "crit" in header:
            raise Denied("its token has extensions that are not known here")
        key = await self._keys.find(kid, algorithm)
        # The claims are checked by `claims_problem`, which tells them apart.
        unchecked = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm], options=unchecked)  # type: ignore[arg-type]
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Denied(f"its token's signature is not right: {type(error).__name__}") from error
        if not isinstance(claims, dict):
            raise Denied("its token says nothing")
        return claims
