"""The points that trends are drawn through, out of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import fmean, median
from typing import Any

import sqlalchemy as sa

from regrow import jobs
from regrow.database import Database
from regrow.database.tables import breaker_transitions, capture_events, check_results, job_runs
from regrow.engine import Engine

Points = list[tuple[datetime, float]]

USE_WINDOW, USE_STEP = timedelta(hours=24), timedelta(minutes=15)
"""Of disks and memory: what fills them may be quick."""
LATENCY_WINDOW = timedelta(days=3)
COUNT_DAYS = 28
KNOWN = ("healthy", "degraded", "unhealthy")


def use_of(database: Database, check: str, now: datetime) -> Points:
    """Percent in use that a check of disk or memory found, by the quarter of an hour."""
    query = sa.select(check_results.c.at, check_results.c.data).where(
        check_results.c.check_name == check,
        check_results.c.at > now - USE_WINDOW,
        check_results.c.at <= now,
        check_results.c.status.in_(KNOWN),
    )
    steps: dict[int, list[float]] = {}
    with database.snapshot() as connection:
        for row in connection.execute(query):
            data: Mapping[str, Any] = row.data
            if (percent := data.get("percent")) is not None:
                use = max(float(percent), float(data.get("inodes_percent", 0.0)))
                steps.setdefault(int((now - row.at) / USE_STEP), []).append(use)
    return [(now - step * USE_STEP, median(values)) for step, values in steps.items()]


def latency_of(database: Database, check: str, now: datetime) -> Points:
    """The mean latency of a check while it was up, by the hour; seconds."""
    hour = sa.func.substr(sa.cast(check_results.c.at, sa.String(32)), 1, 13).label("hour")
    query = (
        sa.select(hour, sa.func.avg(check_results.c.latency))
        .where(
            check_results.c.check_name == check,
            check_results.c.at > now - LATENCY_WINDOW,
            check_results.c.at <= now,
            check_results.c.status.in_(("healthy", "degraded")),
        )
        .group_by(hour)
    )
    with database.snapshot() as connection:
        rows = connection.execute(query).all()
    return [(datetime.fromisoformat(f"{told}:00").replace(tzinfo=UTC), float(mean)) for told, mean in rows]


def openings(database: Database, now: datetime) -> Iterator[tuple[str, Points]]:
    """How often each breaker opened, by the day (UTC), from the first day that its history has."""
    day = sa.func.date(breaker_transitions.c.at)
    name = breaker_transitions.c.breaker
    since, until = _days(now)
    opened = sa.and_(breaker_transitions.c.to_state == "open", breaker_transitions.c.from_state != "open")
    query = (
        sa.select(name, day, sa.func.count())
        .where(breaker_transitions.c.at >= since, breaker_transitions.c.at < until, opened)
        .group_by(name, day)
    )
    first = sa.select(name, sa.func.min(breaker_transitions.c.at, type_=breaker_transitions.c.at.type))
    counts: dict[str, Counter[date]] = {}
    with database.snapshot() as connection:
        for breaker, told, count in connection.execute(query):
            counts.setdefault(breaker, Counter())[_date(told)] = count
        found_first = connection.execute(first.where(name.in_(counts)).group_by(name))
        begins = {row[0]: row[1] for row in found_first}
    for breaker, found in sorted(counts.items()):
        yield breaker, _by_day(found, max(since, begins[breaker]), until)


def letters(database: Database, now: datetime) -> Points:
    """Dead letters captured, by the day (UTC), from the first day there were any."""
    at = capture_events.c.received_at
    since, until = _days(now)
    day = sa.func.date(at)
    query = sa.select(day, sa.func.count()).where(at >= since, at < until).group_by(day)
    with database.snapshot() as connection:
        found = Counter({_date(told): count for told, count in connection.execute(query)})
        first = connection.execute(sa.select(sa.func.min(at, type_=at.type))).scalar()
    return _by_day(found, max(since, first), until) if first is not None else []


def fallbacks(engine: Engine, now: datetime, job: str) -> Iterator[tuple[str, Points]]:
    """Answers that fallbacks gave, by service and hour, from what the runs of ``job`` saw of the counters."""
    query = (
        sa.select(job_runs.c.started_at, job_runs.c.summary)
        .where(job_runs.c.job == job, job_runs.c.started_at > now - timedelta(days=COUNT_DAYS))
        .order_by(job_runs.c.started_at)
    )
    seen: dict[str, Points] = {}
    with engine.database.snapshot() as connection:
        for row in connection.execute(query):
            for service, count in (row.summary.get("fallbacks") or {}).items():
                seen.setdefault(service, []).append((row.started_at, float(count)))
    for service, standings in sorted(seen.items()):
        yield service, _per_hour(standings)


def _per_hour(standings: Sequence[tuple[datetime, float]]) -> Points:
    """Increments of a counter, which begins anew when it is smaller than before, as rates an hour."""
    hours: dict[datetime, list[float]] = {}
    for (before, old), (at, new) in pairwise(standings):
        apart = (at - before).total_seconds() / 3600
        if 0 < apart <= 2:  # after a longer pause nobody knows when they were
            grown = new - old if new >= old else new
            hours.setdefault(at.replace(minute=0, second=0, microsecond=0), []).append(grown / apart)
    return [(hour, fmean(rates)) for hour, rates in hours.items()]


def runs_kept(engine: Engine, job: str) -> jobs.JobRun | None:
    """The newest run that came to an end."""
    return next((run for run in jobs.recent(engine, job, 5) if run.outcome in {"succeeded", "partial"}), None)


def _days(now: datetime) -> tuple[datetime, datetime]:
    """The last whole days, UTC."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=COUNT_DAYS), today


def _date(told: str | date) -> date:
    return date.fromisoformat(told) if isinstance(told, str) else told


def _by_day(counts: Mapping[date, int], since: datetime, until: datetime) -> Points:
    """A point a day, with zeros for days without any."""
    first = since.replace(hour=0, minute=0, second=0, microsecond=0)
    days = (first + timedelta(days=n) for n in range((until - first).days))
    return [(day, float(counts.get(day.date(), 0))) for day in days]
