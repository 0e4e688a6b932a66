"""``/``: the overview: what needs attention, what the jobs found and when, and the state of everything."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from regrow.web.access import PageOnly
from regrow.web.answers import TheReader, TheStart
from regrow.web.dead_letters import LETTER_STATES
from regrow.web.jobs import MAIN
from regrow.web.pages import page
from regrow.web.picture import take

router = APIRouter(include_in_schema=False, dependencies=[PageOnly])

REFRESH = 15
"""Seconds between two looks of a browser that keeps itself up to date."""

FEW = 5
"""Open incidents and firing alerts that are shown; their own pages have all."""


@router.get("/")
async def overview(
    request: Request,
    reader: TheReader,
    since: TheStart,
    refresh: Annotated[int | None, Query(ge=5, le=3600)] = None,
) -> Response:
    picture = await take(reader, since)
    return page(
        request,
        "overview.html",
        {
            "picture": picture,
            "main_jobs": MAIN,
            "letter_states": LETTER_STATES,
            "refresh": refresh,
            "usual_refresh": REFRESH,
            "few": FEW,
        },
    )
