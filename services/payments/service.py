"""The payments service: charges an order once its stock is reserved, and refunds it if it cannot be shipped."""

from __future__ import annotations

from payments.accounts import accounts
from payments.models import Account, Payment
from shop_events import PaymentRefunded, PaymentRefused, PaymentTaken, ShipmentRefused, StockReserved
from torpor import Retry, Service, Tx

payments = Service("payments", migrations="migrations", public=True)
payments.include(accounts)


@payments.on(StockReserved, retry=Retry(attempts=5))
async def charge(event: StockReserved, tx: Tx) -> PaymentTaken | PaymentRefused | None:
    """Takes the total from the customer's balance, or refuses and takes nothing."""
    if await tx.session.get(Payment, event.order_id):
        return None
    account = await tx.session.get(Account, event.customer_id, with_for_update=True)
    if account is None:
        return refuse(event, tx, f"customer {event.customer_id!r} has no account")
    if account.balance_cents < event.total_cents:
        return refuse(event, tx, f"balance too low: {event.total_cents} cents asked for, {account.balance_cents} there")
    account.take(event.total_cents)
    record(event, tx, "taken")
    return PaymentTaken(
        order_id=event.order_id, customer_id=event.customer_id, total_cents=event.total_cents, lines=event.lines
    )


@payments.on(ShipmentRefused, retry=Retry(attempts=5))
async def refund(event: ShipmentRefused, tx: Tx) -> PaymentRefunded | None:
    """Gives back exactly what was taken for the order."""
    payment = await tx.session.get(Payment, event.order_id, with_for_update=True)
    if payment is None or payment.status != "taken":
        return None
    account = await tx.session.get_one(Account, payment.customer_id, with_for_update=True)
    account.take(-payment.amount_cents)
    payment.status = "refunded"
    return PaymentRefunded(order_id=event.order_id, reason=event.reason)


def refuse(event: StockReserved, tx: Tx, reason: str) -> PaymentRefused:
    """Notes the refusal, so that the order is not charged later."""
    record(event, tx, "refused")
    return PaymentRefused(order_id=event.order_id, reason=reason)


def record(event: StockReserved, tx: Tx, status: str) -> None:
    """Notes what came of the charge."""
    tx.session.add(
        Payment(order_id=event.order_id, customer_id=event.customer_id, amount_cents=event.total_cents, status=status)
    )
