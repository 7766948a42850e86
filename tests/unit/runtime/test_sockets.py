"""WebSockets without a server: who comes in, what they say, and whom it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel

from torpor import (
    Caller,
    ConfigurationError,
    CustomAuth,
    ETags,
    Event,
    Router,
    Service,
    Socket,
    SocketLimits,
    Sockets,
    Tx,
)
from torpor.runtime.binding import bind
from torpor.runtime.peer import Refused
from torpor.testing import TestShop

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES = {"0001_line.sql": "CREATE TABLE line (text TEXT NOT NULL)"}


class Say(BaseModel):
    text: str


class Line(BaseModel):
    who: str
    text: str


class Said(Event, topic="chat.said"):
    text: str


class Shout(Event, topic="chat.shout"):
    text: str


async def known(headers: Mapping[str, str]) -> Caller | None:
    """Who says a name is believed."""
    name = headers.get("x-name")
    return None if name is None else Caller(name, kind="custom", scopes=["chat"] if name != "guest" else [])


people = CustomAuth(known)


class Strange:
    """What pydantic knows nothing of."""


class Mistake(Exception):
    status_code = 422
    detail = "No such room."


def chat_service() -> tuple[Service, list[str]]:
    """A chat of everything that a socket can do, and what has happened in it."""
    chat, told = Service("chat", migrations=TABLES, auth=people.needs("chat")), []

    async def come(socket: Socket, room: str, caller: Caller) -> None:
        if room == "closed":
            raise Mistake
        socket.join(room)
        socket.send(Line(who="server", text=f"hello {caller.subject}"))

    async def go(socket: Socket, room: str, tx: Tx) -> None:
        told.append(f"{room} {socket.close_code}")
        tx.publish(Said(text="gone"))

    @chat.socket("/chat/{room}", connect=come, disconnect=go, publishes=[Said], subprotocols=["v2", "v1"])
    async def talk(message: Say, socket: Socket, room: str, caller: Caller, tx: Tx) -> Line | None:
        tx.write("INSERT INTO line VALUES ($1)", message.text)
        tx.publish(Said(text=message.text))
        socket.broadcast(room, Line(who=caller.subject, text=message.text))
        if message.text == "fail":
            raise RuntimeError("no")
        if message.text == "leave":
            socket.leave(room)
        if message.text == "bye":
            socket.close(4001, "as you like")
        return Line(who="server", text="kept") if message.text == "keep" else None

    @chat.on(Shout)
    async def shout(event: Shout, sockets: Sockets) -> None:
        sockets.broadcast("lobby", event)

    return chat, told


ADA, GRACE = {"x-name": "ada"}, {"x-name": "grace"}


async def test_a_broadcast_reaches_the_group_and_nobody_else() -> None:
    """Who has joined hears it, the speaker too; another room does not."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop:
        async with (
            shop.connect("/chat/lobby", headers=ADA) as ada,
            shop.connect("/chat/lobby", headers=GRACE) as grace,
            shop.connect("/chat/attic", headers=ADA) as other,
        ):
            await ada.send({"text": "hi"})
            assert ada.received == [{"who": "server", "text": "hello ada"}, {"who": "ada", "text": "hi"}]
            assert grace.received[1:] == [{"who": "ada", "text": "hi"}]
            assert other.received[1:] == []
        assert shop.published(Said)[0] == Said(text="hi")


async def test_what_a_handler_returns_is_sent_to_its_client() -> None:
    """The answer goes to the speaker alone."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop, shop.connect("/chat/lobby", headers=ADA) as ada:
        await ada.send({"text": "keep"})
        assert ada.received[-1] == {"who": "server", "text": "kept"}


async def test_nothing_is_said_of_a_transaction_that_is_rolled_back() -> None:
    """A handler that raises has sent nothing, published nothing, and its client is closed with 1011."""
    chat, told = chat_service()
    async with TestShop(chat) as shop, shop.connect("/chat/lobby", headers=GRACE) as grace:
        async with shop.connect("/chat/lobby", headers=ADA) as ada:
            await ada.send({"text": "fail"})
            assert ada.close_code == 1011
        assert grace.received[1:] == []
        assert told == ["lobby 1011"]
        assert Said(text="fail") not in shop.published(Said)


async def test_an_event_reaches_connections() -> None:
    """A handler of a topic broadcasts to clients."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop, shop.connect("/chat/lobby", headers=ADA) as ada:
        await shop.publish(Shout(text="all"))
        await shop.settle()
        assert ada.received[-1] == {"text": "all"}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/chat/lobby", {}, 401),
        ("/chat/lobby", {"x-name": "guest"}, 403),
        ("/chat/lobby", {**ADA, "origin": "https://evil.example"}, 403),
        ("/chat/closed", ADA, 422),
        ("/chats", ADA, 404),
        ("/chat/a/b", ADA, 404),
    ],
)
async def test_who_may_not_is_not_connected(path: str, headers: dict[str, str], status: int) -> None:
    """Nobody is accepted whom the guard, the origin, the path or the handler of the connecting refuses."""
    chat, told = chat_service()
    async with TestShop(chat) as shop:
        with pytest.raises(Refused) as caught:
            async with shop.connect(path, headers=headers):
                pass
        assert caught.value.status == status
        assert told == []


async def test_a_page_of_ones_own_may_connect() -> None:
    """The same host is no stranger, on its scheme's own port or not."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop:
        for origin in ("http://torpor.test", "https://torpor.test:443", "http://TORPOR.test:80"):
            async with shop.connect("/chat/lobby", headers={**ADA, "origin": origin}) as ada:
                assert ada.received


async def test_the_best_subprotocol_is_agreed_on() -> None:
    """Of those that a client offers, the service's first is taken."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop:
        async with shop.connect("/chat/lobby", headers={**ADA, "sec-websocket-protocol": "v1, v2"}) as ada:
            assert ada.subprotocol == "v2"
        async with shop.connect("/chat/lobby", headers={**ADA, "sec-websocket-protocol": "v9"}) as ada:
            assert ada.subprotocol is None


async def test_the_end_has_a_code() -> None:
    """A goodbye of the client, of the handler, and a message that does not fit have each their own."""
    chat, told = chat_service()
    async with TestShop(chat) as shop:
        async with shop.connect("/chat/a", headers=ADA):
            pass
        async with shop.connect("/chat/b", headers=ADA) as ada:
            await ada.send({"text": "bye"})
            assert (ada.close_code, ada.close_reason) == (4001, "as you like")
        async with shop.connect("/chat/c", headers=ADA) as ada:
            await ada.send({"txt": "?"})
            assert (ada.close_code, ada.close_reason) == (1007, "Say does not fit: text: Field required")
        async with shop.connect("/chat/d", headers=ADA) as ada:
            await ada.send("x" * 100_000)
            assert ada.close_code == 1009
        assert told == ["a 1000", "b 4001", "c 1007", "d 1009"]


async def test_who_leaves_a_group_hears_it_no_more() -> None:
    """A membership ends when it is left, and with the connection."""
    chat, _ = chat_service()
    async with TestShop(chat) as shop, shop.connect("/chat/lobby", headers=GRACE) as grace:
        async with shop.connect("/chat/lobby", headers=ADA) as ada:
            await ada.send({"text": "leave"})
            heard = len(ada.received)
            await grace.send({"text": "still here?"})
            assert len(ada.received) == heard
        await grace.send({"text": "alone"})
        assert grace.received[-1] == {"who": "grace", "text": "alone"}


def small(limits: SocketLimits) -> Service:
    """A service with a socket for text."""
    service = Service("small", public=True)

    @service.socket("/echo", limits=limits)
    async def echo(message: str) -> str:
        return message

    return service


async def test_too_many_messages_close() -> None:
    """Beyond its burst a client is closed with 1008, and that is counted."""
    async with TestShop(small(SocketLimits(rate=0.001, burst=3))) as shop, shop.connect("/echo") as client:
        for number in range(4):
            await client.send(f"line {number}")
        assert client.received == ["line 0", "line 1", "line 2"]
        assert client.close_code == 1008
        families = {family.name: family.samples for family in shop.hosts[0].metrics.families()}
        assert ({"service": "small", "reason": "rate"}, 1.0) in families["torpor_connections_dropped"]


async def test_a_full_process_takes_nobody_more() -> None:
    """Who comes beyond the limit is answered 503, and there is room again when somebody leaves."""
    async with TestShop(small(SocketLimits(connections=1))) as shop:
        async with shop.connect("/echo"):
            with pytest.raises(Refused, match="no more connections"):
                async with shop.connect("/echo"):
                    pass
        async with shop.connect("/echo") as client:
            await client.send("room")
            assert client.received == ["room"]


async def test_the_silent_are_pinged_and_the_dead_let_go() -> None:
    """A client that answers pings stays; one that does not is dropped."""
    async with TestShop(small(SocketLimits(heartbeat=10))) as shop, shop.connect("/echo") as alive:
        async with shop.connect("/echo") as dead:
            dead.is_deaf = True
            for _ in range(3):
                await shop.advance(10)
            assert dead.close_code == 1006
        assert alive.close_code is None


async def test_one_connection_is_found_by_its_name() -> None:
    """`Sockets.send` reaches a connection from a route, and nobody when it is gone."""
    service, names = Service("one", public=True), list[str]()

    async def come(socket: Socket) -> None:
        names.append(socket.id)
        assert socket.query == {"a": "1"}

    @service.socket("/one", connect=come)
    async def hear(message: bytes) -> None: ...

    @service.post("/tell")
    async def tell(sockets: Sockets) -> None:
        sockets.send(names[0], b"\x00\x01")

    async with TestShop(service) as shop:
        async with shop.connect("/one?a=1") as client:
            assert (await shop.post("/tell")).status_code == 200
            assert client.received == [b"\x00\x01"]
        assert (await shop.post("/tell")).status_code == 200


async def test_a_large_group_hears_broadcasts_in_order() -> None:
    """More members than are written to at once get all, in order."""
    service = Service("many", public=True)

    async def come(socket: Socket) -> None:
        socket.join("all")

    @service.socket("/many", connect=come)
    async def hear(message: int, socket: Socket) -> None:
        for number in range(message):
            socket.broadcast("all", number)

    async with TestShop(service) as shop:
        clients = [await shop.connect("/many").__aenter__() for _ in range(450)]
        await clients[0].send(5)
        assert all(client.received == [0, 1, 2, 3, 4] for client in clients)


def test_mistakes_of_a_declaration_are_told_together() -> None:
    """Each thing that cannot work is said, before anything is opened."""
    wrong = Service("wrong", public=True)
    inner = Router(prefix="/x")

    async def come(text: str) -> None: ...

    @inner.socket("/{room}", connect=come, rules=[ETags()], limits=3, subprotocols=["a b"], sends=[Strange])  # type: ignore[arg-type]
    async def talk(message: Say, other: Say) -> None: ...

    @wrong.socket("/{room}", limit=[])  # type: ignore[call-arg]
    async def hush(message: Say, caller: Caller) -> None: ...

    wrong.include(inner)
    with pytest.raises(ConfigurationError) as caught:
        bind(wrong)
    text = str(caught.value)
    for part in (
        "asks for Caller, and nothing finds out who calls",
        "has an unknown option 'limit'. Did you mean 'limits'?",
        "has {room} in its path, and no parameter of that name",
        "has these parameters for it: 'message', 'other'",
        "wrong.come, which asks for 'text'",
        "has ETags() among its rules=, which is for requests. Drop it; a socket takes Limit, BodyLimit",
        "has limits=3",
        "Strange'> among its sends=",
        "has the subprotocol 'a b'",
    ):
        assert part in text, (part, text)


def test_sockets_are_asked_for_where_there_are_some() -> None:
    """A service without a socket has no connections to broadcast to."""
    service = Service("none")

    @service.on(Shout)
    async def shout(event: Shout, sockets: Sockets) -> None: ...

    with pytest.raises(ConfigurationError, match="asks for Sockets, and 'none' takes no WebSockets"):
        bind(service)


@pytest.mark.parametrize("name", ["rate", "burst", "buffer", "heartbeat", "connections"])
def test_a_limit_is_more_than_nothing(name: str) -> None:
    """No limit may be zero."""
    with pytest.raises(ConfigurationError, match=f"SocketLimits\\({name}=0\\)"):
        SocketLimits(**{name: 0})
