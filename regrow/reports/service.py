"""What tasks, web and command line call to make, list and read reports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from regrow.engine import Engine
from regrow.errors import ReportNotFoundError, SettingsError
from regrow.reports import model, rules, store
from regrow.reports.render_html import content_security_policy, html
from regrow.reports.render_markdown import markdown
from regrow.reports.sources import read_facts, read_snapshot
from regrow.reports.store import NewReport, ReportRow, ReportSummary

__all__ = [
    "ReportRow",
    "ReportSummary",
    "content_security_policy",
    "generate",
    "generate_due",
    "get",
    "list_reports",
]

LONGEST_HOURS = 24 * 366


def generate(
    engine: Engine, *, until: datetime | None = None, hours: int = 1, kind: str = "hourly"
) -> ReportRow:
    """Report on the ``hours`` before ``until`` (aware; None: now, to the second) and keep it.

    The same facts of the same kind and period are one report, however often and by however many it is
    made: the row kept first is returned. Facts that came late make a further version.
    """
    row, _new = _made(engine, until, hours, kind)
    return row


def _made(engine: Engine, until: datetime | None, hours: int, kind: str) -> tuple[ReportRow, bool]:
    """The report, and whether it was not there before."""
    if not 1 <= hours <= LONGEST_HOURS:
        raise SettingsError(f"a report covers 1 to {LONGEST_HOURS} hours, not {hours}")
    end = rules.floored(until or engine.clock(), timedelta(seconds=1)).astimezone(UTC)
    start = end - timedelta(hours=hours)
    facts = read_facts(engine, start, end)
    report = model.build(kind, facts, read_snapshot(engine), target=engine.settings.reports.uptime_target)
    new = _report(kind, start, end, engine.clock(), report)
    kept = store.keep(engine.database, new)
    return get(engine, new.id), kept


def generate_due(engine: Engine) -> dict[str, Any]:
    """What the scheduled job does: the last full hour, hours that were missed, and late data's amendments.

    Returns the job's summary: the latest report's headline and id, and how many reports are new.
    """
    ends = rules.scheduled_ends(
        engine.clock(),
        engine.settings.schedule.generate_reliability_report,
        store.newest_end(engine.database, "hourly"),
    )
    made = [_made(engine, end, 1, "hourly") for end in ends]
    latest = made[-1][0]
    new = [row for row, is_new in made if is_new]
    return {
        "headline": latest.headline,
        "report": latest.id,
        "period_end": latest.period_end.isoformat(),
        "new": len(new),
        "amended": sum(row.version > 1 for row in new),
    }


def list_reports(engine: Engine, limit: int = 20, kind: str | None = None) -> list[ReportSummary]:
    """The latest periods first; of one period, the latest version first."""
    return store.listed(engine.database, limit, kind)


def get(engine: Engine, report_id: str) -> ReportRow:
    """One report, by its id or the beginning of it. ReportNotFoundError when there is none, or several."""
    row = store.read(engine.database, report_id)
    if row is not None:
        return row
    found = store.beginning_with(engine.database, report_id) if report_id else []
    if len(found) > 1:
        raise ReportNotFoundError(f"several reports have ids that begin with {report_id}; say more of it")
    row = store.read(engine.database, found[0]) if found else None
    if row is None:
        raise ReportNotFoundError(f"no report has the id {report_id!r}; `regrow reports list` shows them")
    return row


def _report(kind: str, start: datetime, end: datetime, now: datetime, report: dict[str, Any]) -> NewReport:
    text = model.text_of(report)
    digest = store.digest_of(text)
    return NewReport(
        id=store.id_of(kind, start, end, model.facts_digest(report)),
        kind=kind,
        period_start=start,
        period_end=end,
        created_at=now,
        headline=report["headline"],
        json=text,
        markdown=markdown(report, digest),
        html=html(report, digest),
    )
