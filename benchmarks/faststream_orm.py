"""The per-message way of FastStream with SQLAlchemy's ORM, as its users write it.

A session by `Depends` for each message, the inbox row looked up and added, the account loaded and locked, an attribute
changed, the outbox row added, and a commit. What is leaner, the same work as three Core statements through a session,
stands in `faststream_ways`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from benchmarks.work import Booked, Paid, Place
from torpor import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession


def handler(place: Place, engine: AsyncEngine, *, relayed: bool) -> Callable[..., Awaitable[None]]:
    """The subscriber's function."""
    from faststream import Depends
    from faststream.nats.annotations import NatsMessage
    from sqlalchemy.ext.asyncio import async_sessionmaker

    account_type, inbox_type, outbox_type = _models()
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def opened() -> AsyncIterator[AsyncSession]:
        async with sessions() as session:
            yield session

    async def book(event: Paid, message: Any, session: Any) -> None:
        place.meter.first()
        id = message.headers["ce-id"]
        if await session.get(inbox_type, id) is None:
            session.add(inbox_type(id=id))
            account = await session.get(account_type, event.account, with_for_update=True)
            account.cents += event.cents
            payload = Booked(account=event.account, cents=event.cents).model_dump_json().encode()
            session.add(outbox_type(id=new_id(), topic="hand.booked", key=event.account, payload=payload))
            await session.commit()
        if not relayed:
            place.meter.add(1)

    # Imported late, so not to be found by name.
    book.__annotations__ = {"event": Paid, "message": NatsMessage, "session": Annotated[Any, Depends(opened)]}
    return book


def _models() -> tuple[Any, Any, Any]:
    from sqlalchemy import BigInteger, LargeBinary, Text
    from sqlalchemy.orm import DeclarativeBase, mapped_column

    class Model(DeclarativeBase):
        """The tables of one run."""

    class Account(Model):
        """What is paid for."""

        __tablename__ = "account"
        id = mapped_column(Text, primary_key=True)
        cents = mapped_column(BigInteger)

    class Inbox(Model):
        """A message that was handled."""

        __tablename__ = "inbox"
        id = mapped_column(Text, primary_key=True)

    class Outbox(Model):
        """An event to publish."""

        __tablename__ = "outbox"
        pos = mapped_column(BigInteger, primary_key=True)
        id = mapped_column(Text)
        topic = mapped_column(Text)
        key = mapped_column(Text)
        payload = mapped_column(LargeBinary)

    return Account, Inbox, Outbox
