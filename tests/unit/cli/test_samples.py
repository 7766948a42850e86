"""Sample requests: a command that a user can paste."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from torpor import Service
from torpor.cli.samples import curl, sample
from torpor.runtime.binding import bind


class Item(BaseModel):
    """A part of a request."""

    sku: str = Field(min_length=6)
    quantity: int = Field(gt=2)
    note: str | None = None


class Request(BaseModel):
    """A request with parts."""

    customer: str
    kind: str = Field(examples=["gift"])
    items: list[Item]


def test_a_sample_fits_its_schema() -> None:
    """Bounds, lengths, examples and nested models are kept, so that the model takes it."""
    value: Any = sample(Request.model_json_schema())
    assert TypeAdapter(Request).validate_python(value).kind == "gift"
    assert value["items"][0]["quantity"] == 3


def test_a_command_carries_path_method_and_body() -> None:
    """Path parameters are filled, and a model becomes a JSON body."""
    service = Service("things")

    async def change(number: int, body: Item) -> None: ...

    service.put("/things/{number}")(change)
    [route] = bind(service).routes
    assert [parameter.kind for parameter in route.foreign] == [inspect.Parameter.POSITIONAL_OR_KEYWORD] * 2
    command = curl(route, "http://127.0.0.1:8000")
    assert command.startswith("curl -X PUT http://127.0.0.1:8000/things/1 -H 'content-type: application/json' -d '{")
