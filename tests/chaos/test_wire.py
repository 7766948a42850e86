"""The gates of the chaos run do to a connection what they say, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.chaos.wire import Gate

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable

    Connect = Callable[[], Awaitable["Client"]]

DEADLINE = 5.0
NOTHING = 0.1  # in which something would have come


class Server:
    """Answers each line with itself in capitals, and keeps what it has heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.ends = 0
        self.port = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One connection, to its end."""
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line.upper())
        self.ends += 1
        writer.close()


class Client(NamedTuple):
    """One connection through the gate."""

    reader: StreamReader
    writer: StreamWriter

    def say(self, text: str) -> None:
        """Sends a line."""
        self.writer.write(f"{text}\n".encode())

    async def hear(self) -> str:
        """The next line; empty when the connection has ended, however."""
        with suppress(ConnectionError):
            return (await asyncio.wait_for(self.reader.readline(), DEADLINE)).decode().strip()
        return ""

    async def hears_nothing(self) -> bool:
        """Whether nothing comes, not even an end."""
        try:
            await asyncio.wait_for(self.reader.read(1), NOTHING)
        except TimeoutError:
            return True
        return False


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a free port."""
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


@pytest.fixture
async def gate(server: Server) -> AsyncIterator[Gate]:
    """A gate before it."""
    gate = Gate(server.port, lambda: "me")
    await gate.open()
    yield gate
    gate.close()


@pytest.fixture
async def connect(gate: Gate) -> AsyncIterator[Connect]:
    """Opens connections through the gate."""
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", gate.port)))
        clients[-1].say("hello")
        return clients[-1]

    yield connect
    for client in clients:
        client.writer.close()
        with suppress(ConnectionError):
            await client.writer.wait_closed()


async def connected(connect: Connect) -> Client:
    """A client whose connection stands."""
    client = await connect()
    assert await client.hear() == "HELLO"
    return client


async def until_heard(server: Server, line: bytes) -> None:
    """Waits until the server has heard a line."""
    async with asyncio.timeout(DEADLINE):
        while line not in server.heard:  # noqa: ASYNC110  # a list tells no event
            await asyncio.sleep(0.001)


async def test_a_shut_gate_ends_connections_and_takes_none(gate: Gate, connect: Connect) -> None:
    """A cut ends what is there and refuses what comes, until it heals."""
    client = await connected(connect)
    gate.shut()
    assert await client.hear() == ""
    assert await (await connect()).hear() == ""
    gate.heal(is_reset=False)
    await connected(connect)


@pytest.mark.parametrize("held", ["up", "down", "up and down"])
async def test_what_is_held_comes_later(gate: Gate, server: Server, connect: Connect, held: str) -> None:
    """Silence keeps bytes from one side or both; after it they come, in order."""
    client = await connected(connect)
    is_up = "up" in held
    gate.hold(up=is_up, down="down" in held)
    client.say("one")
    client.say("two")
    if not is_up:
        await until_heard(server, b"two\n")
    assert await client.hears_nothing()
    assert (b"one\n" in server.heard) is not is_up
    gate.heal(is_reset=False)
    assert [await client.hear(), await client.hear()] == ["ONE", "TWO"]


async def test_nobody_is_told_of_an_end_in_the_silence(gate: Gate, server: Server, connect: Connect) -> None:
    """What a client sent before its end arrives after the silence, and then the end."""
    client = await connected(connect)
    gate.hold(up=True, down=True)
    client.say("last")
    client.writer.close()
    await client.writer.wait_closed()
    assert not server.ends
    gate.heal(is_reset=False)
    await until_heard(server, b"last\n")
    async with asyncio.timeout(DEADLINE):
        while not server.ends:  # noqa: ASYNC110  # a number tells no event
            await asyncio.sleep(0.001)


async def test_a_reset_loses_what_was_held(gate: Gate, server: Server, connect: Connect) -> None:
    """Silence that ends with the connections never gives what it held."""
    client = await connected(connect)
    gate.hold(up=True, down=True)
    client.say("lost")
    assert await client.hears_nothing()
    gate.heal(is_reset=True)
    assert await client.hear() == ""
    await connected(connect)
    assert b"lost\n" not in server.heard


async def test_a_forgotten_connection_stays_silent(gate: Gate, server: Server, connect: Connect) -> None:
    """Old connections are never answered again nor ended for the client, and new ones are as ever."""
    client = await connected(connect)
    gate.forget()
    client.say("lost")
    await connected(connect)
    assert await client.hears_nothing()
    gate.heal(is_reset=False)
    assert await client.hears_nothing()
    assert b"lost\n" not in server.heard


async def test_a_slow_line_keeps_the_order(gate: Gate, connect: Connect) -> None:
    """Everything comes later, and as it was sent."""
    client = await connected(connect)
    gate.slow(NOTHING)
    client.say("one")
    assert await client.hears_nothing()
    client.say("two")
    assert [await client.hear(), await client.hear()] == ["ONE", "TWO"]
    gate.heal(is_reset=False)
    client.say("three")
    assert await client.hear() == "THREE"
