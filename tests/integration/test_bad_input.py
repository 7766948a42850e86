"""Input that is too long, or no text, on real servers: a clear error, nothing lost, and the others go on."""

from __future__ import annotations

import asyncio
import random
import string
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.integration.postgres_server import PASSWORD
from tests.integration.trouble import Ledger, running, until
from torpor.adapters.postgres.options import PostgresOptions
from torpor.adapters.postgres.store import PostgresStore
from torpor.adapters.sqlite.store import SqliteStore
from torpor.kernel.parked import ParkedQuery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from torpor import Tx
    from torpor.adapters.nats.embedded import EmbeddedNats

MEGABYTE = 1024 * 1024
NUL = "a\x00b"
LONG = "".join(random.Random(7).choices(string.printable, k=20_000))  # no index's row holds it, compressed or not


@pytest.fixture(params=["sqlite", "postgres"])
async def ledger(request: pytest.FixtureRequest, nats_server: EmbeddedNats, tmp_path: Path) -> AsyncIterator[Ledger]:
    """The service on NATS and each database."""
    if request.param == "sqlite":
        ledger = Ledger(nats_server.url, lambda clock: SqliteStore(str(tmp_path / "ledger.db"), clock), tmp_path)
    else:
        url = request.getfixturevalue("postgres").url()
        schema = PostgresOptions(schema=f"s{id(tmp_path)}")
        ledger = Ledger(nats_server.url, lambda clock: PostgresStore(url, clock, schema), tmp_path)
    async with running(ledger):
        yield ledger
    assert not any(PASSWORD in line for line in ledger.log)


async def test_an_event_over_the_broker_s_limit_is_parked(ledger: Ledger) -> None:
    """The relay parks it with both sizes; its key waits in order, other keys go on."""
    assert await ledger.ask("large", text="x" * (MEGABYTE - 200)) == 202
    assert await ledger.ask("behind") == 202
    assert await ledger.ask("free", "bob") == 202

    await until(lambda: _told(ledger, 1))
    rows = await ledger.parked()
    assert [(row.binding, row.state) for row in rows] == [("outbox", "parked"), ("outbox", "waiting")]
    assert "takes at most" in rows[0].reason
    assert ledger.host.is_ready

    await ledger.store.parking.edit(
        rows[0].number, b'{"id": "large", "owner": "ada"}', attributes=rows[0].message.attributes, at=1.0
    )
    await ledger.store.parking.redrive(ParkedQuery(binding="outbox"), 1.0)
    await ledger.settled()


async def test_a_request_over_the_limit_is_refused(ledger: Ledger) -> None:
    """The route answers 413 before it reads on, and nothing of it is there."""
    assert await ledger.ask("large", text="x" * 2 * MEGABYTE) == 413
    assert await ledger.ask("small") == 202
    await ledger.settled()


async def test_a_long_key_is_a_key(ledger: Ledger) -> None:
    """One that no index can hold keeps the order of its messages, blocks, and is found by the operator."""
    seen: list[str] = []
    mended = asyncio.Event()

    async def fail_at_first(event: Any, tx: Tx) -> None:
        if event.id == "1" and not mended.is_set():
            raise LookupError("not yet")
        seen.append(event.id)

    ledger.between = fail_at_first
    for id in "123":
        assert await ledger.ask(id, LONG) == 202
    assert await ledger.ask("4", LONG[:-1]) == 202

    await until(lambda: _parked(ledger, 3))
    await until(lambda: seen == ["4"])
    mended.set()
    rows = await ledger.store.parking.list(ParkedQuery(key=LONG))
    assert [row.state for row in rows] == ["parked", "waiting", "waiting"]
    found = await ledger.store.parking.inspect(rows[2].number)
    assert found is not None
    assert found.first == rows[0].number
    await ledger.store.parking.redrive(ParkedQuery(key=LONG), 1.0)
    await ledger.settled()
    assert seen == ["4", "1", "2", "3"]


async def test_a_key_over_the_broker_s_limit_is_parked(ledger: Ledger) -> None:
    """NATS takes no headers of 100 kB: the relay parks the event, and others go on."""
    assert await ledger.ask("large", LONG * 5) == 202
    assert await ledger.ask("free", "bob") == 202
    await until(lambda: _told(ledger, 1))
    await until(lambda: _parked(ledger, 1))
    (row,) = await ledger.parked()
    assert (row.binding, row.message.key) == ("outbox", LONG * 5)
    assert (await ledger.store.parking.list(ParkedQuery(key=LONG * 5)))[0].number == row.number
    assert ledger.host.is_ready


async def test_a_long_id_is_known_again(ledger: Ledger) -> None:
    """A message whose id no index can hold is handled once, however often it comes."""
    for more in ({}, {}, {"key": "k"}):
        await ledger.publish(ledger.message(b'{"id": "1", "owner": "ada"}', id=LONG.replace("\r", ""), **more))
    await ledger.publish(ledger.message(b'{"id": "2", "owner": "ada"}'))
    await until(lambda: _entered(ledger, ["1", "2"]), lambda: ledger.log)


async def test_a_nul_in_a_handler_s_own_parameter(ledger: Ledger) -> None:
    """SQLite stores it; PostgreSQL has no such character: the handler fails, is parked, and says so."""
    is_stored = isinstance(ledger.store, SqliteStore)
    assert await ledger.ask("odd", text=NUL) == 202
    assert await ledger.ask("plain", "bob") == 202
    await ledger.settled(parked=0 if is_stored else 1)
    for row in await ledger.parked():
        assert "StatementFailed" in row.reason
        assert "0x00" in row.reason
        assert "UPDATE entry" in row.reason
        assert row.message.data.count(b"\\u0000") == 1


async def test_a_nul_in_an_envelope(ledger: Ledger) -> None:
    """In key, type, id and attributes: parked whole, found again, and handled once it is redriven."""
    attributes = {"source": NUL, "subject": "\x00\x1a"}
    whole = ledger.message(b"no json \x00\xff", key=NUL, id=f"{NUL}{ledger.topic}", attributes=attributes)
    await ledger.publish(whole)
    await until(lambda: _parked(ledger, 1), lambda: ledger.log)

    (row,) = await ledger.store.parking.list(ParkedQuery(key=NUL))
    assert (row.message.data, row.message.key, row.message.id) == (whole.data, whole.key, whole.id)
    assert {name: row.message.attributes[name] for name in attributes} == attributes
    data = b'{"id": "1", "owner": "ada"}'
    await ledger.store.parking.edit(row.number, data, attributes=row.message.attributes, at=1.0)
    await ledger.store.parking.redrive(ParkedQuery(key=NUL), 1.0)
    await until(lambda: _entered(ledger, ["1"]), lambda: ledger.log)


async def test_a_nul_and_a_surrogate_in_a_reason(ledger: Ledger) -> None:
    """What a handler says of its failure is stored, whatever it holds."""

    async def fail(event: Any, tx: Tx) -> None:
        raise ValueError(f"{NUL} \ud800 {'long ' * 10_000}")

    ledger.between = fail
    assert await ledger.ask("1") == 202
    await ledger.settled(parked=1)
    (row,) = await ledger.parked()
    assert row.reason.startswith(f"ValueError: {NUL}")
    assert len(row.reason) < 2100


async def test_bytes_that_are_no_text(ledger: Ledger) -> None:
    """A payload that is no UTF-8 is parked with its bytes; what comes after it is handled."""
    await ledger.publish(ledger.message(b'{"id": "\xff", "owner": "ada"}', id="bytes"))
    await ledger.publish(ledger.message(b'{"id": "\\ud800", "owner": "ada"}', id="surrogate"))
    await ledger.publish(ledger.message(b'{"id": "1", "owner": "ada"}'))
    await until(lambda: _entered(ledger, ["1"]), lambda: ledger.log)
    await until(lambda: _parked(ledger, 2), lambda: ledger.log)
    assert {row.message.id: row.message.data for row in await ledger.parked()} == {
        "bytes": b'{"id": "\xff", "owner": "ada"}',
        "surrogate": b'{"id": "\\ud800", "owner": "ada"}',
    }


async def test_headers_that_are_no_text(ledger: Ledger, nats_server: EmbeddedNats) -> None:
    """Whatever stands in the headers of a foreign message, it is parked or handled, and the next one is handled."""
    for headers in (
        b"ce-id: \xff\xfe\r\nce-type: x\r\n",
        b"ce-specversion: 1.0\r\nce-id: %ff%00\r\n",
        b": \r\n",
        b"x\r\n",
    ):
        await _send(nats_server, f"{ledger.topic}.asked", b"NATS/1.0\r\n" + headers + b"\r\n", b"{}")
    await ledger.publish(ledger.message(b'{"id": "1", "owner": "ada"}'))
    await until(lambda: _entered(ledger, ["1"]), lambda: ledger.log)
    await until(lambda: _parked(ledger, 4), lambda: (ledger.log, ledger.host.status()))
    assert {row.message.data for row in await ledger.parked()} == {b"{}"}
    assert ledger.host.is_ready


async def test_requests_that_are_no_text(ledger: Ledger) -> None:
    """The client is told that it is wrong; nothing is accepted, and the next request is."""
    odd = [
        b'{"id": "\xff", "owner": "ada"}',
        b"\xff\xfe",
        b"{",
        b"",
        b"null",
    ]
    for content in odd:
        answer = await ledger.client.post("/ask", content=content, headers={"content-type": "application/json"})
        assert 400 <= answer.status_code < 500, content
    lone = await ledger.client.post("/ask", content=b'{"id": "\\ud800", "owner": "a"}')
    assert 400 <= lone.status_code < 500
    assert (await ledger.client.get("/%00%ff")).status_code == 404
    assert await ledger.ask("1") == 202
    await ledger.settled()


async def _told(ledger: Ledger, count: int) -> bool:
    return len(await ledger.ids("told")) == count


async def _entered(ledger: Ledger, ids: list[str]) -> bool:
    return await ledger.ids("entry") == ids


async def _parked(ledger: Ledger, count: int) -> bool:
    return len(await ledger.parked()) == count


async def _send(server: EmbeddedNats, subject: str, headers: bytes, data: bytes) -> None:
    """Publishes bytes as they are, past any client."""
    parts = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    await reader.readline()
    size = len(headers)
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(f"HPUB {subject} {size} {size + len(data)}\r\n".encode() + headers + data + b"\r\nPING\r\n")
    await writer.drain()
    assert (await reader.readline()).strip() == b"PONG"
    writer.close()
    await writer.wait_closed()
