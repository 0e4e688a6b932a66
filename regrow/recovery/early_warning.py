"""Early warnings: what is well now and will not be for long. An event of low severity, never an act.

Looked at are the latency of checks, against what they call slow (or their timeout), and the failure rate of
breakers, against the rate that opens them. The rates are sampled by this very job and kept in Redis.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

import redis
import sqlalchemy as sa
import structlog

from regrow.breakers import list_breakers
from regrow.database.tables import check_results
from regrow.engine import Engine
from regrow.errors import StoreUnavailableError
from regrow.recovery.store import Event, Recoveries
from regrow.recovery.trends import Point, Trend, warning

logger = structlog.get_logger(__name__)

WINDOW = timedelta(minutes=30)
"""How far back points count."""
HORIZON = 1800.0
"""Seconds ahead in which a crossing is worth a word; a subject is told once in that time."""
_KEPT = 64
_TIMED = frozenset({"http", "tcp", "redis", "database", "mysql"})


@dataclass(frozen=True)
class Figure:
    """One figure of one subject, its points and the threshold it must not cross."""

    subject: str
    what: str
    unit: str
    threshold: float
    points: list[Point]


def watch_trends(engine: Engine) -> dict[str, Any]:
    """Look at all figures and write the warnings down. Keys: ``figures``, ``warnings`` (subjects).

    With Redis away only the checks are looked at. StoreUnavailableError without the database.
    """
    now = engine.clock()
    figures = [*_latencies(engine, now), *_failure_rates(engine, now)]
    found = [(figure, trend) for figure in figures if (trend := _trend(figure)) is not None]
    store = Recoveries(engine.database)
    told = (
        {event.subject for event in store.events(now - timedelta(seconds=HORIZON), "early_warning")}
        if found
        else set()
    )
    events = [_event(figure, trend, now) for figure, trend in found if _name(figure) not in told]
    store.tell(events)
    for event in events:
        logger.info("recovery.early_warning", subject=event.subject, message=event.message, **event.data)
    return {"figures": len(figures), "warnings": [event.subject for event in events]}


def _trend(figure: Figure) -> Trend | None:
    return warning(figure.points, figure.threshold, HORIZON)


def _name(figure: Figure) -> str:
    return f"{figure.what}:{figure.subject}"[:190]


def _event(figure: Figure, trend: Trend, now: datetime) -> Event:
    minutes = max(1, round(trend.crosses_in / 60))
    said = (
        f"the {figure.what} of {figure.subject} rises: {trend.value:.3g}{figure.unit} now, "
        f"{figure.threshold:.3g}{figure.unit} in about {minutes} min"
    )
    data = {
        "value": round(trend.value, 6),
        "threshold": figure.threshold,
        "per_hour": round(trend.per_hour, 6),
        "crosses_in": round(trend.crosses_in, 1),
        "points": trend.points,
    }
    return Event(now, _name(figure), "early_warning", "low", said, data)


def _latencies(engine: Engine, now: datetime) -> Iterable[Figure]:
    checks = {
        name: check
        for name, check in engine.settings.health.checks.items()
        if check.enabled and check.kind in _TIMED
    }
    points: dict[str, list[Point]] = {name: [] for name in checks}
    query = sa.select(check_results.c.check_name, check_results.c.at, check_results.c.latency).where(
        check_results.c.at > now - WINDOW,
        check_results.c.check_name.in_(sorted(checks)),
        check_results.c.status.in_(("healthy", "degraded")),
    )
    with engine.database.snapshot() as connection:
        for row in connection.execute(query):
            points[row.check_name].append(Point(row.at, row.latency))
    for name, check in checks.items():
        slow = getattr(check, "slow", None)
        yield Figure(name, "latency", " s", float(slow or check.timeout), points[name])


def _failure_rates(engine: Engine, now: datetime) -> Iterable[Figure]:
    try:
        for breaker in list_breakers(engine.redis):
            calls = breaker.successes + breaker.failures
            if breaker.reporter or breaker.state != "closed" or calls < breaker.config.minimum_requests:
                continue
            points = _sampled(engine, breaker.name, now, breaker.failures / calls)
            yield Figure(breaker.name, "failure rate", "", breaker.config.failure_rate, points)
    except (StoreUnavailableError, redis.RedisError) as error:
        logger.warning("recovery.rates_unknown", error=str(error))


def _sampled(engine: Engine, breaker: str, now: datetime, rate: float) -> list[Point]:
    """Keep this sample; all that are kept of the window."""
    key = f"regrow:{{recovery}}:rate:{breaker}"
    with engine.redis.pipeline(transaction=True) as pipe:
        pipe.lpush(key, json.dumps([now.timestamp(), rate]))
        pipe.ltrim(key, 0, _KEPT - 1)
        pipe.expire(key, WINDOW)
        pipe.lrange(key, 0, -1)
        kept = cast("list[str]", pipe.execute()[-1])
    pairs = (json.loads(text) for text in kept)
    points = [Point(datetime.fromtimestamp(at, now.tzinfo), value) for at, value in pairs]
    return [point for point in points if point.at > now - WINDOW]
