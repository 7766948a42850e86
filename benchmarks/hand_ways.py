"""The work by hand: what an expert would write for this alone, on nats-py and asyncpg.

Messages go to connections by their key, which keeps the order of a key and keeps transactions from deadlocks.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from zlib import crc32

from benchmarks.work import SET_WISE, STREAM, TOPIC, UPDATE, Booked, Paid, Place, make_tables
from torpor import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

ENTER = "INSERT INTO inbox (id) VALUES ($1) ON CONFLICT DO NOTHING"
APPEND = "INSERT INTO outbox (id, topic, key, payload) VALUES ($1, $2, $3, $4)"
ENTER_ALL = "INSERT INTO inbox (id) SELECT unnest($1::text []) ON CONFLICT DO NOTHING RETURNING id"
APPEND_ALL = """
INSERT INTO outbox (id, topic, key, payload)
SELECT one.id, 'hand.booked', one.key, one.payload
FROM unnest($1::text [], $2::text [], $3::bytea []) AS one (id, key, payload)
"""
TAKE = """
DELETE FROM outbox WHERE pos IN (SELECT pos FROM outbox ORDER BY pos LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING pos, id, payload
"""
_WINDOW = 2000
_PATIENCE = 0.1  # seconds for a task to end


async def effects(place: Place, *, connections: int, group: int, bulk: str = "none", relayed: bool = False) -> float:
    """Messages a second: transactions of so many messages over so many connections.

    `bulk` says what is one statement for a whole transaction: `none`, `tables` (inbox and outbox) or `all`."""
    import asyncpg

    await make_tables(place.dsn, are_own=True)
    pool = [await asyncpg.connect(place.dsn) for _ in range(connections)]
    transact = {"none": _one_by_one, "tables": _grouped, "all": _set_wise}[bulk]
    async with _client(place.nats) as client, _relaying(place, client, is_on=relayed):
        queues: list[asyncio.Queue[tuple[Paid, Any]]] = [asyncio.Queue() for _ in pool]
        tasks = [asyncio.create_task(_fetch(client, place, queues, group))]
        for connection, queue in zip(pool, queues, strict=True):
            tasks.append(asyncio.create_task(_work(connection, queue, group, transact, place, is_last=not relayed)))
        finished = asyncio.create_task(place.meter.finished())
        await asyncio.wait([finished, *tasks], return_when=asyncio.FIRST_COMPLETED)
        rate = place.meter.rate()
        await _ended([finished, *tasks])
    for connection in pool:
        await connection.close()
    return rate


async def make_stream(url: str) -> None:
    """The stream that the relays by hand and of the peers publish to."""
    async with _client(url) as client:
        await client.jetstream().add_stream(name="hand_booked", subjects=["hand.booked"])


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Any]:
    import nats

    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def _fetch(client: Any, place: Place, queues: list[asyncio.Queue[tuple[Paid, Any]]], group: int) -> None:
    """Keeps some groups ahead of the connections."""
    from nats.errors import TimeoutError as NatsTimeoutError

    stream = client.jetstream()
    subscription = await stream.pull_subscribe(TOPIC, durable=f"hand-{new_id()[-6:]}", stream=STREAM)
    group = max(group, 100)
    ahead = 8 * group
    while True:
        if sum(queue.qsize() for queue in queues) >= ahead:
            await asyncio.sleep(0.0005)
            continue
        try:
            messages = await subscription.fetch(group, timeout=5)
        except NatsTimeoutError:
            continue
        place.meter.first()
        for message in messages:
            event = Paid.model_validate_json(message.data)
            queues[crc32(event.account.encode()) % len(queues)].put_nowait((event, message))


async def _work(  # one loop, told flatly
    connection: Any,
    queue: asyncio.Queue[tuple[Paid, Any]],
    group: int,
    transact: Callable[[Any, list[tuple[Paid, Any]]], Awaitable[None]],
    place: Place,
    *,
    is_last: bool,
) -> None:
    """Takes what waits for a connection, up to a group: a transaction, then the acknowledgements."""
    while True:
        batch = [await queue.get()]
        while len(batch) < group and not queue.empty():
            batch.append(queue.get_nowait())
        await transact(connection, batch)
        for _, message in batch:
            await message.ack()
        if is_last:
            place.meter.add(len(batch))


async def _one_by_one(connection: Any, batch: list[tuple[Paid, Any]]) -> None:
    """Each message's statements, one after the other."""
    await connection.execute("BEGIN")
    for event, message in batch:
        if await connection.execute(ENTER, message.headers["ce-id"]) == "INSERT 0 0":
            continue
        await connection.execute(UPDATE, event.cents, event.account)
        booked = Booked(account=event.account, cents=event.cents).model_dump_json().encode()
        await connection.execute(APPEND, new_id(), "hand.booked", event.account, booked)
    await connection.execute("COMMIT")


async def _grouped(connection: Any, batch: list[tuple[Paid, Any]]) -> None:
    """Inbox and outbox in one statement each, the UPDATE of each message awaited."""
    await connection.execute("BEGIN")
    events = await _entered(connection, batch)
    for event in events:
        await connection.execute(UPDATE, event.cents, event.account)
    await _append(connection, events)
    await connection.execute("COMMIT")


async def _set_wise(connection: Any, batch: list[tuple[Paid, Any]]) -> None:
    """One statement for each step of all messages."""
    await connection.execute("BEGIN")
    events = await _entered(connection, batch)
    await connection.execute(SET_WISE, [event.account for event in events], [event.cents for event in events])
    await _append(connection, events)
    await connection.execute("COMMIT")


async def _entered(connection: Any, batch: list[tuple[Paid, Any]]) -> list[Paid]:
    """The events that are new to the inbox."""
    rows = await connection.fetch(ENTER_ALL, [message.headers["ce-id"] for _, message in batch])
    fresh = {row[0] for row in rows}
    return [event for event, message in batch if message.headers["ce-id"] in fresh]


async def _append(connection: Any, events: list[Paid]) -> None:
    booked = [Booked(account=event.account, cents=event.cents).model_dump_json().encode() for event in events]
    await connection.execute(APPEND_ALL, [new_id() for _ in events], [event.account for event in events], booked)


@asynccontextmanager
async def _relaying(place: Place, client: Any, *, is_on: bool) -> AsyncIterator[None]:
    """A relay in the same process, as it is usually written: take, publish, commit."""
    task = asyncio.create_task(relay(place, client)) if is_on else None
    try:
        yield
    finally:
        if task is not None:
            await _ended([task])


async def relay(place: Place, client: Any) -> None:
    """Takes rows out of the outbox in their order and publishes them in a window, until it is cancelled."""
    import asyncpg

    connection = await asyncpg.connect(place.dsn)
    stream = client.jetstream(publish_async_max_pending=_WINDOW)
    try:
        while True:
            await connection.execute("BEGIN")
            rows = sorted(await connection.fetch(TAKE))
            sent = [
                await stream.publish_async("hand.booked", row["payload"], headers={"Nats-Msg-Id": row["id"]})
                for row in rows
            ]
            await asyncio.gather(*sent)
            await connection.execute("COMMIT")
            place.meter.add(len(rows))
            if not rows:
                await asyncio.sleep(0.005)
    finally:
        connection.terminate()


async def _ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Ends tasks; raises what one of them has died of."""
    left = set(tasks)
    while left:  # a fetch of nats-py may swallow a cancellation
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_PATIENCE)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
