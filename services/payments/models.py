"""Accounts and payments."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlmodel import Field, SQLModel

from shop_events import Cents


class Account(SQLModel, table=True):
    """A customer's money: what is left, and what orders have taken."""

    __tablename__ = "account"

    customer_id: str = Field(primary_key=True)
    balance_cents: int
    taken_cents: int = 0

    def take(self, cents: int) -> None:
        """Moves money from the balance to what is taken; a negative amount gives it back."""
        self.balance_cents -= cents
        self.taken_cents += cents


class Payment(SQLModel, table=True):
    """What came of charging one order."""

    __tablename__ = "payment"

    order_id: str = Field(primary_key=True)
    customer_id: str
    amount_cents: int
    status: str


class Balance(BaseModel):
    """The body of `PUT /payments/accounts/{customer_id}`."""

    balance_cents: Cents


class AccountView(BaseModel):
    """An account as it is shown."""

    model_config = ConfigDict(from_attributes=True)

    customer_id: str
    balance_cents: int
    taken_cents: int
