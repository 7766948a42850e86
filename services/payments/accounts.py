"""The routes of the accounts."""

from __future__ import annotations

from fastapi import HTTPException

from payments.models import Account, AccountView, Balance
from shop_events import Name
from torpor import Router, Tx

accounts = Router(prefix="/payments/accounts", tags=["payments"])


@accounts.put("/{customer_id}")
async def put_account(customer_id: Name, balance: Balance, tx: Tx) -> AccountView:
    """Sets what the customer can spend from now on."""
    account = await tx.session.get(Account, customer_id, with_for_update=True)
    if account is None:
        account = Account(customer_id=customer_id, balance_cents=0)
        tx.session.add(account)
    account.balance_cents = balance.balance_cents
    return AccountView.model_validate(account)


@accounts.get("/{customer_id}", responses={404: {"description": "There is no such account."}})
async def show_account(customer_id: Name, tx: Tx) -> AccountView:
    """One account."""
    account = await tx.session.get(Account, customer_id)
    if account is None:
        raise HTTPException(404, f"There is no account {customer_id!r}. Open it: PUT /payments/accounts/{customer_id}.")
    return AccountView.model_validate(account)
