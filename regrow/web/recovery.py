"""Recovery over HTTP: how it stands, and a person's word to run a handler now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse

from regrow.errors import RecoveryRefusedError, ServiceNotFoundError, StoreUnavailableError
from regrow.recovery import service
from regrow.recovery.service import ServiceStatus
from regrow.web.access import ActOnly, address_of
from regrow.web.answers import Reason, TheReader
from regrow.web.reading import Fact, Unknown

router = APIRouter(prefix="/reliability/auto-recovery", tags=["reliability"])


@router.post(
    "/{name}/trigger",
    status_code=202,
    dependencies=[ActOnly],
    responses={
        404: {"description": "no handler is declared for this service"},
        409: {"description": "an attempt is under way"},
        503: {"description": "the database is away"},
    },
)
async def trigger(request: Request, name: str, reader: TheReader, why: Reason | None = None) -> JSONResponse:
    """Run a service's handler now, whatever pause or lock there is; written down with the reason.

    ``sent`` false: the broker is away, and the workers' next scheduled look begins it.
    """
    told = why or Reason()
    who = f"api@{address_of(request) or 'unknown'}"
    try:
        sent = await asyncio.to_thread(service.trigger, reader.engine, name, actor=who, reason=told.reason)
    except ServiceNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except RecoveryRefusedError as error:
        raise HTTPException(409, str(error)) from error
    except StoreUnavailableError as error:
        raise HTTPException(503, f"nothing was begun: {error}") from error
    return JSONResponse({"service": name, "sent": sent}, 202)


def recovery_json(found: Fact[Sequence[ServiceStatus]]) -> Any:
    """By service, or why nothing is known."""
    if isinstance(found, Unknown):
        return found.as_json()
    return {one.name: _told(one) for one in found.value}


def _told(one: ServiceStatus) -> dict[str, Any]:
    last = one.last
    return {
        **{name: value for name, value in one.as_dict().items() if name not in {"name", "last"}},
        "last": {
            "started_at": last.started_at,
            "ended_at": last.ended_at,
            "attempt": last.attempt,
            "trigger": last.trigger,
            "outcome": last.outcome,
            "message": last.message,
        }
        if last
        else None,
    }
