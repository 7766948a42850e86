"""The guard before a route: finds out who calls, and lets in who may."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from torpor.kernel.auth import CertificateWay, JwtWay, KeyWay
from torpor.kernel.identity import Caller, Denied

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torpor.kernel.auth import Auth, OwnWay, Way
    from torpor.ports.verifier import Verifier

_LONGEST = 16_384  # characters of a header that anybody looks at
_LEAST_KEY = 20


class Guard:
    """Holds one route's `Auth` against requests."""

    __slots__ = ("_auth", "_verifiers", "has_tokens")

    def __init__(self, auth: Auth, verifier_of: Callable[[Way], Verifier]) -> None:
        self._auth = auth
        self._verifiers = [verifier_of(way) for way in auth.ways]
        self.has_tokens = any(isinstance(way, JwtWay) for way in auth.ways)

    async def admit(self, headers: Mapping[str, str]) -> Caller:
        """Whoever calls. Raises Denied, whose text is for the log."""
        reasons = []
        for verifier in self._verifiers:
            try:
                caller = await verifier.verify(headers)
            except Denied as denied:
                reasons.append(str(denied))
                continue
            if caller is None:
                continue
            if lacking := self._auth.lacks(caller):
                raise Denied(f"{caller!r} lacks {lacking}", is_known=True)
            return caller
        raise Denied("; ".join(reasons) or "it shows nobody")


class KeyVerifier:
    """Knows clients by the hashes of their keys."""

    __slots__ = ("_way",)

    def __init__(self, way: KeyWay) -> None:
        self._way = way

    async def verify(self, headers: Mapping[str, str]) -> Caller | None:
        key = headers.get(self._way.header)
        if key is None:
            return None
        if not _LEAST_KEY <= len(key) <= _LONGEST:
            raise Denied("its API key is of no length that keys have")
        shown = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for known, caller in self._way.hashes.items():  # all of them, so that the time tells nothing
            if hmac.compare_digest(known, shown):
                found = caller
        if found is None:
            raise Denied("its API key is not known")
        return Caller(found.subject, kind="api_key", scopes=found.scopes, roles=found.roles, claims=found.claims)


class CertificateVerifier:
    """Believes a gateway."""

    __slots__ = ("_way",)

    def __init__(self, way: CertificateWay) -> None:
        self._way = way

    async def verify(self, headers: Mapping[str, str]) -> Caller | None:
        subject = headers.get(self._way.header)
        return None if not subject else Caller(subject[:_LONGEST], kind="certificate")


class OwnVerifier:
    """Asks the user's function."""

    __slots__ = ("_way",)

    def __init__(self, way: OwnWay) -> None:
        self._way = way

    async def verify(self, headers: Mapping[str, str]) -> Caller | None:
        try:
            caller = await self._way.function(headers)
        except Denied:
            raise
        except Exception as error:
            raise Denied(f"{self._way!r} raised {type(error).__name__}") from error
        return caller


def own_verifier(way: KeyWay | CertificateWay | OwnWay) -> Verifier:
    """What checks a way that needs nobody else."""
    if isinstance(way, KeyWay):
        return KeyVerifier(way)
    return CertificateVerifier(way) if isinstance(way, CertificateWay) else OwnVerifier(way)


def token_of(headers: Mapping[str, str]) -> str | None:
    """The bearer token of a request. Raises Denied for one that is too long to be one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    if len(token) > _LONGEST:
        raise Denied(f"its token has {len(token)} characters")
    return token.strip()
