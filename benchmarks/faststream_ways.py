"""The peers' per-message way: FastStream consumes, a SQLAlchemy session does the work, an outbox table takes the event.

With the ORM as in `faststream_orm`, or with three Core statements through the session, which is leaner than what teams
write. For the latter three outboxes: a table of one's own, that of `faststream-outbox`, and that of `python-cqrs` (it
has no consumer for NATS, so FastStream's stands before it too). Each acknowledges after its commit.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from benchmarks import faststream_orm, hand_ways
from benchmarks.servers import Unavailable
from benchmarks.work import STREAM, TOPIC, Booked, Paid, Place, make_tables
from torpor import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

    Append = Callable[[AsyncSession, Booked], Awaitable[None]]

AT_ONCE = (1, 4, 8, 16, 32)  # concurrency to choose the best from
OUTBOXES = ("orm", "table", "faststream-outbox", "python-cqrs")


async def effects(place: Place, outbox: str, at_once: int, *, relayed: bool = False) -> float:
    """Messages a second, until the last is acknowledged; with a relay, until the last event is confirmed."""
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, PullSub
    from nats.js.api import ConsumerConfig

    await make_tables(place.dsn, are_own=True)
    engine = _engine(place.dsn, at_once)
    if outbox == "orm":
        book = faststream_orm.handler(place, engine, relayed=relayed)
    else:
        book = _handler(place, engine, await _appender(outbox, engine), relayed=relayed)
    broker = NatsBroker(place.nats, logger=None)
    broker.subscriber(
        TOPIC,
        stream=JStream(STREAM, declare=False),
        durable=f"fast-{new_id()[-6:]}",
        pull_sub=PullSub(batch_size=100, timeout=0.2),
        config=ConsumerConfig(max_ack_pending=1000),
        max_workers=at_once,
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )(book)

    async with _relaying(place, outbox, engine, is_on=relayed):
        await broker.start()
        await place.meter.finished()
        rate = place.meter.rate()
        await broker.stop()
    await engine.dispose()
    return rate


def _handler(place: Place, engine: AsyncEngine, append: Append, *, relayed: bool) -> Callable[..., Awaitable[None]]:
    """The subscriber's function: Core statements through a session."""
    from faststream.nats.annotations import NatsMessage
    from sqlalchemy import column, table, update
    from sqlalchemy.dialects.postgresql import insert
    from sqlalchemy.ext.asyncio import async_sessionmaker

    sessions = async_sessionmaker(engine, expire_on_commit=False)
    account, inbox = table("account", column("id"), column("cents")), table("inbox", column("id"))

    async def book(event: Paid, message: Any) -> None:
        place.meter.first()
        async with sessions() as session, session.begin():
            entered = await session.execute(
                insert(inbox).values(id=message.headers["ce-id"]).on_conflict_do_nothing().returning(inbox.c.id)
            )
            if entered.first() is not None:
                paid = account.c.cents + event.cents
                await session.execute(update(account).where(account.c.id == event.account).values(cents=paid))
                await append(session, Booked(account=event.account, cents=event.cents))
        if not relayed:
            place.meter.add(1)

    book.__annotations__ = {"event": Paid, "message": NatsMessage}  # imported late, so not to be found by name
    return book


def _engine(dsn: str, size: int) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine

    place = dsn.replace("postgresql://", "postgresql+asyncpg://").partition("?")[0]
    return create_async_engine(place, pool_size=size + 4, max_overflow=0)


async def _appender(outbox: str, engine: AsyncEngine) -> Append:
    """What adds an event to an outbox in a session's transaction."""
    if outbox == "faststream-outbox":
        return await _faststream_appender(engine)
    if outbox == "python-cqrs":
        return await _cqrs_appender(engine)
    return _own_appender()


def _own_appender() -> Append:
    from sqlalchemy import BigInteger, LargeBinary, Text
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    class Model(DeclarativeBase):
        """The tables of one run."""

    class Outbox(Model):
        """An event to publish."""

        __tablename__ = "outbox"
        pos = mapped_column(BigInteger, primary_key=True)
        id = mapped_column(Text)
        topic = mapped_column(Text)
        key = mapped_column(Text)
        payload = mapped_column(LargeBinary)

    async def append(session: AsyncSession, event: Booked) -> None:
        payload = event.model_dump_json().encode()
        session.add(Outbox(id=new_id(), topic="hand.booked", key=event.account, payload=payload))

    return append


async def _faststream_appender(engine: AsyncEngine) -> Append:
    try:
        from faststream_outbox import OutboxBroker, make_outbox_table
    except ImportError as error:
        raise Unavailable("faststream-outbox is not installed") from error
    from sqlalchemy import MetaData

    metadata = MetaData()
    broker = OutboxBroker(engine, outbox_table=make_outbox_table(metadata, table_name="fast_outbox"), logger=None)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await broker.connect()

    async def append(session: AsyncSession, event: Booked) -> None:
        await broker.publish(event, queue="booked", session=session)

    return append


def _cqrs() -> Any:
    """The event class of python-cqrs, known to its outbox."""
    try:
        import cqrs
        from cqrs.outbox import sqlalchemy as outbox
    except ImportError as error:
        raise Unavailable("python-cqrs is not installed") from error
    logging.getLogger("cqrs").setLevel(logging.WARNING)  # it logs each message by default
    if cqrs.OutboxedEventMap.get("booked") is None:
        cqrs.OutboxedEventMap.register("booked", cqrs.NotificationEvent[dict])
    return cqrs, outbox


async def _cqrs_appender(engine: AsyncEngine) -> Append:
    cqrs, outbox = _cqrs()
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE outbox")  # our own; its has the same name
        await connection.run_sync(outbox.Base.metadata.create_all)

    async def append(session: AsyncSession, event: Booked) -> None:
        repository = outbox.SqlAlchemyOutboxedEventRepository(session)
        payload = {"account": event.account, "cents": event.cents}
        repository.add(cqrs.NotificationEvent[dict](event_name="booked", topic="hand.booked", payload=payload))

    return append


@asynccontextmanager
async def _relaying(place: Place, outbox: str, engine: AsyncEngine, *, is_on: bool) -> AsyncIterator[None]:
    """The relay of each outbox, in the same process."""
    if not is_on:
        yield
        return
    if outbox == "faststream-outbox":
        async with _faststream_relay(place, engine):
            yield
        return
    import nats

    client = await nats.connect(place.nats)
    task = asyncio.create_task(
        _cqrs_relay(place, client, engine) if outbox == "python-cqrs" else hand_ways.relay(place, client)
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await client.close()


@asynccontextmanager
async def _faststream_relay(place: Place, engine: AsyncEngine) -> AsyncIterator[None]:
    from faststream.nats import NatsBroker
    from faststream_outbox import OutboxBroker, make_outbox_table
    from sqlalchemy import MetaData

    broker = NatsBroker(place.nats, logger=None)
    outbox = OutboxBroker(engine, outbox_table=make_outbox_table(MetaData(), table_name="fast_outbox"), logger=None)

    async def relayed(body: dict) -> None:  # type: ignore[type-arg]  # as its documentation writes it
        await broker.publish(body, "hand.booked", stream="hand_booked")
        place.meter.add(1)

    outbox.subscriber(
        "booked",
        max_workers=16,
        fetch_batch_size=100,
        min_fetch_interval=0.01,
        terminal_flush_batch_size=100,
    )(relayed)
    await broker.start()
    await outbox.start()
    try:
        yield
    finally:
        await outbox.stop()
        await broker.stop()


async def _cqrs_relay(place: Place, client: Any, engine: AsyncEngine) -> None:
    """The loop of its documentation: a batch, each event sent and marked, commit."""
    from cqrs.message_brokers.producer import EventProducer
    from cqrs.message_brokers.protocol import MessageBroker
    from sqlalchemy.ext.asyncio import AsyncSession

    _, outbox = _cqrs()
    stream = client.jetstream()

    class Nats(MessageBroker):  # type: ignore[misc]  # it has no broker for NATS
        async def send_message(self, message: Any) -> None:
            await stream.publish(
                "hand.booked", message.payload_bytes or b"", headers={"Nats-Msg-Id": str(message.message_id)}
            )

    async with AsyncSession(engine) as session:
        repository = outbox.SqlAlchemyOutboxedEventRepository(session)
        producer = EventProducer(Nats(), repository)
        async for events in producer.event_batch_generator(100):
            for event in events:
                await producer.send_message(event)
            await repository.commit()
            place.meter.add(len(events))
            if not events:
                await asyncio.sleep(0.01)
