"""What tasks, web and command line call to make, list and read reports."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from regrow import counted
from regrow.engine import Engine
from regrow.errors import ReportNotFoundError, SettingsError, StoreUnavailableError
from regrow.reports import model, periods, sources, store
from regrow.reports.comparing import Change, compared
from regrow.reports.periods import Kind, Period
from regrow.reports.render_html import content_security_policy, html
from regrow.reports.render_markdown import markdown
from regrow.reports.sections import sections
from regrow.reports.store import NewReport, ReportRow, ReportSummary

__all__ = [
    "Comparison",
    "ReportRow",
    "ReportSummary",
    "changes",
    "content_security_policy",
    "generate",
    "generate_due",
    "generate_last",
    "get",
    "list_reports",
    "prune",
    "versions",
]


@dataclass(frozen=True)
class Comparison:
    """Two reports and what is otherwise in the second."""

    before: ReportRow
    after: ReportRow
    changes: tuple[Change, ...]


PARTS = 30
"""Of how many parts the strip of an hour is."""


def generate(
    engine: Engine, *, until: datetime | None = None, hours: int = 1, kind: str = "hourly"
) -> ReportRow:
    """Report on the ``hours`` before ``until`` (aware; None: now, to the second) and keep it.

    The same facts of the same kind and period are one report, however often and by however many it is
    made: the row kept first is returned. Facts that came late make a further version.
    """
    if not 1 <= hours <= LONGEST_HOURS:
        raise SettingsError(f"a report covers 1 to {LONGEST_HOURS} hours, not {hours}")
    end = periods.floored(until or engine.clock(), timedelta(seconds=1)).astimezone(UTC)
    return _made(engine, kind, end - timedelta(hours=hours), end)[0]


def generate_last(engine: Engine, kind: Kind, until: datetime | None = None) -> ReportRow:
    """Report on the last whole hour, day or month that has ended at ``until`` (aware; None: now)."""
    now = engine.clock()
    period = periods.last(kind, min(until or now, now), _zone(engine))
    return _made(engine, kind, period.start, period.end)[0]


LONGEST_HOURS = 24 * 366


def _made(engine: Engine, kind: str, start: datetime, end: datetime) -> tuple[ReportRow, bool]:
    """The report, and whether it was not there before."""
    settings, now = engine.settings, engine.clock()
    edges = tuple(periods.edges(kind, start, end, _zone(engine), PARTS))
    facts = sources.read_facts(engine, start, end, edges, sources.left_out(settings, start, now))
    report = model.build(
        kind,
        facts,
        sources.read_snapshot(engine),
        target=settings.reports.uptime_target,
        zone=settings.reports.zone,
    )
    new = _report(kind, start, end, engine.clock(), report)
    kept = store.keep(engine.database, new)
    return get(engine, new.id), kept


def generate_due(engine: Engine) -> dict[str, Any]:
    """What the scheduled job does: the last full hour, day and month, those missed, late data's amendments.

    Returns the job's summary: the latest hourly report's headline and id, and how many reports are new.
    """
    # A look of after the period's end; else the next one would amend the report that is made now.
    with contextlib.suppress(StoreUnavailableError):
        counted.fold(engine)
    made = [_made(engine, one.kind, one.start, one.end) for one in _due(engine)]
    latest = [row for row, _ in made if row.kind == "hourly"][-1]
    new = [row for row, is_new in made if is_new]
    return {
        "headline": latest.headline,
        "report": latest.id,
        "period_end": latest.period_end.isoformat(),
        "new": len(new),
        "amended": sum(row.version > 1 for row in new),
    }


def _due(engine: Engine) -> Iterator[Period]:
    """Days and months that ended before the first result have no report. Hours come last."""
    now, zone = engine.clock(), _zone(engine)
    first = store.first_result(engine.database)
    for kind in ("monthly", "daily"):
        newest = store.newest_end(engine.database, kind)
        for period in periods.due(kind, now, newest, zone):
            if first is not None and first < period.end and not _faded(engine, period, newest, now):
                yield period
    sliding = periods.sliding(now, engine.settings.schedule.generate_reliability_report)
    if sliding:
        yield sliding
    else:
        yield from periods.due("hourly", now, store.newest_end(engine.database, "hourly"), zone)


def _faded(engine: Engine, period: Period, newest: datetime | None, now: datetime) -> bool:
    """Whether a look again would know less than the first one did."""
    then, today = (sources.left_out(engine.settings, period.start, at) for at in (period.end, now))
    return period.end == newest and then.keys() != today.keys()


def _zone(engine: Engine) -> ZoneInfo:
    return ZoneInfo(engine.settings.reports.zone)


def changes(engine: Engine, report_id: str, other_id: str | None = None) -> Comparison:
    """What a report says otherwise than another; than the version before it, where none is named.

    ReportNotFoundError when there is none of them, or no version before.
    """
    after = get(engine, report_id)
    before = get(engine, other_id) if other_id else _version_before(engine, after)
    return Comparison(before, after, compared(json.loads(before.json), json.loads(after.json)))


def versions(engine: Engine, row: ReportSummary) -> list[ReportSummary]:
    """All reports of the same kind and period, the latest version first."""
    return store.versions(engine.database, row.kind, row.period_start, row.period_end)


def _version_before(engine: Engine, row: ReportRow) -> ReportRow:
    earlier = [one for one in versions(engine, row) if one.version == row.version - 1]
    if not earlier:
        raise ReportNotFoundError(
            f"report {row.id} is the first version of its period: name another beside it"
        )
    return get(engine, earlier[0].id)


def prune(engine: Engine) -> int:
    """Delete reports that are older than their kind is kept; how many went."""
    settings, now = engine.settings.reports, engine.clock()
    days = {"daily": settings.daily_retention_days, "monthly": settings.monthly_retention_days}
    return store.prune(
        engine.database,
        {kind: now - timedelta(days=kept) for kind, kept in days.items()},
        now - timedelta(days=settings.retention_days),
    )


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
    digest, parts = store.digest_of(text), sections(report)
    return NewReport(
        id=store.id_of(kind, start, end, model.facts_digest(report)),
        kind=kind,
        period_start=start,
        period_end=end,
        created_at=now,
        headline=report["headline"],
        json=text,
        markdown=markdown(report, digest, parts),
        html=html(report, digest, parts),
    )
