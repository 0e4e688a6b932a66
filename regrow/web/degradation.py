"""``/health/degradation`` and its switch: how much of the system is on, and a person's hand on that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.degradation import service
from regrow.degradation.service import Ordered
from regrow.errors import SettingsError, StoreUnavailableError
from regrow.web import facts
from regrow.web.access import ActOnly, DetailOnly, address_of
from regrow.web.answers import TheReader
from regrow.web.reading import Known, Reader, Unknown

router = APIRouter(tags=["degradation"])

Reason = Annotated[str, Query(min_length=1, max_length=1000)]
_AWAY: dict[int | str, dict[str, Any]] = {503: {"description": "the stores are away: nothing was done"}}


@router.get(
    "/health/degradation", dependencies=[DetailOnly], responses={503: {"description": "the level is unknown"}}
)
async def degradation(reader: TheReader) -> JSONResponse:
    """The level, what it follows from, what each level permits. 503 while nobody has confirmed it lately."""
    found = await reader.read(facts.level)
    if isinstance(found, Unknown):
        return JSONResponse(found.as_json(), 503)
    permits = service.policy_of(reader.engine).permits
    body = {**found.value.as_dict(), "permits": permits}
    return JSONResponse(jsonable_encoder(body), 200 if found.value.known else 503)


@router.post("/admin/reliability/degradation/set-level", dependencies=[ActOnly], responses=_AWAY)
async def set_level(
    request: Request,
    reader: TheReader,
    level: str,
    reason: Reason,
    seconds: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
) -> JSONResponse:
    """Hold the level for every application, for so many seconds or until it is cleared; audited."""
    return await _done(
        reader,
        lambda: service.set_level(
            reader.engine, level, actor=_actor(request), reason=reason, expires_in=seconds
        ),
    )


@router.post("/admin/reliability/degradation/clear", dependencies=[ActOnly], responses=_AWAY)
async def clear(request: Request, reader: TheReader, reason: Reason) -> JSONResponse:
    """Let the checks decide again; audited."""
    return await _done(reader, lambda: service.clear(reader.engine, actor=_actor(request), reason=reason))


async def _done(reader: Reader, act: Callable[[], Ordered]) -> JSONResponse:
    try:
        ordered = await asyncio.to_thread(act)
    except SettingsError as error:
        raise HTTPException(422, str(error)) from error
    except StoreUnavailableError as error:
        raise HTTPException(503, str(error)) from error
    found = await reader.read(facts.level)
    body: dict[str, Any] = {
        "degradation": found.value.as_dict() if isinstance(found, Known) else found.as_json(),
        "heard": ordered.unheard is None,
        "audited": ordered.unwritten is None,
    }
    return JSONResponse(jsonable_encoder(body))


def _actor(request: Request) -> str:
    return f"api@{address_of(request) or 'unknown'}"
