"""Alerts: what fires, why, who was told, and a person's hand on it, as pages and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, RedirectResponse

from regrow.alerts import service
from regrow.errors import AlertNotFoundError, AlertRefusedError, StoreUnavailableError
from regrow.web import facts
from regrow.web.access import ActOnly, DetailOnly, PageOnly, address_of
from regrow.web.answers import Reason, TheReader
from regrow.web.forms import OwnForm, page_actor, said
from regrow.web.pages import page
from regrow.web.reading import Reader, Unknown

router = APIRouter(tags=["alerts"])

T = TypeVar("T")
LISTED = 100


class SilenceAsked(BaseModel):
    """What is to be silent, for how many seconds, and why."""

    model_config = ConfigDict(extra="forbid")

    seconds: Annotated[float, Field(gt=0, le=30 * 86_400)]
    rule: Annotated[str, Field(max_length=64)] = ""
    subject: Annotated[str, Field(max_length=255)] = ""
    severity: Literal["critical", "high", "medium", "low"] | None = None
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


@router.get("/alerts", dependencies=[PageOnly], include_in_schema=False)
async def listing(request: Request, reader: TheReader) -> Response:
    found, silences, waiting = await asyncio.gather(
        reader.read(facts.alerts, LISTED), reader.read(facts.silences), reader.read(facts.waiting_notices)
    )
    context = {"alerts": found, "silences": silences, "waiting": waiting, "limit": LISTED}
    return page(request, "alerts.html", context)


@router.get("/alerts/why", dependencies=[PageOnly], include_in_schema=False)
async def why(
    request: Request, reader: TheReader, name: Annotated[str, Query(min_length=1, max_length=255)]
) -> Response:
    return page(request, "alert_why.html", {"name": name, "found": await _why(reader, name)})


@router.get("/alerts/{alert_id}/acknowledge", dependencies=[PageOnly], include_in_schema=False)
async def ask(request: Request, alert_id: str, reader: TheReader) -> Response:
    """What the act would do, before it is done."""
    (found, *_) = await _why(reader, alert_id)
    effect = "Nobody further is told of this 1 alert, nor of others of its incident."
    return _asked(request, "Acknowledge", f"{found.rule} {found.subject}", effect)


@router.post("/alerts/{alert_id}/acknowledge", include_in_schema=False)
async def act(request: Request, alert_id: str, fields: OwnForm, reader: TheReader) -> Response:
    return await _acted(request, fields, partial(service.acknowledge, reader.engine, alert_id))


@router.get("/alerts/silences/{silence_id}/end", dependencies=[PageOnly], include_in_schema=False)
async def ask_unsilence(request: Request, silence_id: str) -> Response:
    """What the act would do, before it is done."""
    effect = "What it kept silent is told from the next look on. This is 1 silence."
    return _asked(request, "End the silence", silence_id, effect)


@router.post("/alerts/silences/{silence_id}/end", include_in_schema=False)
async def act_unsilence(request: Request, silence_id: str, fields: OwnForm, reader: TheReader) -> Response:
    return await _acted(request, fields, partial(service.unsilence, reader.engine, silence_id))


@router.get("/admin/reliability/alerts", dependencies=[DetailOnly])
async def as_json(reader: TheReader, limit: Annotated[int, Query(ge=1, le=1000)] = LISTED) -> JSONResponse:
    """The newest alerts with the reasons of their last look, silences, and what waits to be told."""
    found, silences, waiting = await asyncio.gather(
        reader.read(facts.alerts, limit), reader.read(facts.silences), reader.read(facts.waiting_notices)
    )
    if isinstance(found, Unknown):
        return JSONResponse(found.as_json(), 503)
    body = {
        "alerts": [{**asdict(kept.alert), "reasons": kept.reasons} for kept in found.value],
        "silences": silences.as_json() if isinstance(silences, Unknown) else silences.value,
        "waiting": waiting.as_json()
        if isinstance(waiting, Unknown)
        else {name: {"notices": number, "oldest": at} for name, (number, at) in waiting.value.items()},
    }
    return JSONResponse(jsonable_encoder(body))


@router.get(
    "/admin/reliability/alerts/why",
    dependencies=[DetailOnly],
    responses={404: {"description": "nothing has this name"}},
)
async def why_json(
    reader: TheReader, name: Annotated[str, Query(min_length=1, max_length=255)]
) -> JSONResponse:
    """Each step for a rule, a subject or an alert: why somebody was told, or not."""
    return JSONResponse(jsonable_encoder({"why": await _why(reader, name)}))


_REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "there is none of this name"},
    409: {"description": "it is not in a state that allows this"},
    503: {"description": "the database is away: nothing was done"},
}


@router.post("/admin/reliability/alerts/{alert_id}/acknowledge", dependencies=[ActOnly], responses=_REFUSALS)
async def acknowledge(
    request: Request, alert_id: str, reader: TheReader, why: Reason | None = None
) -> JSONResponse:
    """Somebody looks after it, and after its incident; audited."""
    told = (why or Reason()).reason
    who = _api_actor(request)
    done = await _done(lambda: service.acknowledge(reader.engine, alert_id, actor=who, reason=told))
    return JSONResponse(jsonable_encoder({"alert": done}))


@router.post("/admin/reliability/alerts/silences", dependencies=[ActOnly], responses=_REFUSALS)
async def silence(request: Request, reader: TheReader, asked: SilenceAsked) -> JSONResponse:
    """Nobody is told of what matches all that is given; audited."""
    who = _api_actor(request)
    made = await _done(lambda: service.silence(reader.engine, actor=who, **asked.model_dump()))
    return JSONResponse(jsonable_encoder({"silence": made}), 201)


@router.delete("/admin/reliability/alerts/silences/{silence_id}", dependencies=[ActOnly], responses=_REFUSALS)
async def unsilence(
    request: Request, silence_id: str, reader: TheReader, reason: str = "asked for over HTTP"
) -> JSONResponse:
    """End a silence now; audited."""
    who = _api_actor(request)
    await _done(lambda: service.unsilence(reader.engine, silence_id, actor=who, reason=reason))
    return JSONResponse({"ended": silence_id})


def _asked(request: Request, title: str, what: str, effect: str) -> Response:
    """The form of an act; it is sent to where it was asked for."""
    told = {"title": title, "what": what, "effect": effect, "label": "Reason", "back": "/alerts"}
    return page(request, "act.html", {**told, "action": request.url.path})


async def _acted(request: Request, fields: dict[str, str], do: Callable[..., Any]) -> Response:
    """Do it for whoever sent the form, and back to the page."""
    reason = said(fields, "reason")
    await _done(partial(do, actor=page_actor(request), reason=reason))
    return RedirectResponse("/alerts", 303)


async def _done(do: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(do)
    except AlertNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except AlertRefusedError as error:
        raise HTTPException(409, str(error)) from error
    except StoreUnavailableError as error:
        raise HTTPException(503, f"nothing was done: {error}") from error


async def _why(reader: Reader, name: str) -> list[service.Why]:
    try:
        found = await reader.read(facts.why, name)
    except AlertNotFoundError as error:
        raise HTTPException(404, str(error)) from None
    if isinstance(found, Unknown):
        raise HTTPException(503, f"it cannot be told now: {found.why}")
    return list(found.value)


def _api_actor(request: Request) -> str:
    return f"api@{address_of(request) or 'unknown'}"
