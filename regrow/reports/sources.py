"""What a report is made from: the rows of a period, read from the database and named as facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from regrow import counted
from regrow.alerts import service as alerts
from regrow.alerts.periods import Lasted
from regrow.capacity import service as capacity
from regrow.capacity.service import Forecast
from regrow.counted import Counted
from regrow.database.tables import (
    breaker_transitions,
    check_results,
    job_runs,
    recoveries,
    recovery_events,
)
from regrow.degradation import kept as levels
from regrow.engine import Engine
from regrow.jobs import JOBS
from regrow.reports.measures import Measures
from regrow.reports.measures import read as read_measures
from regrow.reports.rules import Transition
from regrow.settings import CheckSettings, Settings

RESOURCES = ("disk", "memory", "cpu")
"""Kinds of checks whose results carry a percentage in ``data``."""

CLEAN_UP = {
    "cleanup_temp_files": ("removed", "freed_bytes", "errors"),
    "cleanup_old_dlq_messages": ("purged",),
    "prune_history": ("job_runs", "check_results", "reports"),
}
"""Jobs that remove things, and the counts of their summaries."""


@dataclass(frozen=True)
class Resource:
    """A percentage over the period: the last one seen, the largest, and the last result's own words."""

    name: str
    kind: str
    last: float
    largest: float
    message: str


@dataclass(frozen=True)
class Job:
    """The runs of one job that began within the period. ``longest`` in seconds."""

    name: str
    outcomes: Mapping[str, int] = field(default_factory=dict)
    longest: float | None = None
    last_at: datetime | None = None
    last_outcome: str | None = None
    last_error: str | None = None


@dataclass(frozen=True)
class ServiceRecovery:
    """What recovery did for one service. ``outcomes``: attempts that began in the period, tests aside.

    ``tests``: tests that passed and reset its breaker. ``down``: seconds of each failure that ended in the
    period. ``locked``: how often a person was called.
    """

    name: str
    outcomes: Mapping[str, int] = field(default_factory=dict)
    tests: int = 0
    down: tuple[float, ...] = ()
    locked: int = 0


@dataclass(frozen=True)
class Facts:
    """All that happened in the period ``[start, end)``, as far as it is known.

    ``edges``: of the parts of its strips. ``alerts`` None: nobody looked. ``left_out``: sections that are not
    told of, and why.
    """

    start: datetime
    end: datetime
    edges: tuple[datetime, ...]
    measures: Measures
    resources: tuple[Resource, ...]
    breakers: Mapping[str, tuple[Transition, ...]]
    jobs: tuple[Job, ...]
    removed: Mapping[str, Mapping[str, int | float]]
    letters: Mapping[str, int]
    levels: Mapping[str, timedelta] = field(default_factory=dict)
    recoveries: tuple[ServiceRecovery, ...] = ()
    alerts: tuple[Lasted, ...] | None = None
    counted: Counted = field(default_factory=Counted)
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """How things stood when the report was made, which no later report of the same period can say again.

    ``forecast``: None when nobody looked lately.
    """

    at: datetime
    letters: Mapping[str, int]
    oldest_unsettled: datetime | None
    forecast: Forecast | None = None


def read_facts(
    engine: Engine, start: datetime, end: datetime, edges: tuple[datetime, ...], left_out: Mapping[str, str]
) -> Facts:
    """Everything a report of the period needs. StoreUnavailableError when the database is away."""
    from regrow.dead_letters import service as dead_letters

    declared = {name: check for name, check in engine.settings.health.checks.items() if check.enabled}
    letters = dead_letters.flow(engine, start, end)
    measures = read_measures(engine, start, end, edges)
    fired = None if "alerts" in left_out else alerts.of_period(engine, start, end)
    grown = counted.window(engine.database, start, end)
    with engine.database.snapshot() as connection:
        return Facts(
            start=start,
            end=end,
            edges=edges,
            measures=measures,
            resources=() if "resources" in left_out else _resources(connection, declared, start, end),
            breakers=_breakers(connection, start, end),
            jobs=() if "jobs" in left_out else _jobs(connection, start, end),
            removed={} if "clean_up" in left_out else _removed(connection, start, end),
            letters=letters,
            levels=_levels(connection, engine, start, end),
            recoveries=() if "recoveries" in left_out else _recoveries(connection, start, end),
            alerts=fired,
            counted=grown,
            left_out=left_out,
        )


def left_out(settings: Settings, start: datetime, now: datetime) -> dict[str, str]:
    """The sections whose rows are not all kept any more for a period that began then, and why."""
    days = {
        "resources": settings.health.retention_days,
        "jobs": settings.jobs.retention_days,
        "clean_up": settings.jobs.retention_days,
        "recoveries": settings.recovery.retention_days,
        "alerts": settings.alerts.retention_days,
        "retries": settings.history.request_hours_days,
        "fallbacks": settings.history.request_hours_days,
    }
    told = {
        section: f"its rows are kept for {kept} days, and the period began before that"
        for section, kept in days.items()
        if start < now - timedelta(days=kept)
    }
    return told if settings.alerts.enabled else {**told, "alerts": "alerts are switched off"}


def read_snapshot(engine: Engine) -> Snapshot:
    from regrow.dead_letters import service as dead_letters

    now = engine.clock()
    return Snapshot(
        now,
        dead_letters.counts(engine),
        dead_letters.oldest_pending(engine),
        capacity.latest(engine, now),
    )


def _levels(
    connection: sa.Connection, engine: Engine, start: datetime, end: datetime
) -> dict[str, timedelta]:
    """How long each level of degradation held, and how long nobody knows; nothing before the first one."""
    told = levels.within(connection, start, end)
    hold = timedelta(seconds=engine.settings.degradation.hold)
    return levels.time_in_levels(told, start, end, hold) if told else {}


def _resources(
    connection: sa.Connection, declared: Mapping[str, CheckSettings], start: datetime, end: datetime
) -> tuple[Resource, ...]:
    found = []
    for name, check in sorted(declared.items()):
        if check.kind not in RESOURCES:
            continue
        rows = connection.execute(
            sa.select(check_results.c.data, check_results.c.message)
            .where(check_results.c.check_name == name, check_results.c.at >= start, check_results.c.at < end)
            .order_by(check_results.c.at)
        ).all()
        known = [(percent, row.message) for row in rows if (percent := _percent(row.data)) is not None]
        if known:
            last, message = known[-1]
            found.append(Resource(name, check.kind, last, max(percent for percent, _ in known), message))
    return tuple(found)


def _percent(data: Any) -> float | None:
    value = data.get("percent") if isinstance(data, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _breakers(connection: sa.Connection, start: datetime, end: datetime) -> dict[str, tuple[Transition, ...]]:
    """Of each breaker the transitions within the period, and the one that its state at the start is from."""
    table = breaker_transitions
    last_before = (
        sa.select(table.c.breaker, sa.func.max(table.c.epoch).label("epoch"))
        .where(table.c.at < start)
        .group_by(table.c.breaker)
        .subquery()
    )
    columns = (table.c.breaker, table.c.at, table.c.from_state, table.c.to_state, table.c.details)
    earlier = sa.select(*columns).join(
        last_before, sa.and_(table.c.breaker == last_before.c.breaker, table.c.epoch == last_before.c.epoch)
    )
    within = sa.select(*columns).where(table.c.at >= start, table.c.at < end).order_by(table.c.epoch)
    found: dict[str, tuple[Transition, ...]] = {}
    for row in (*connection.execute(earlier), *connection.execute(within)):
        gap = isinstance(row.details, dict) and bool(row.details.get("gap"))
        change = Transition(row.breaker, row.at, row.from_state, row.to_state, gap)
        found[row.breaker] = (*found.get(row.breaker, ()), change)
    return dict(sorted(found.items()))


def _recoveries(connection: sa.Connection, start: datetime, end: datetime) -> tuple[ServiceRecovery, ...]:
    """Services that something was tried for, that came back, or that a person was called for."""
    attempts = sa.select(recoveries.c.service, recoveries.c.kind, recoveries.c.outcome).where(
        recoveries.c.started_at >= start, recoveries.c.started_at < end
    )
    outcomes: dict[str, Counter[str]] = {}
    tests: Counter[str] = Counter()
    for service, kind, outcome in connection.execute(attempts):
        counted = outcomes.setdefault(service, Counter())
        if kind == "test":
            tests[service] += 1
        else:
            counted[outcome or "under way"] += 1
    events = sa.select(recovery_events.c.subject, recovery_events.c.event, recovery_events.c.data).where(
        recovery_events.c.at >= start,
        recovery_events.c.at < end,
        recovery_events.c.event.in_(("recovered", "locked")),
    )
    down: dict[str, list[float]] = {}
    locked: Counter[str] = Counter()
    for service, event, data in connection.execute(events):
        outcomes.setdefault(service, Counter())
        if event == "locked":
            locked[service] += 1
        elif isinstance(seconds := data.get("seconds"), int | float):
            down.setdefault(service, []).append(float(seconds))
    return tuple(
        ServiceRecovery(
            name, dict(outcomes[name]), tests[name], tuple(sorted(down.get(name, ()))), locked[name]
        )
        for name in sorted(outcomes)
    )


def _jobs(connection: sa.Connection, start: datetime, end: datetime) -> tuple[Job, ...]:
    """The scheduled jobs in their usual order (run or not), then any other that ran."""
    rows = connection.execute(
        sa.select(
            job_runs.c.job,
            job_runs.c.outcome,
            sa.func.count().label("runs"),
            sa.func.max(job_runs.c.duration).label("longest"),
            sa.func.max(job_runs.c.started_at).label("last_at"),
        )
        .where(job_runs.c.started_at >= start, job_runs.c.started_at < end)
        .group_by(job_runs.c.job, job_runs.c.outcome)
    ).all()
    names = (*JOBS, *sorted({row.job for row in rows} - set(JOBS)))
    return tuple(_job(connection, name, [row for row in rows if row.job == name]) for name in names)


def _job(connection: sa.Connection, name: str, rows: list[Any]) -> Job:
    if not rows:
        return Job(name)
    last = max(rows, key=lambda row: row.last_at)
    failed = next((row for row in rows if row.outcome == "failed"), None)
    return Job(
        name=name,
        outcomes={row.outcome: row.runs for row in sorted(rows, key=lambda row: row.outcome)},
        longest=max(row.longest for row in rows),
        last_at=last.last_at,
        last_outcome=last.outcome,
        last_error=_error_of(connection, name, failed.last_at) if failed else None,
    )


def _error_of(connection: sa.Connection, job: str, at: datetime) -> str | None:
    query = (
        sa.select(job_runs.c.summary)
        .where(job_runs.c.job == job, job_runs.c.started_at == at, job_runs.c.outcome == "failed")
        .limit(1)
    )
    summary = connection.execute(query).scalar_one_or_none()
    return str(summary["error"]) if isinstance(summary, dict) and "error" in summary else None


def _removed(connection: sa.Connection, start: datetime, end: datetime) -> dict[str, dict[str, int | float]]:
    """The counts of the clean-up jobs, added up over the period. A dry run removed nothing."""
    rows = connection.execute(
        sa.select(job_runs.c.job, job_runs.c.summary).where(
            job_runs.c.job.in_(CLEAN_UP), job_runs.c.started_at >= start, job_runs.c.started_at < end
        )
    )
    totals: dict[str, dict[str, int | float]] = {job: {} for job in CLEAN_UP}
    for job, summary in rows:
        for name, value in _counts(job, summary):
            totals[job][name] = totals[job].get(name, 0) + value
    return totals


def _counts(job: str, summary: Any) -> Iterable[tuple[str, int | float]]:
    if not isinstance(summary, dict) or summary.get("dry_run"):
        return
    for name in CLEAN_UP[job]:
        value = summary.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
