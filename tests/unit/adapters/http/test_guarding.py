"""Who may call a route."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from torpor import ApiKeys, Caller, ClientCertificate, ConfigurationError, CustomAuth, Event, Router, Service, Tx
from torpor.runtime.binding import bind
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "k" * 32
HASH = sha256(KEY.encode()).hexdigest()
KEYS = ApiKeys({HASH: Caller("acme", scopes=["orders:read"], roles=["partner"])})
SHOWN = {"x-api-key": KEY}


class Placed(Event, topic="placed"):
    id: int


class Checked(Event, topic="checked"):
    by: str


def orders() -> Service:
    """A service of which most is closed."""
    service = Service("orders", auth=KEYS)
    inner = Router(prefix="/inner", auth=KEYS.needs("orders:read"))

    @service.get("/mine")
    async def mine(caller: Caller) -> str:
        return caller.subject

    @service.get("/open", public=True)
    async def anyone() -> str:
        return "hello"

    @service.get("/write", auth=KEYS.needs("orders:write"))
    async def write() -> str:
        return "never"

    @service.get("/role", auth=KEYS.needs(roles=["admin", "partner"]))
    async def role() -> str:
        return "in"

    @inner.get("/read")
    async def read() -> str:
        return "read"

    @service.post("/place")
    async def place(caller: Caller, tx: Tx) -> None:
        assert caller.subject == "acme"
        tx.publish(Placed(id=1))

    @service.on(Placed)
    async def check(event: Placed, caller: Caller | None) -> Checked:
        return Checked(by="nobody" if caller is None else f"{caller.kind} {caller.subject}")

    service.include(inner)
    return service


async def test_who_shows_nothing_is_refused() -> None:
    """401 for whom nobody knows, alike whatever was wrong; 403 for who may not; a public route is open."""
    async with TestShop(orders()) as shop:
        answers = [
            await shop.get("/mine"),
            await shop.get("/mine", headers={"x-api-key": "short"}),
            await shop.get("/mine", headers={"x-api-key": "x" * 32}),
            await shop.get("/inner/read"),
        ]
        assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {
            (401, "Who calls is not known here.")
        }
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert (await shop.get("/mine", headers=SHOWN)).json() == "acme"
        assert (await shop.get("/inner/read", headers=SHOWN)).json() == "read"
        assert (await shop.get("/role", headers=SHOWN)).json() == "in"
        assert (await shop.get("/write", headers=SHOWN)).status_code == 403
        assert (await shop.get("/open")).json() == "hello"


async def test_a_body_is_not_read_before_its_sender_is_known() -> None:
    """A request that FastAPI would refuse is answered with 401 all the same."""
    async with TestShop(orders()) as shop:
        assert (
            await shop.post("/place", content=b"{", headers={"content-type": "application/json"})
        ).status_code == 401


async def test_the_caller_travels_with_the_messages() -> None:
    """What a handler publishes for a caller says who it was, and so does what follows from it."""
    async with TestShop(orders()) as shop:
        await shop.post("/place", headers=SHOWN)
        await shop.settle()
        assert shop.published(Checked) == [Checked(by="api_key acme")]
        (checked,) = [message for message in shop.hub.published if message.topic == "checked"]
        assert (checked.attributes["authtype"], checked.attributes["authid"]) == ("api_key", "acme")
        await shop.publish(Placed(id=2))
        await shop.settle()
        assert shop.published(Checked)[1] == Checked(by="nobody")


async def test_a_refusal_is_told_in_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, and never with what was shown."""
    async with TestShop(orders()) as shop:
        answer = await shop.get("/mine", headers={"x-api-key": "secret-that-is-wrong-1"})
    assert "not known" in caplog.text
    assert "secret-that-is-wrong" not in caplog.text + answer.text


async def test_ways_of_ones_own_and_of_a_gateway() -> None:
    """Any of the ways will do; a function that fails lets nobody in."""

    async def by_session(headers: Mapping[str, str]) -> Caller | None:
        if "x-break" in headers:
            raise ValueError("session store")
        return Caller("ada", kind="custom") if headers.get("cookie") == "session=1" else None

    service = Service("mixed", auth=CustomAuth(by_session) | ClientCertificate("X-Cert-Subject"))

    @service.get("/who")
    async def who(caller: Caller) -> str:
        return f"{caller.kind} {caller.subject}"

    async with TestShop(service) as shop:
        assert (await shop.get("/who", headers={"cookie": "session=1"})).json() == "custom ada"
        assert (await shop.get("/who", headers={"x-cert-subject": "CN=till"})).json() == "certificate CN=till"
        assert (await shop.get("/who", headers={"x-break": "1"})).status_code == 401
        assert (await shop.get("/who")).status_code == 401


def test_mistakes_are_told() -> None:
    """Two words that exclude each other, no value, a Caller that nobody finds out, and a hash that is none."""
    service = Service("odd")

    @service.get("/a", auth=KEYS, public=True)
    async def both() -> None: ...

    @service.get("/b", auth="jwt")  # type: ignore[arg-type]
    async def text() -> None: ...

    @service.get("/c", public=True)
    async def unknown(caller: Caller) -> None: ...

    @service.on(Placed)
    async def hear(event: Placed, caller: Caller) -> None: ...

    with pytest.raises(ConfigurationError) as raised:
        bind(service)
    told = "\n".join(raised.value.problems)
    assert len(raised.value.problems) >= 4
    assert all(word in told for word in ("Drop one", "auth='jwt'", "nothing finds out", "Caller"))
    with pytest.raises(ConfigurationError, match="no SHA-256"):
        ApiKeys({"plain": Caller("x")})
    with pytest.raises(ConfigurationError, match="different things"):
        _ = KEYS.needs("a") | KEYS
