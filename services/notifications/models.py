"""Notifications."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

Kind = Literal["placed", "shipped", "cancelled"]


class Notification(BaseModel):
    """One message to a customer."""

    order_id: str
    kind: Kind
    text: str
