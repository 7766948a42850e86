"""Stock as it is set, kept and shown."""

from __future__ import annotations

from pydantic import BaseModel

from shop_events import Cents, Name, Units


class StockLevel(BaseModel):
    """The body of `PUT /inventory/{sku}`: what is for sale from now on. Reserved and shipped units stay as they are."""

    available: Units
    price_cents: Cents


class Stock(BaseModel):
    """A SKU in the warehouse."""

    sku: str
    available: int
    reserved: int
    shipped: int
    price_cents: int


class Holding(BaseModel):
    """What an order holds of one SKU, at the price of the moment when it was set aside."""

    sku: Name
    quantity: int
    price_cents: int


def total_of(holdings: list[Holding]) -> int:
    """What the holdings cost together, in cents."""
    return sum(holding.quantity * holding.price_cents for holding in holdings)
