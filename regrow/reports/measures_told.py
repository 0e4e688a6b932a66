"""Checks, objectives, incidents, requests and forecasts as JSON values; see ``regrow.reports.model``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from regrow.capacity.service import Forecast
from regrow.incidents import service as of_incidents
from regrow.incidents.model import Incident, name_of
from regrow.latency_buckets import Buckets, percentile
from regrow.reports.measures import Check, Measures, Promise
from regrow.requests.reading import Window
from regrow.slo import ledger
from regrow.slo.ledger import State

LETTERS_OF_STATES = {
    State.UP: "u",
    State.DEGRADED: "g",
    State.DOWN: "d",
    State.UNKNOWN: "x",
    State.MAINTENANCE: "m",
    State.PAUSED: "p",
}
PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def check(one: Check, target: float, edges: Sequence[datetime]) -> dict[str, Any]:
    account = one.account
    low, high = account.bounds
    return {
        "name": one.name,
        "kind": one.kind,
        "required": one.required,
        "words": ledger.uptime_words(account),
        "uptime": share(account.uptime),
        "bounds": [share(low), share(high)],
        "confidence_low": share(ledger.confidence_low(account)),
        "coverage": share(account.coverage),
        "sufficient": account.sufficient,
        "target_met": ledger.target_met(account, target),
        "seconds": {
            state: getattr(account, state).total_seconds()
            for state in ("up", "degraded", "down", "unknown", "maintenance", "paused")
        },
        "probes": account.probes,
        "outages": len(one.outages),
        "longest_outage": max(one.outages, default=ledger.NOTHING).total_seconds(),
        "last_message": one.last_message,
        "latency": latency(one.latency),
        "strip": {
            "seconds": (edges[-1] - edges[0]).total_seconds() / len(one.states),
            "states": "".join(LETTERS_OF_STATES[state] for state in one.states),
        },
    }


def latency(buckets: Buckets) -> dict[str, float | int | None]:
    """Seconds, from merged buckets; ``count``: of how many. Null without any."""
    found: dict[str, float | int | None] = {"count": sum(buckets.values())}
    return found | {name: rounded(percentile(buckets, part)) for name, part in PERCENTILES.items()}


def promise(one: Promise) -> dict[str, Any]:
    """``value``: uptime, seconds, share of failed requests or requests a second; ``promised`` likewise."""
    standing = one.standing
    objective, account, measured = standing.objective, standing.account, standing.measured
    found = {
        "name": objective.name,
        "kind": objective.kind,
        "declared": objective.declared,
        "target": objective.target,
        "promised": objective.target if account else measured.promised if measured else objective.limit,
        "window_seconds": objective.window.total_seconds(),
        "met": standing.met,
        "why": standing.why,
        "value": share(account.uptime) if account else rounded(measured.value) if measured else None,
        "coverage": share(account.coverage) if account else share(measured.coverage) if measured else 0.0,
        "bounds": [share(bound) for bound in account.bounds] if account else None,
        "requests": measured.requests if measured else None,
        "budget": None,
        "burn": None,
        "exhausted_in_seconds": _seconds(standing.exhausted_in),
        "budget_left": [rounded(left) for left in one.left],
    }
    if standing.budget is not None:
        found["budget"] = {
            "total_seconds": rounded(standing.budget.total.total_seconds()),
            "spent_seconds": rounded(standing.budget.spent.total_seconds()),
            "remaining": rounded(standing.budget.remaining),
        }
        found["burn"] = {
            f"{length // timedelta(hours=1)}h": rounded(rate)
            for length, rate in sorted(standing.burns.items())
        }
    return found


def incidents(measures: Measures) -> dict[str, Any]:
    """Those of the period and their mean times. MTBF is of checks: their time up, by incident."""
    uptime = sum((one.account.up for one in measures.checks), timedelta())
    times = of_incidents.mean_times_of(measures.incidents, uptime)
    spreads = {
        "mttd": times.detect,
        "mtta": times.acknowledge,
        "mttr": times.resolve,
    }
    between = times.between_failures
    return {
        "count": len(measures.incidents),
        "open": sum(one.is_open for one in measures.incidents),
        "listed": [_incident(one) for one in measures.incidents],
        "times": {
            name: {
                "n": spread.n,
                "mean": rounded(spread.mean),
                "median": rounded(spread.median),
                "p90": rounded(spread.p90),
                "not_yet": list(spread.censored),
            }
            for name, spread in spreads.items()
        },
        "mtbf": {
            "n": between.n,
            "mean": rounded(between.mtbf),
            "low": rounded(between.low),
            "high": rounded(between.high),
        },
    }


def _incident(one: Incident) -> dict[str, Any]:
    return {
        "id": one.id,
        "title": one.title,
        "kind": one.kind,
        "severity": one.severity,
        "status": one.status,
        "root": name_of(one.root),
        "root_cause": one.root_cause,
        "began_at": iso(one.began_at),
        "detected_at": iso(one.detected_at),
        "acknowledged_at": iso(one.acknowledged_at),
        "resolved_at": iso(one.resolved_at),
        "reopened": one.reopened,
    }


def requests(window: Window) -> dict[str, Any]:
    """Of one service. ``throughput``: requests a second over the minutes that are known."""
    return {
        "service": window.service,
        "count": window.count,
        "failed": window.failed,
        "failure_rate": rounded(window.failure_rate),
        "latency": latency(window.buckets),
        "throughput": rounded(window.per_second),
        "busiest": [
            {"at": iso(hour.starts_at), "throughput": rounded(hour.per_second)} for hour in window.busiest()
        ],
        "coverage": share(window.coverage),
    }


def forecast(found: Forecast | None) -> dict[str, Any] | None:
    """Trends that go anywhere; null when nobody looked within the hour before."""
    if found is None:
        return None
    return {
        "at": iso(found.at),
        "looked_at": found.looked_at,
        "trends": [one.as_dict() for one in found.trends],
    }


def iso(moment: datetime | None) -> str | None:
    """UTC with a Z; fractions of a second only where there are any."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def share(value: float | None) -> float | None:
    """Rounded down, so that a share just below one never reads as one."""
    return None if value is None else int(value * 1_000_000) / 1_000_000


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
