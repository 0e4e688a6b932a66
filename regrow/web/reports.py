"""``/reports``: the list, each report as a page, as JSON and as Markdown, and what an amendment changed.

A report is served exactly as it was stored; where its period has several versions, its page says so at the
head, with the way to the others. It is a document of its own whose styles are in it, so its policy names
these styles by their hashes, and nothing else in it can load or run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request, Response
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

T = TypeVar("T")

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
    row, versions = await _found(reader, facts.report_with_versions, report_id)
    text = row.html.replace("<main>\n", f"<main>\n{_ways(row, versions)}", 1)
    return HTMLResponse(text, headers={"Content-Security-Policy": content_security_policy(text)})


def _ways(row: ReportSummary, versions: Sequence[ReportSummary]) -> str:
    """From one version to the others of its period; nothing where it is the only one."""
    newest = versions[0]
    if newest.version < 2:
        return ""
    told = [f"Version {row.version} of {newest.version}."]
    if row.version > 1:
        told.append(f'<a href="/reports/{row.id}/changes">What this version changed</a>')
    if row.version < newest.version:
        told.append(f'<a href="/reports/{newest.id}">The newest version</a>')
        told.append(
            f'<a href="/reports/{newest.id}/changes?than={row.id}">What has changed since this one</a>'
        )
    return f'<nav aria-label="Versions"><p>{" ".join(told)}</p></nav>\n'


@router.get("/reports/{report_id}/changes", response_model=None)
async def changes(
    request: Request,
    report_id: str,
    reader: TheReader,
    than: Annotated[str | None, Query(min_length=1, max_length=36)] = None,
) -> Response:
    """What a report says otherwise than the version before it, or than another: a page, or JSON."""
    found = await _found(reader, facts.report_changes, report_id, than)
    if "text/html" in request.headers.get("accept", ""):
        same = (found.before.kind, found.before.period_end, found.before.period_start) == (
            found.after.kind,
            found.after.period_end,
            found.after.period_start,
        )
        context = {"found": found, "same_period": same, "value": _value}
        return page(request, "report_changes.html", context)
    told = {
        "before": summary_json(found.before),
        "after": summary_json(found.after),
        "changes": [{"where": one.where, "before": one.before, "after": one.after} for one in found.changes],
    }
    return JSONResponse(jsonable_encoder(told))


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
    return await _found(reader, facts.report, report_id)


async def _found(reader: Reader, source: Callable[..., T], *arguments: str | None) -> T:
    try:
        found = await reader.read(source, *arguments)
    except ReportNotFoundError as error:
        raise HTTPException(404, str(error)) from None
    if isinstance(found, Unknown):
        raise HTTPException(503, f"the report cannot be read: {found.why}")
    return found.value
