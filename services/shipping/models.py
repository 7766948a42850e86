"""Shipments."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class Shipment(BaseModel):
    """What became of a paid order at the carrier."""

    order_id: str
    customer_id: str
    units: int
    status: Literal["shipped", "refused"]
    reason: str | None
