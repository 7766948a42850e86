"""What type checkers say of a service: checked by mypy and pyright, and run as an ordinary test."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, assert_type

from torpor import Depends, Event, Message, Park, Retry, Router, Service, Transactions, Tx, new_id


class Placed(Event, topic="placed", key="id"):
    id: str


class Paid(Event, topic="paid"):
    id: str


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
    assert_type(await tx.fetch("SELECT 1"), list[dict[str, Any]])
    assert_type(await tx.fetch_one("SELECT 1"), dict[str, Any] | None)
    tx.publish(Paid(id=event.id))
    return None


@router.get("/{id}", status_code=200)
async def show(id: str, transactions: Transactions) -> str:
    async with transactions() as tx:
        assert_type(tx, Tx)
    return id


def test_decorators_keep_the_type_of_a_handler() -> None:
    """A decorated handler has the type it was written with, so that a test calls it as it is."""
    expected: Callable[[str, Transactions], Coroutine[Any, Any, str]] = show
    assert expected is show
    assert_type(new_id(), str)
    assert_type(Placed(id="1").id, str)
