"""The keys of an issuer: fetched when they are needed, kept, and fetched again when a token names another."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from torpor.kernel.identity import Denied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from torpor.kernel.auth import JwtWay
    from torpor.ports.clock import Clock

    Fetch = Callable[[str], Awaitable[bytes]]

_FRESH_SECONDS = 600.0
_LONGEST_SECONDS = 86_400.0  # that keys are believed while the issuer is away
_PAUSE_SECONDS = 30.0  # between two fetches for names that nobody knows
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1_048_576
_MOST_KEYS = 100
_FAMILIES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_log = logging.getLogger("torpor.auth")


class Keys:
    """Public keys by their ids."""

    def __init__(self, way: JwtWay, clock: Clock, fetch: Fetch | None) -> None:
        self._way = way
        self._clock = clock
        self._fetch = fetch or fetched
        self._keys: dict[str | None, Any] = {}  # PyJWK by kid
        self._at = float("-inf")  # when they were fetched
        self._asked_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None, algorithm: str) -> Any:
        """The key that a token names; the only one, when it names none. Raises Denied."""
        if self._is_due(kid):
            async with self._fetching:
                if self._is_due(kid):
                    await self._refresh()
        if self._clock.time() - self._at > _LONGEST_SECONDS:
            raise Denied(f"the keys of {self._way.issuer} cannot be had")
        if kid is None and len(self._keys) == 1:
            kid = next(iter(self._keys))
        key = self._keys.get(kid)
        if key is None:
            raise Denied(f"its token names the key {str(kid)[:40]!r}, which {self._way.issuer} has not")
        if key.key_type != _FAMILIES[algorithm[:2]] or (key.algorithm_name or algorithm) != algorithm:
            raise Denied(f"its token has the algorithm {algorithm}, and its key is for another")
        return key.key

    def _is_due(self, kid: str | None) -> bool:
        """Whether the keys are to be fetched: they are old, or one is asked for that may be new."""
        now = self._clock.time()
        is_known = kid in self._keys or (kid is None and len(self._keys) == 1)
        is_stale = now - self._at > _FRESH_SECONDS
        return (is_stale or not is_known) and now - self._asked_at > (_PAUSE_SECONDS if self._keys else 1.0)

    async def _refresh(self) -> None:
        from jwt import PyJWK, PyJWTError

        self._asked_at = self._clock.time()
        try:
            url = self._way.jwks or await self._discovered()
            found = json.loads(await self._fetch(url))["keys"][:_MOST_KEYS]
        except (OSError, ValueError, KeyError, TypeError, TimeoutError) as error:
            _log.warning("the keys of %s cannot be had: %s", self._way.issuer, str(error) or type(error).__name__)
            return
        keys = {}
        for one in found:
            try:
                if one.get("kty") != "oct" and one.get("use", "sig") == "sig":  # a secret is no public key
                    keys[one.get("kid")] = PyJWK(one)
            except (PyJWTError, AttributeError, ValueError, TypeError):
                continue  # a kind of key that we do not know
        self._keys, self._at = keys, self._clock.time()

    async def _discovered(self) -> str:
        document = json.loads(await self._fetch(f"{self._way.issuer.rstrip('/')}/.well-known/openid-configuration"))
        if document.get("issuer") != self._way.issuer:
            raise ValueError(f"its discovery document is of {document.get('issuer')!r}")
        return str(document["jwks_uri"])


async def fetched(url: str) -> bytes:
    """What is at a URL. Raises OSError, ValueError or TimeoutError."""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url[:80]!r} is no URL to fetch keys from")
    return await asyncio.wait_for(asyncio.to_thread(_read, url), _FETCH_SECONDS + 1)


def _read(url: str) -> bytes:
    request = Request(url, headers={"accept": "application/json"})  # noqa: S310  # checked by `fetched`
    with urlopen(request, timeout=_FETCH_SECONDS) as answer:  # noqa: S310  # see above
        body: bytes = answer.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ValueError("it is too large")
    return body
