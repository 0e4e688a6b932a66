"""Trends as the job, the command line, reports, alerts and pages ask for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import redis
import structlog

from regrow import counters
from regrow.capacity import sources
from regrow.capacity.rules import Kind, Trend, trend
from regrow.engine import Engine

logger = structlog.get_logger(__name__)

JOB = "forecast_capacity"
STALE = timedelta(hours=1)
"""What the job found longer ago than this says nothing about now."""
_LONGEST = 60.0
_TIMED = frozenset({"http", "tcp", "redis", "database", "mysql"})


@dataclass(frozen=True)
class Forecast:
    """What the last run of the job found. ``trends``: those that go anywhere; ``looked_at``: of how many."""

    at: datetime
    looked_at: int
    trends: tuple[Trend, ...]


def trends(engine: Engine, now: datetime) -> list[Trend]:
    """Every figure with what is known of where it goes, reckoned now. StoreUnavailableError: no database.

    It reads three days of results: for pages and alerts there is :func:`latest`.
    """
    return list(_trends(engine, now))


def forecast(engine: Engine) -> dict[str, Any]:
    """What the job keeps in its run. Keys: ``looked_at``, ``trends`` (those that go anywhere), ``left_out``
    (nobody had time for them), ``fallbacks`` (the counters now; the next runs' history)."""
    began, found, left_out = time.monotonic(), [], False
    for one in _trends(engine, engine.clock()):
        found.append(one)
        if time.monotonic() - began > _LONGEST:
            left_out = True
            break
    going = [one.as_dict() for one in found if one.told]
    return {
        "looked_at": len(found),
        "trends": going,
        "left_out": left_out,
        "fallbacks": _fallback_counters(engine),
    }


def latest(engine: Engine, now: datetime) -> Forecast | None:
    """What the job found within the last hour; None: nobody looked, so nothing is known."""
    run = sources.runs_kept(engine, JOB)
    if run is None or now - run.started_at > STALE:
        return None
    return forecast_of(run.started_at, run.summary)


def forecast_of(at: datetime, summary: dict[str, Any]) -> Forecast:
    """The forecast that a run's summary tells."""
    return Forecast(at, summary["looked_at"], tuple(Trend(**told) for told in summary["trends"]))


def filling(engine: Engine, now: datetime, within: timedelta = timedelta(days=1)) -> list[Trend] | None:
    """Disks and memory that will be full within this time, the first one first; None: it is not known."""
    found = latest(engine, now)
    if found is None:
        return None
    passed = (now - found.at).total_seconds()
    soon = [one for one in found.trends if one.full_in is not None]
    return sorted(
        (one for one in soon if (one.full_in or 0.0) - passed <= within.total_seconds()),
        key=lambda one: one.full_in or 0.0,
    )


def _trends(engine: Engine, now: datetime) -> Iterator[Trend]:
    database = engine.database
    checks = {name: one for name, one in engine.settings.health.checks.items() if one.enabled}
    for name, check in checks.items():
        if check.kind in {"disk", "memory"}:
            kind: Kind = "disk" if check.kind == "disk" else "memory"
            yield trend(kind, name, "%", sources.use_of(database, name, now), limit=100.0)
    yield trend("letters", "all", "letters/day", sources.letters(database, now))
    for name, points in sources.openings(database, now):
        yield trend("breaker_openings", name, "openings/day", points)
    for name, points in sources.fallbacks(engine, now, JOB):
        yield trend("fallbacks", name, "answers/hour", points)
    for name, check in checks.items():
        if check.kind in _TIMED:
            yield trend("check_latency", name, "s", sources.latency_of(database, name, now))


def _fallback_counters(engine: Engine) -> dict[str, int] | None:
    """The counters now, by service; None while Redis is away."""
    try:
        found = counters.read(engine).get("fallback_usage_total", {})
    except redis.RedisError as error:
        logger.warning("capacity.fallbacks_unknown", error=str(error))
        return None
    return {dict(labels).get("service", ""): count for labels, count in found.items()}
