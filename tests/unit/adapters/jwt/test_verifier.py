"""Tokens and their attacks: each is refused, and told apart in the log's reason alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from torpor import ConfigurationError, Jwt
from torpor.adapters.jwt.verifier import JwtVerifier
from torpor.adapters.memory.clock import VirtualClock
from torpor.kernel.auth import JwtWay
from torpor.kernel.identity import Caller, Denied

ISSUER, AUDIENCE = "https://id.test", "orders"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, kid: str, algorithm: str) -> dict[str, Any]:
    """The public half of a key, as an issuer shows it."""
    kind = jwt.algorithms.RSAAlgorithm if algorithm.startswith("RS") else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, "alg": algorithm, "use": "sig"}


class Issuer:
    """An issuer with its discovery document and its keys; it may be down."""

    def __init__(self) -> None:
        self.keys = [jwk(RSA, "r1", "RS256"), jwk(EC, "e1", "ES256")]
        self.is_down = False
        self.name = ISSUER
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        if self.is_down:
            raise OSError("connection refused")
        if url.endswith("openid-configuration"):
            return json.dumps({"issuer": self.name, "jwks_uri": f"{ISSUER}/keys"}).encode()
        return json.dumps({"keys": self.keys}).encode()


class Bench:
    """A verifier of one issuer's tokens, at a time that stands still."""

    def __init__(self, **options: Any) -> None:
        self.clock = VirtualClock()
        self.issuer = Issuer()
        (way,) = Jwt(ISSUER, AUDIENCE, **options).ways
        assert isinstance(way, JwtWay)
        self.verifier = JwtVerifier(way, self.clock, self.issuer.fetch)

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(self.clock.time())
        made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": now + 300, "iat": now, "scope": "a b"} | more
        return {name: value for name, value in made.items() if value is not None}

    def token(self, *, key: Any = RSA, algorithm: str = "RS256", headers: Any = None, **more: Any) -> str:
        return jwt.encode(self.claims(**more), key, algorithm=algorithm, headers={"kid": "r1", **(headers or {})})

    async def verify(self, token: str) -> Caller | None:
        return await self.verifier.verify({"authorization": f"Bearer {token}"})


def encoded(part: Any) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_a_good_token_shows_its_caller() -> None:
    """By either kind of key, with its scopes and claims."""
    bench = Bench()
    caller = await bench.verify(bench.token(roles=["admin", 7]))
    assert caller is not None
    assert (caller.subject, caller.issuer, caller.scopes, caller.roles) == ("ada", ISSUER, {"a", "b"}, {"admin"})
    assert await bench.verify(bench.token(key=EC, algorithm="ES256", headers={"kid": "e1"})) is not None
    assert await bench.verify(bench.token(aud=["x", AUDIENCE])) is not None
    assert await bench.verifier.verify({"authorization": "Basic YTpi"}) is None
    assert await bench.verifier.verify({}) is None


def forged(bench: Bench, header: dict[str, Any], key: bytes) -> str:
    """A token whose signature is an HMAC."""
    body = f"{encoded(header)}.{encoded(bench.claims())}"
    return f"{body}.{encoded(hmac.new(key, body.encode(), hashlib.sha256).digest())}"


PUBLIC = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
ATTACKS = {
    "alg none": (lambda b: f"{encoded({'alg': 'none', 'kid': 'r1'})}.{encoded(b.claims())}.", "algorithm 'none'"),
    "alg None, in capitals": (lambda b: f"{encoded({'alg': 'NONE'})}.{encoded(b.claims())}.", "algorithm 'NONE'"),
    "the public key as an HMAC secret": (lambda b: forged(b, {"alg": "HS256", "kid": "r1"}, PUBLIC), "'HS256'"),
    "an algorithm that is not believed": (lambda b: b.token(algorithm="PS256"), "'PS256'"),
    "RS256 by an elliptic key": (lambda b: b.token(headers={"kid": "e1"}), "is for another"),
    "a stranger's signature": (lambda b: b.token(key=OTHER), "signature is not right"),
    "a changed payload": (
        lambda b: ".".join(
            [b.token().split(".")[0], encoded(b.claims(sub="eve")), b.token().split(".")[2]]
        ),
        "signature is not right",
    ),
    "no signature": (lambda b: b.token().rpartition(".")[0] + ".", "signature is not right"),
    "expired": (lambda b: b.token(exp=int(b.clock.time()) - 31), "has expired"),
    "without an end": (lambda b: b.token(exp=None), "when it expires"),
    "an end that is no number": (lambda b: b.token(exp=True), "no numbers"),
    "an end beyond all time": (lambda b: b.token(exp=2**62), "no numbers"),
    "not valid yet": (lambda b: b.token(nbf=int(b.clock.time()) + 31), "not valid yet"),
    "issued in the future": (lambda b: b.token(iat=int(b.clock.time()) + 31), "in the future"),
    "of another issuer": (lambda b: b.token(iss="https://evil.test"), "its issuer is"),
    "for another audience": (lambda b: b.token(aud="billing"), "its audience is"),
    "for nobody": (lambda b: b.token(aud=None), "its audience is"),
    "without a subject": (lambda b: b.token(sub=""), "no subject"),
    "of an unknown key": (lambda b: b.token(headers={"kid": "r9"}), "'r9'"),
    "of a key that is a path": (lambda b: b.token(headers={"kid": "../../dev/null"}), "../../dev/null"),
    "of a key that is a statement": (lambda b: b.token(headers={"kid": "' OR 1=1 --"}), "OR 1=1"),
    "of a key that is no name": (
        lambda b: f"{encoded({'alg': 'RS256', 'kid': {'a': 1}})}.{encoded(b.claims())}.x", "cannot be read",
    ),
    "of a key with a huge name": (lambda b: b.token(headers={"kid": "k" * 300}), "no name"),
    "that brings its own key": (
        lambda b: b.token(key=OTHER, headers={"jwk": jwk(OTHER, "r1", "RS256")}), "signature is not right",
    ),
    "that names its own keys' place": (
        lambda b: b.token(key=OTHER, headers={"jku": "https://evil.test/keys"}), "signature is not right",
    ),
    "with extensions": (lambda b: b.token(headers={"crit": ["exp"]}), "cannot be read"),
    "huge": (lambda b: "a" * 20_000, "20000 characters"),  # noqa: ARG005
    "no token": (lambda b: "..", "cannot be read"),  # noqa: ARG005
    "two parts": (lambda b: "a.b", "cannot be read"),  # noqa: ARG005
    "no JSON": (lambda b: f"{encoded(b'{')}.{encoded(b.claims())}.x", "cannot be read"),
    "a payload that is a list": (
        lambda b: jwt.api_jws.encode(b"[]", RSA, algorithm="RS256", headers={"kid": "r1"}),  # noqa: ARG005
        "signature is not right",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_refused(name: str) -> None:
    """Each by its own reason, which stands in the log."""
    bench = Bench()
    make, reason = ATTACKS[name]
    with pytest.raises(Denied) as raised:
        await bench.verify(make(bench))
    assert reason in str(raised.value)
    assert not raised.value.is_known


async def test_clocks_may_differ_a_little() -> None:
    """Times are believed within the leeway, and not beyond."""
    bench = Bench(leeway=10)
    now = int(bench.clock.time())
    assert await bench.verify(bench.token(exp=now - 9, nbf=now + 9, iat=now + 9)) is not None
    with pytest.raises(Denied, match="expired"):
        await bench.verify(bench.token(exp=now - 10))


async def test_keys_are_kept_and_rotated() -> None:
    """They are fetched once; a new key is found by its name, and one that was taken away is believed no more."""
    bench = Bench()
    for _ in range(3):
        await bench.verify(bench.token())
    assert len(bench.issuer.asked) == 2
    bench.issuer.keys = [jwk(OTHER, "r2", "RS256")]
    await bench.clock.advance(31)
    assert await bench.verify(bench.token(key=OTHER, headers={"kid": "r2"})) is not None
    with pytest.raises(Denied, match="'r1'"):
        await bench.verify(bench.token())


async def test_unknown_keys_do_not_flood_the_issuer() -> None:
    """Names that nobody knows are asked for once in a while."""
    bench = Bench()
    await bench.verify(bench.token())
    for number in range(50):
        with pytest.raises(Denied):
            await bench.verify(bench.token(headers={"kid": f"x{number}"}))
    assert len(bench.issuer.asked) == 2


async def test_an_issuer_that_is_away_is_no_reason_to_forget_its_keys() -> None:
    """Known keys are believed for a day; without any nobody is let in, and both recover."""
    bench = Bench()
    bench.issuer.is_down = True
    with pytest.raises(Denied, match="cannot be had"):
        await bench.verify(bench.token())
    bench.issuer.is_down = False
    await bench.clock.advance(2)
    assert await bench.verify(bench.token()) is not None
    bench.issuer.is_down = True
    await bench.clock.advance(3600)
    assert await bench.verify(bench.token()) is not None
    await bench.clock.advance(90_000)
    with pytest.raises(Denied, match="cannot be had"):
        await bench.verify(bench.token())


async def test_a_discovery_document_of_another_is_not_believed() -> None:
    """Its keys are not fetched."""
    bench = Bench()
    bench.issuer.name = "https://evil.test"
    with pytest.raises(Denied, match="cannot be had"):
        await bench.verify(bench.token())
    assert len(bench.issuer.asked) == 1


async def test_secrets_among_the_keys_are_left_out() -> None:
    """A symmetric key that an issuer shows by mistake is known to everybody."""
    bench = Bench()
    bench.issuer.keys = [{"kty": "oct", "k": encoded(b"0" * 32), "kid": "r1"}, "no key", {"kty": "??"}]  # type: ignore[list-item]
    with pytest.raises(Denied, match="'r1'"):
        await bench.verify(forged(bench, {"alg": "RS256", "kid": "r1"}, b"0" * 32))


def test_what_no_token_could_be_checked_by_is_refused_at_once() -> None:
    """Symmetric algorithms, no audience, no URL."""
    with pytest.raises(ConfigurationError) as raised:
        Jwt("id", "", jwks="x", algorithms=["HS256", "none"], leeway=-1)
    assert len(raised.value.problems) == 5
