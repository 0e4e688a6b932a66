"""``/health/circuit-breakers``: the breakers the apps share, as Redis has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.breakers import BreakerStatus
from regrow.web import facts
from regrow.web.access import DetailOnly
from regrow.web.answers import TheReader
from regrow.web.reading import Fact, Unknown

router = APIRouter(tags=["circuit breakers"])


@router.get(
    "/health/circuit-breakers",
    dependencies=[DetailOnly],
    responses={503: {"description": "Redis is away"}},
)
async def circuit_breakers(reader: TheReader) -> JSONResponse:
    """State and statistics of every breaker. An open breaker is news, not a failure of this endpoint."""
    breakers = await reader.read(facts.breakers)
    body = breakers_json(breakers)
    return JSONResponse(jsonable_encoder(body), 503 if isinstance(breakers, Unknown) else 200)


def breakers_json(breakers: Fact[Sequence[BreakerStatus]]) -> Any:
    """By name, or why nothing is known of them."""
    if isinstance(breakers, Unknown):
        return breakers.as_json()
    return {breaker.name: breaker.as_dict() for breaker in breakers.value}
