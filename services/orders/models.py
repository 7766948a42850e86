"""An order: as it is asked for, as it is kept, and as it is shown."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic import Field as Rule
from sqlalchemy import JSON
from sqlmodel import Field, SQLModel

from shop_events import Line, Name

Status = Literal["placed", "reserved", "paid", "shipped", "cancelled"]

_PROGRESS: dict[str, int] = {"placed": 0, "reserved": 1, "paid": 2, "shipped": 3, "cancelled": 3}


class Item(BaseModel):
    """A line of an order as its customer writes it."""

    sku: Name
    quantity: int = Rule(ge=1, le=1000)


class NewOrder(BaseModel):
    """The body of `POST /orders`."""

    customer_id: Name
    items: list[Item] = Rule(min_length=1, max_length=100)

    def lines(self) -> tuple[Line, ...]:
        """The items, with those of one SKU added up."""
        quantities: dict[str, int] = {}
        for item in self.items:
            quantities[item.sku] = quantities.get(item.sku, 0) + item.quantity
        return tuple(Line(sku=sku, quantity=quantity) for sku, quantity in quantities.items())


class Order(SQLModel, table=True):
    """One order, as far as this service has heard."""

    __tablename__ = "orders"

    id: str = Field(primary_key=True)
    customer_id: str
    status: str = "placed"
    total_cents: int = 0
    items: list[dict[str, Any]] = Field(sa_type=JSON)
    reason: str | None = None

    def advance(self, status: Status, total_cents: int | None = None) -> bool:
        """Moves forward, never back: news of different topics comes in any order. True when it moved."""
        if total_cents is not None:
            self.total_cents = total_cents
        if _PROGRESS[status] <= _PROGRESS[self.status]:
            return False
        self.status = status
        return True


class ListedSku(SQLModel, table=True):
    """A SKU that can be ordered."""

    __tablename__ = "catalogue"

    sku: str = Field(primary_key=True)


class Accepted(BaseModel):
    """The order is in the books; what becomes of it is told later."""

    id: str
    status: Status = "placed"


class OrderView(BaseModel):
    """An order as its customer sees it. The total is 0 until stock is reserved at the prices of that moment."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    customer_id: str
    status: Status
    total_cents: int
    items: list[Line]
    reason: str | None
