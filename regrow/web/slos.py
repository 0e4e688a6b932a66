"""``/slos``: what is promised, how it stands, what is left of the budgets; a page, or JSON."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

from regrow.slo import wording
from regrow.slo.service import Strip
from regrow.web import facts
from regrow.web.access import PageOnly
from regrow.web.answers import TheReader
from regrow.web.pages import page
from regrow.web.reading import Unknown

router = APIRouter(tags=["slos"], dependencies=[PageOnly])


@router.get("/slos", response_model=None)
async def listing(request: Request, reader: TheReader) -> Response:
    """Every objective, declared ones first: a page for browsers, JSON for everybody else."""
    found = await reader.read(facts.objectives)
    if "text/html" in request.headers.get("accept", ""):
        context = {"objectives": found, "words": wording, "runs": runs}
        return page(request, "slos.html", context)
    if isinstance(found, Unknown):
        return JSONResponse(found.as_json(), 503)
    told = [
        {**wording.standing_json(one), "strip": None if strip is None else strip_json(strip)}
        for one, strip in found.value
    ]
    return JSONResponse(jsonable_encoder({"objectives": told}))


def strip_json(strip: Strip) -> dict[str, object]:
    return {"start": strip.start, "end": strip.end, "states": [state.value for state in strip.states]}


def runs(strip: Strip) -> list[dict[str, object]]:
    """Neighbours of one state as one bar: ``state``, ``x`` and ``width`` in parts, its time in seconds."""
    part = (strip.end - strip.start) / len(strip.states)
    found: list[dict[str, object]] = []
    begun = 0
    for index, state in enumerate(strip.states, 1):
        if index < len(strip.states) and strip.states[index] is state:
            continue
        found.append(
            {
                "state": state.value,
                "x": begun,
                "width": index - begun,
                "start": strip.start + begun * part,
                "seconds": ((index - begun) * part).total_seconds(),
            }
        )
        begun = index
    return found
