"""``/reliability``: breakers, recovery, drains, uptime against its target; a breaker's reset by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import redis
from fastapi import APIRouter, HTTPException, Request
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.breakers import OrderKind, by_hand
from regrow.drain.record import Course
from regrow.errors import StoreUnavailableError
from regrow.slo import wording
from regrow.web import facts
from regrow.web.access import ActOnly, DetailOnly, address_of
from regrow.web.answers import Reason, TheDrain, TheReader
from regrow.web.breakers import breakers_json
from regrow.web.health import drain_json, overall
from regrow.web.reading import Fact, Known, Unknown
from regrow.web.recovery import recovery_json

router = APIRouter(prefix="/reliability", tags=["reliability"])

ENDS_SHOWN = 20


@router.get("", dependencies=[DetailOnly])
async def reliability(reader: TheReader, drain: TheDrain) -> JSONResponse:
    """Always 200: it tells, ``/health`` judges. What could not be read says why."""
    checks, breakers, recovery, drains, uptime, standings = await asyncio.gather(
        reader.read(facts.overview),
        reader.read(facts.breakers),
        reader.read(facts.recovery),
        reader.read(facts.drains),
        reader.read(facts.latest_uptime),
        reader.read(facts.standings),
    )
    body = {
        "status": overall(checks),
        "uptime_target": reader.engine.settings.reports.uptime_target,
        "uptime": uptime.value if isinstance(uptime, Known) else uptime.as_json(),
        "objectives": standings.as_json()
        if isinstance(standings, Unknown)
        else [wording.standing_json(one) for one in standings.value],
        "circuit_breakers": breakers_json(breakers),
        "auto_recovery": recovery_json(recovery),
        "drain": {"this_process": drain_json(drain), **_drains(drains)},
    }
    return JSONResponse(jsonable_encoder(body))


@router.post(
    "/circuit-breaker/{name}/reset",
    dependencies=[ActOnly],
    responses={404: {"description": "no such breaker"}, 503: {"description": "Redis is away"}},
)
async def reset(request: Request, name: str, reader: TheReader, why: Reason | None = None) -> JSONResponse:
    """Close a breaker for the whole fleet, whatever it is now; written down with the reason."""
    told = why or Reason()
    who = f"api@{address_of(request) or 'unknown'}"
    try:
        switched = await asyncio.to_thread(
            by_hand.switch, reader.engine, name, OrderKind.RESET, actor=who, reason=told.reason
        )
    except (redis.RedisError, StoreUnavailableError) as error:
        raise HTTPException(503, f"Redis did not answer: {error}") from error
    if switched is None:
        raise HTTPException(404, "no breaker of this name is in use")
    written = switched.unwritten is None
    return JSONResponse(jsonable_encoder({"breaker": switched.status.as_dict(), "audited": written}))


def _drains(drains: Fact[tuple[Iterable[Course], Iterable[Course]]]) -> dict[str, Any]:
    if isinstance(drains, Unknown):
        return drains.as_json()
    under_way, ended = drains.value
    return {
        "draining": [_course(course) for course in under_way],
        "ended": [_course(course) for course in list(ended)[:ENDS_SHOWN]],
    }


def _course(course: Course) -> dict[str, Any]:
    told = course.as_dict()
    return {**told, "since": _moment(course.since), "ended": _moment(course.ended)}


def _moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
