"""The answer to a request that does not fit its route."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastapi.encoders import jsonable_encoder
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.responses import Response

if TYPE_CHECKING:
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError

_TOLD = ("type", "loc", "msg")


async def refuse(request: Request, error: RequestValidationError) -> Response:
    """FastAPI's own 422, which repeats what was sent; without it where JSON cannot carry it (NaN, half a character)."""
    try:
        return await request_validation_exception_handler(request, error)
    except ValueError:
        mistakes = [{name: mistake[name] for name in _TOLD} for mistake in error.errors()]
        body = json.dumps({"detail": jsonable_encoder(mistakes)})  # in ASCII, so that any text can be told
        return Response(body, 422, media_type="application/json")
