"""``/health``: live, ready, the word for everybody, and the detail for who holds the key.

Stored results and their age are shown; a request never runs a check. 503 means "do not count on it", which
holds for *unhealthy* and for *unknown* alike; *degraded* still serves and is 200.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.drain import Drain
from regrow.health.rules import CheckView, Overview
from regrow.health.windows import Window
from regrow.version import __version__
from regrow.web import facts, jobs
from regrow.web.access import DetailOnly
from regrow.web.answers import TheDrain, TheReader, TheStart
from regrow.web.breakers import breakers_json
from regrow.web.dead_letters import letters_json
from regrow.web.reading import Fact, Known, Unknown
from regrow.web.recovery import recovery_json

router = APIRouter(tags=["health"])


class HealthResponse(JSONResponse):
    """draft-inadarei-api-health-check with Regrow's words for the status, because it knows no *unknown*."""

    media_type = "application/health+json"


def status_code(status: str) -> int:
    """The HTTP status for a status word."""
    return 200 if status in {"healthy", "degraded"} else 503


@router.get("/health/live")
async def live() -> Mapping[str, str]:
    """This process turns its loop. No dependency is looked at: restarting us would not bring one back."""
    return {"status": "alive"}


@router.get("/health/ready", responses={503: {"description": "a required dependency is away, or draining"}})
async def ready(reader: TheReader, drain: TheDrain) -> JSONResponse:
    """Whether traffic may come: Redis is there, the database with its tables, and this process stays."""
    if drain.begun:
        return JSONResponse({"status": "draining"}, 503, {"Retry-After": "5"})
    startup = reader.engine.settings.startup
    named = startup.required or startup.optional
    redis, database, checks = await asyncio.gather(
        reader.read(facts.redis_answers),
        reader.read(facts.database_is_ready),
        reader.read(facts.overview) if named else _nothing(),
    )
    there = {"redis": _up_or_down(redis), "database": _up_or_down(database)}
    required = {name: _stored(checks, name) for name in startup.required}
    optional = {name: _stored(checks, name) for name in startup.optional}
    is_ready = set(there.values()) == {"up"} and set(required.values()) <= {"healthy", "degraded"}
    body = {"status": "ready" if is_ready else "not ready", "dependencies": {**there, **required}}
    if optional:
        body["optional"] = optional
    return JSONResponse(body, 200 if is_ready else 503)


@router.get("/health", responses={503: {"description": "unhealthy or unknown"}})
async def short(reader: TheReader, drain: TheDrain) -> JSONResponse:
    """One word for load balancers and passers-by; whether beat ticks, and this process is about to stop."""
    checks = await reader.read(facts.overview)
    status = overall(checks)
    told = {"status": status, "beat": beat_word(checks), "draining": drain.begun}
    return JSONResponse(told, status_code(status))


@router.get(
    "/health/detailed",
    dependencies=[DetailOnly],
    response_class=HealthResponse,
    responses={503: {"description": "unhealthy or unknown"}},
)
async def detailed(reader: TheReader, since: TheStart, drain: TheDrain) -> HealthResponse:
    """Everything that is known: checks with their age, breakers, recovery, dead letters, jobs."""
    planned = asyncio.gather(reader.read(facts.maintenance), reader.read(facts.settings_standing))
    checks, breakers, recovery, letters, runs = await asyncio.gather(
        reader.read(facts.overview),
        reader.read(facts.breakers),
        reader.read(facts.recovery),
        reader.read(facts.letters),
        reader.read(facts.latest_runs),
    )
    windows, settings = await planned
    engine = reader.engine
    now = engine.clock()
    status = overall(checks)
    body = {
        "status": status,
        "description": "the dependencies of this system as Regrow last saw them",
        "output": checks.value.message if isinstance(checks, Known) else checks.why,
        "version": __version__,
        "time": now,
        "checks": checks_json(checks),
        "beat": _beat_json(checks),
        "drain": drain_json(drain),
        "maintenance": maintenance_json(windows, now),
        "settings": settings.value if isinstance(settings, Known) else settings.as_json(),
        "circuit_breakers": breakers_json(breakers),
        "auto_recovery": recovery_json(recovery),
        "dead_letters": letters_json(letters, now),
        "jobs": jobs.jobs_json(runs, engine.settings, now, since),
    }
    return HealthResponse(jsonable_encoder(body), status_code(status))


async def _nothing() -> Fact[Overview]:
    return Unknown("not asked for")


def _stored(checks: Fact[Overview], name: str) -> str:
    """What is confirmed of a check: one failed probe takes no process out; a request runs none."""
    if isinstance(checks, Unknown):
        return "unknown"
    return next((check.confirmed for check in checks.value.checks if check.name == name), "unknown")


def overall(checks: Fact[Overview]) -> str:
    return checks.value.status if isinstance(checks, Known) else "unknown"


def beat_word(checks: Fact[Overview]) -> str:
    """How beat is, which has the checks run: ticking, stalled, dead or unknown; or not watched."""
    if isinstance(checks, Unknown):
        return "unknown"
    beat = checks.value.beat
    return "not watched" if beat is None else str(beat.data["verdict"])


def _beat_json(checks: Fact[Overview]) -> Mapping[str, Any]:
    beat = checks.value.beat if isinstance(checks, Known) else None
    why = {} if beat is None else {"status": beat.status, "message": beat.message}
    return {"verdict": beat_word(checks), **why}


def drain_json(drain: Drain) -> Mapping[str, Any]:
    """How far this process is on its way out, ``since`` when in UTC."""
    told = drain.status()
    since = told["since"]
    return {**told, "since": datetime.fromtimestamp(since, UTC).isoformat() if since else None}


def maintenance_json(windows: Fact[Sequence[Window]], now: datetime) -> Any:
    """The windows that hold now or begin within 35 days."""
    if isinstance(windows, Unknown):
        return windows.as_json()
    return [
        {
            "id": window.name,
            "kind": window.kind,
            "now": window.covers(now),
            "starts": window.starts,
            "ends": window.ends,
            "holds_for": str(window.scope),
            "reason": window.reason,
        }
        for window in windows.value
    ]


def checks_json(checks: Fact[Overview]) -> Mapping[str, Any]:
    """Keyed by the check's name; each a list of one, as the draft has it."""
    if isinstance(checks, Unknown):
        return {}
    return {check.name: [_check_json(check)] for check in checks.value.checks}


def _check_json(check: CheckView) -> Mapping[str, Any]:
    return {
        "componentId": check.name,
        "componentType": check.kind,
        "status": check.status,
        "output": check.message,
        "time": check.at,
        "age_seconds": check.age,
        "observedValue": check.latency,
        "observedUnit": "s",
        "interval_seconds": check.interval,
        "confirmed": check.confirmed,
        "confirmed_since": check.since,
        "flapping": check.flapping,
        "cause": check.cause,
        "maintenance": check.maintenance,
        "required": check.required,
        "labels": check.labels,
        "data": check.data,
    }


def _up_or_down(fact: Fact[bool]) -> str:
    return "up" if isinstance(fact, Known) else "down"
