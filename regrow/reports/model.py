"""The report as a JSON object: the one truth that Markdown, HTML and the digest are made from.

Times are ISO 8601 in UTC, durations are seconds, shares are 0..1 rounded to six digits. What is not known
is null, never a number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from statistics import median
from typing import Any

from regrow.reports import measures_told as told
from regrow.reports import of_alerts, of_counts, rules, wording
from regrow.reports.measures_told import iso, share
from regrow.reports.sources import Facts, Job, ServiceRecovery, Snapshot

SCHEMA = 1


def build(kind: str, facts: Facts, snapshot: Snapshot, *, target: float, zone: str = "UTC") -> dict[str, Any]:
    """The whole report. ``now`` is how things stood when it was made, all the rest is the period's."""
    body = {
        "schema": SCHEMA,
        "kind": kind,
        "period": {
            "start": iso(facts.start),
            "end": iso(facts.end),
            "seconds": _seconds(facts),
            "zone": zone,
            "parts": [(ends - begins).total_seconds() for begins, ends in pairwise(facts.edges)],
        },
        "left_out": dict(facts.left_out),
        "target": target,
        "checks": [told.check(check, target, facts.edges) for check in facts.measures.checks],
        "objectives": [told.promise(one) for one in facts.measures.promises],
        "incidents": told.incidents(facts.measures),
        "alerts": of_alerts.told(facts.alerts, facts.start),
        "requests": [told.requests(window) for window in facts.measures.requests],
        "resources": [
            {
                "name": resource.name,
                "kind": resource.kind,
                "last_percent": round(resource.last, 2),
                "max_percent": round(resource.largest, 2),
                "message": resource.message,
            }
            for resource in facts.resources
        ],
        "breakers": [_breaker(name, facts) for name in facts.breakers],
        "recoveries": [_recovery(service) for service in facts.recoveries],
        "retries": of_counts.retries(facts.counted),
        "fallbacks": of_counts.fallbacks(facts.counted),
        "dead_letters": dict(facts.letters),
        "degradation": {level: spent.total_seconds() for level, spent in facts.levels.items()},
        "jobs": [_job(job) for job in facts.jobs],
        "clean_up": [{"job": job, "totals": dict(totals)} for job, totals in facts.removed.items()],
        "now": {
            "at": iso(snapshot.at),
            "dead_letters": dict(snapshot.letters),
            "oldest_unsettled": iso(snapshot.oldest_unsettled),
            "forecast": told.forecast(snapshot.forecast),
        },
    }
    return {**body, "headline": headline(body)}


def text_of(report: Mapping[str, Any]) -> str:
    """The JSON text that is kept and that the digest is taken of: keys sorted, one way to write it."""
    return json.dumps(report, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1)


def facts_digest(report: Mapping[str, Any]) -> str:
    """A digest of what the period held, leaving out what depends on the moment the report was made."""
    lasting = {name: value for name, value in report.items() if name not in {"now", "headline"}}
    return hashlib.sha256(text_of(lasting).encode()).hexdigest()


def headline(report: Mapping[str, Any]) -> str:
    """The report in one line: what needs attention first, and only then what is well."""
    checks = report["checks"]
    down = [check for check in checks if check["seconds"]["down"] > 0]
    vague = [check for check in checks if not check["sufficient"]]
    parts = []
    if down:
        worst = min(down, key=lambda check: check["uptime"])
        share = wording.percent(worst["uptime"])
        parts.append(f"{_counted(len(down), 'check')} down at times, worst {worst['name']} at {share}")
    if vague:
        parts.append(f"too little known of {_counted(len(vague), 'check')}")
    if well := len(checks) - len({check["name"] for check in (*down, *vague)}):
        parts.append(f"{_counted(well, 'check')} without downtime")
    if not checks:
        parts.append("no checks")
    parts += _promises_broken(report)
    parts += of_alerts.headline(report) if "alerts" not in report["left_out"] else []
    if openings := sum(breaker["openings"] for breaker in report["breakers"]):
        parts.append(_counted(openings, "breaker opening"))
    if reduced := sum(report["degradation"].get(level, 0.0) for level in REDUCED):
        parts.append(f"degraded for {wording.lasted(reduced)}")
    parts += _left_to_a_person(report)
    captured = report["dead_letters"].get("captured", 0)
    pending = sum(report["now"]["dead_letters"].get(state, 0) for state in WAITING)
    quarantined = report["now"]["dead_letters"].get("quarantined", 0)
    if captured or pending:
        parts.append(f"{_counted(captured, 'dead letter')} captured, {pending} waiting")
    if quarantined:
        parts.append(f"{quarantined} in quarantine")
    if failed := sum(job["failed"] for job in report["jobs"]):
        parts.append(f"{_counted(failed, 'job run')} failed")
    return "; ".join(parts)


def _promises_broken(report: Mapping[str, Any]) -> list[str]:
    missed = sum(one["met"] is False for one in report["objectives"])
    found = [f"{_counted(missed, 'objective')} missed"] if missed else []
    lasted, still = report["incidents"]["count"], report["incidents"]["open"]
    if lasted:
        found.append(_counted(lasted, "incident") + (f", {still} open" if still else ""))
    return found


REDUCED = ("minor", "moderate", "severe", "critical")
WAITING = ("pending", "leased", "dispatched")


def _left_to_a_person(report: Mapping[str, Any]) -> list[str]:
    locked = sum(service["locked"] for service in report["recoveries"])
    return [f"{_counted(locked, 'service')} left to a person"] if locked else []


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _breaker(name: str, facts: Facts) -> dict[str, Any]:
    spent = rules.breaker_time(name, facts.breakers[name], facts.start, facts.end)
    return {
        "name": name,
        "openings": spent.openings,
        "open_seconds": spent.open.total_seconds(),
        "half_open_seconds": spent.half_open.total_seconds(),
        "state_at_end": spent.state,
        "gaps": spent.gaps,
    }


def _recovery(service: ServiceRecovery) -> dict[str, Any]:
    """``success_ratio`` is of attempts that ended and counted; null without one."""
    worked = service.outcomes.get("succeeded", 0)
    ended = worked + sum(service.outcomes.get(name, 0) for name in ("failed", "lost"))
    return {
        "name": service.name,
        "attempts": sum(service.outcomes.values()),
        "outcomes": dict(sorted(service.outcomes.items())),
        "success_ratio": share(worked / ended) if ended else None,
        "tests_passed": service.tests,
        "came_back": len(service.down),
        "median_seconds_down": median(service.down) if service.down else None,
        "longest_seconds_down": max(service.down, default=None),
        "locked": service.locked,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "runs": sum(job.outcomes.values()),
        "failed": job.outcomes.get("failed", 0),
        "outcomes": dict(job.outcomes),
        "longest_seconds": None if job.longest is None else round(job.longest, 3),
        "last_at": iso(job.last_at),
        "last_outcome": job.last_outcome,
        "last_error": job.last_error,
    }


def _seconds(facts: Facts) -> float:
    return (facts.end - facts.start).total_seconds()
