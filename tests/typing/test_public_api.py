"""What type checkers say of a service: checked by mypy and pyright, and run as an ordinary test."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, assert_type

import msgspec

from torpor import (
    Ask,
    Cursor,
    Depends,
    Event,
    Idempotent,
    Keyset,
    Match,
    Message,
    MustMatch,
    Page,
    Park,
    PayloadCodec,
    Raw,
    Request,
    Retry,
    Router,
    Service,
    StepKey,
    Transactions,
    Tx,
    Versioned,
    event,
    new_id,
)


class Placed(Event, topic="placed", key="id"):
    id: str


class Paid(Event, topic="paid"):
    id: str


def newer(old: dict[str, Any]) -> dict[str, Any]:
    return old


class Photo(Event, topic="photos", version=2, upcasts={1: newer}, codec=Raw()):
    data: bytes


@event(topic="ticks", key="symbol")
class Tick(msgspec.Struct):
    symbol: str


codec: PayloadCodec = Raw("image/png")
service = Service("typed", migrations=None)
router = Router(prefix="/x", tags=["x"])


@service.lifespan
async def client() -> AsyncIterator[int]:
    yield 1


@service.on(Placed, retry=Retry(attempts=2, on=[ValueError]))
async def handle(event: Placed, tx: Tx, client: Annotated[int, Depends(client)]) -> Paid | Park | None:
    assert_type(event.id, str)
    assert_type(client, int)
    assert_type(tx.message, Message | None)
    assert_type(await tx.execute("UPDATE x SET y = $1", 1), int)
    assert_type(tx.step_key, StepKey)
    assert_type(tx.step_key("x"), str)
    assert_type(await tx.fetch("SELECT 1"), list[dict[str, Any]])
    assert_type(await tx.fetch_one("SELECT 1"), dict[str, Any] | None)
    tx.publish(Paid(id=event.id))
    return None


@service.on(Tick, publishes=[Photo, Tick])
async def watch(event: Tick, tx: Tx) -> Tick | None:
    assert_type(event.symbol, str)
    tx.publish(Photo(data=b""), key=event.symbol)
    return Tick("x")


class GetPrice(Request[int | None], topic="prices"):
    sku: str


class Ring(Request[None], topic="bells", version=2, upcasts={1: newer}):
    pass


class Seen(Event, topic="seen", durable=False):
    id: str


@service.answer(GetPrice)
async def price(request: GetPrice, tx: Tx) -> int | None:
    tx.publish(Seen(id=request.sku))
    return None


@router.answer(Ring, concurrency=4, name="ring", publishes=[Seen])
async def ring(request: Ring) -> None: ...


@service.on(Seen)
async def look(event: Seen, ask: Ask) -> None:
    assert_type(await ask(GetPrice(sku=event.id)), int | None)
    assert_type(await ask(Ring(), timeout=1), None)


@router.get("/{id}", status_code=200)
async def show(id: str, transactions: Transactions) -> str:
    async with transactions() as tx:
        assert_type(tx, Tx)
    return id


@router.post("/{id}", idempotency=Idempotent(required=True, keep=60))
async def make(id: str, tx: Tx, step_key: StepKey) -> str:
    assert_type(step_key("x"), str)
    return id


BY_ID = Keyset({"-id": str}, limit=10, most=50)


@router.get("/list")
async def browse(cursor: Annotated[Cursor, BY_ID], match: Match, tx: Tx) -> Page[Placed]:
    rows = await cursor.fetch(tx, "SELECT id FROM placed")
    assert_type(rows, list[dict[str, Any]])
    assert_type(cursor.page(rows), Page[dict[str, Any]])
    assert_type(cursor.page(rows, Placed.model_validate).items, list[Placed])
    assert_type(cursor.page(rows).next, str | None)
    match.require("1")
    return cursor.page(rows, Placed.model_validate)


versioned = Router(rules=[Versioned("2026-01-31", default=True), MustMatch()])


def test_decorators_keep_the_type_of_a_handler() -> None:
    """A decorated handler has the type it was written with, so that a test calls it as it is."""
    expected: Callable[[str, Transactions], Coroutine[Any, Any, str]] = show
    assert expected is show
    answers: Callable[[GetPrice, Tx], Coroutine[Any, Any, int | None]] = price
    assert answers is price
    assert_type(new_id(), str)
    assert_type(Placed(id="1").id, str)
