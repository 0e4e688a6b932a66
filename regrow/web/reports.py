"""``/reports``: the list, and each report as a page, as JSON and as Markdown.

A report is served exactly as it was stored. Its page is a document of its own whose styles are in it, so
its policy names these styles by their hashes, and nothing else in it can load or run.
"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.encoders import jsonable_encoder
from starlette.responses import HTMLResponse, JSONResponse

from regrow.errors import ReportNotFoundError
from regrow.reports.service import ReportRow, ReportSummary, content_security_policy
from regrow.web import facts
from regrow.web.access import PageOnly
from regrow.web.answers import TheReader
from regrow.web.pages import page
from regrow.web.reading import Reader, Unknown

router = APIRouter(tags=["reports"], dependencies=[PageOnly])

LISTED = 100

_FORMATS = {"json": "application/json", "md": "text/markdown; charset=utf-8"}


@router.get("/reports", response_model=None)
async def listing(request: Request, reader: TheReader) -> Response:
    """The newest reports: a page for browsers, JSON for everybody else."""
    found = await reader.read(facts.newest_reports, LISTED)
    if "text/html" in request.headers.get("accept", ""):
        return page(request, "reports.html", {"reports": found, "limit": LISTED})
    if isinstance(found, Unknown):
        return JSONResponse(found.as_json(), 503)
    return JSONResponse(jsonable_encoder({"reports": [summary_json(row) for row in found.value]}))


@router.get("/reports/{report_id}.{form}", response_model=None)
async def text(report_id: str, form: Literal["json", "md"], reader: TheReader) -> Response:
    """One report as JSON or Markdown, byte for byte as it was stored."""
    row = await _report(reader, report_id)
    body = row.json if form == "json" else row.markdown
    return Response(
        body,
        media_type=_FORMATS[form],
        headers={"Content-Disposition": f'inline; filename="regrow-{row.kind}-{row.id}.{form}"'},
    )


@router.get("/reports/{report_id}", response_class=HTMLResponse)
async def document(report_id: str, reader: TheReader) -> HTMLResponse:
    """One report as a page."""
    row = await _report(reader, report_id)
    return HTMLResponse(row.html, headers={"Content-Security-Policy": content_security_policy(row.html)})


def summary_json(row: ReportSummary) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "period_start": row.period_start,
        "period_end": row.period_end,
        "created_at": row.created_at,
        "version": row.version,
        "headline": row.headline,
        "digest": row.digest,
        "links": {"html": f"/reports/{row.id}", **{f: f"/reports/{row.id}.{f}" for f in _FORMATS}},
    }


async def _report(reader: Reader, report_id: str) -> ReportRow:
    try:
        found = await reader.read(facts.report, report_id)
    except ReportNotFoundError as error:
        raise HTTPException(404, str(error)) from None
    if isinstance(found, Unknown):
        raise HTTPException(503, f"the report cannot be read: {found.why}")
    return found.value
