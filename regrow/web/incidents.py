"""Incidents: the list, one with its timeline, and a person's hand on it, as pages and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse

from regrow.engine import Engine
from regrow.errors import IncidentNotFoundError, IncidentRefusedError, StoreUnavailableError
from regrow.incidents import service
from regrow.incidents.model import Incident
from regrow.web import facts
from regrow.web.access import ActOnly, DetailOnly, PageOnly, address_of
from regrow.web.answers import Reason, TheReader
from regrow.web.forms import OwnForm, page_actor, said
from regrow.web.pages import page
from regrow.web.reading import Reader, Unknown

router = APIRouter(tags=["incidents"])

T = TypeVar("T")
LISTED = 100

_ACTS = {
    "acknowledge": ("Acknowledge", "Nobody further is called for it. You look after it."),
    "note": ("Write a note", "It becomes a line of the timeline."),
    "cause": ("Write down the root cause", "It stands at the head of the review."),
    "close": ("Close by hand", "What is still down in it opens another incident with its next change."),
}
ActName = Literal["acknowledge", "note", "cause", "close"]


class Text(BaseModel):
    """What a person says about an incident."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=10_000)]


@router.get("/incidents", dependencies=[PageOnly], include_in_schema=False)
async def listing(request: Request, reader: TheReader) -> Response:
    found = await reader.read(facts.incidents, LISTED)
    return page(request, "incidents.html", {"incidents": found, "limit": LISTED})


@router.get("/incidents/{incident_id}.md", dependencies=[PageOnly], include_in_schema=False)
async def review(incident_id: str, reader: TheReader) -> Response:
    found = await _read(reader, facts.review, incident_id)
    return PlainTextResponse(service.markdown(found), media_type="text/markdown")


@router.get("/incidents/{incident_id}", dependencies=[PageOnly], include_in_schema=False)
async def one(request: Request, incident_id: str, reader: TheReader) -> Response:
    return page(request, "incident.html", {"found": await _dossier(reader, incident_id), "acts": _ACTS})


@router.get("/incidents/{incident_id}/{act}", dependencies=[PageOnly], include_in_schema=False)
async def ask(request: Request, incident_id: str, act: ActName, reader: TheReader) -> Response:
    """What the act would do, and to how much, before it is done."""
    found = await _dossier(reader, incident_id)
    title, effect = _ACTS[act]
    bad = sum(member.state != "well" for member in found.members)
    return page(
        request,
        "act.html",
        {
            "title": title,
            "what": found.incident.title,
            "effect": f"{effect} This is 1 incident, in which {bad} of {len(found.members)} are not well.",
            "action": f"/incidents/{incident_id}/{act}",
            "label": "Text" if act in {"note", "cause"} else "Reason",
            "back": f"/incidents/{incident_id}",
        },
    )


@router.post("/incidents/{incident_id}/{act}", include_in_schema=False)
async def act(
    request: Request, incident_id: str, act: ActName, fields: OwnForm, reader: TheReader
) -> Response:
    await _done(_act(reader, act, incident_id, page_actor(request), said(fields, "reason")))
    return RedirectResponse(f"/incidents/{incident_id}", 303)


@router.get("/admin/reliability/incidents", dependencies=[DetailOnly])
async def as_json(reader: TheReader, limit: Annotated[int, Query(ge=1, le=1000)] = LISTED) -> JSONResponse:
    """The newest incidents; 503 while the database is away."""
    found = await reader.read(facts.incidents, limit)
    if isinstance(found, Unknown):
        return JSONResponse(found.as_json(), 503)
    return JSONResponse(jsonable_encoder({"incidents": found.value}))


@router.get(
    "/admin/reliability/incidents/{incident_id}",
    dependencies=[DetailOnly],
    responses={404: {"description": "no such incident"}},
)
async def review_json(incident_id: str, reader: TheReader) -> JSONResponse:
    """One incident as its post-incident review: durations, impact, budgets, timeline."""
    return JSONResponse(jsonable_encoder(await _read(reader, facts.review, incident_id)))


_REFUSALS: dict[int | str, dict[str, Any]] = {
    404: {"description": "no such incident"},
    409: {"description": "it is closed, or part of another one"},
    503: {"description": "the database is away: nothing was done"},
}


@router.post(
    "/admin/reliability/incidents/{incident_id}/acknowledge", dependencies=[ActOnly], responses=_REFUSALS
)
async def acknowledge(
    request: Request, incident_id: str, reader: TheReader, why: Reason | None = None
) -> JSONResponse:
    """Somebody looks after it; audited."""
    told = (why or Reason()).reason
    return await _answer(_act(reader, "acknowledge", incident_id, _api_actor(request), told))


@router.post("/admin/reliability/incidents/{incident_id}/close", dependencies=[ActOnly], responses=_REFUSALS)
async def close(
    request: Request, incident_id: str, reader: TheReader, why: Reason | None = None
) -> JSONResponse:
    """End it by hand; audited."""
    told = (why or Reason()).reason
    return await _answer(_act(reader, "close", incident_id, _api_actor(request), told))


@router.post("/admin/reliability/incidents/{incident_id}/note", dependencies=[ActOnly], responses=_REFUSALS)
async def note(request: Request, incident_id: str, reader: TheReader, told: Text) -> JSONResponse:
    """A line of the timeline; audited."""
    return await _answer(_act(reader, "note", incident_id, _api_actor(request), told.text))


@router.post("/admin/reliability/incidents/{incident_id}/cause", dependencies=[ActOnly], responses=_REFUSALS)
async def cause(request: Request, incident_id: str, reader: TheReader, told: Text) -> JSONResponse:
    """What it came from; audited."""
    return await _answer(_act(reader, "cause", incident_id, _api_actor(request), told.text))


def _act(reader: Reader, name: ActName, incident_id: str, actor: str, told: str) -> Callable[[], Incident]:
    engine = reader.engine
    acts: dict[ActName, Callable[[], Incident]] = {
        "acknowledge": lambda: service.acknowledge(engine, incident_id, actor=actor, reason=told),
        "note": lambda: service.note(engine, incident_id, told, actor=actor),
        "cause": lambda: service.set_root_cause(engine, incident_id, told, actor=actor),
        "close": lambda: service.close(engine, incident_id, actor=actor, reason=told),
    }
    return acts[name]


async def _answer(do: Callable[[], Incident]) -> JSONResponse:
    return JSONResponse(jsonable_encoder({"incident": await _done(do)}))


async def _done(do: Callable[[], Incident]) -> Incident:
    try:
        return await asyncio.to_thread(do)
    except IncidentNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except IncidentRefusedError as error:
        raise HTTPException(409, str(error)) from error
    except StoreUnavailableError as error:
        raise HTTPException(503, f"nothing was done: {error}") from error


async def _dossier(reader: Reader, incident_id: str) -> service.Dossier:
    return await _read(reader, facts.incident, incident_id)


async def _read(reader: Reader, source: Callable[[Engine, str], T], incident_id: str) -> T:
    try:
        found = await reader.read(source, incident_id)
    except IncidentNotFoundError as error:
        raise HTTPException(404, str(error)) from None
    if isinstance(found, Unknown):
        raise HTTPException(503, f"the incident cannot be read: {found.why}")
    return found.value


def _api_actor(request: Request) -> str:
    return f"api@{address_of(request) or 'unknown'}"
