"""What needs a person's attention, worst first. Rules: facts in, notices out.

Nothing is healthy by default: a store that is away and a job that went silent are notices too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from regrow.alerts.store import Kept
from regrow.breakers import BreakerStatus
from regrow.dead_letters.ledger import Ledger
from regrow.degradation.service import Status as LevelStatus
from regrow.health.rules import Overview, Status, hanging
from regrow.incidents.model import Incident
from regrow.metrics import LetterCounts
from regrow.recovery.service import ServiceStatus
from regrow.web.jobs import JobView
from regrow.web.reading import Fact, Known, Unknown
from regrow.web.wording import counted, every, listed, plain, span

_FEW = 2
_WHO_RUNS = "Are a worker and beat running?"
_BEAT = {
    "ticking": "Beat ticks, but not all is well with it",
    "stalled": "Beat is stalled: no check is begun any more",
    "dead": "Beat is dead: no check is begun any more",
    "unknown": "Nothing is known of beat, which has the checks run",
}
_WORST_FIRST = {"unhealthy": 0, "unknown": 1, "degraded": 2, "healthy": 3}


@dataclass(frozen=True)
class Notice:
    """One thing to look at: what, why or what to do, and where on the page it is told in full."""

    status: Status
    what: str
    why: str
    anchor: str


def notices(
    checks: Fact[Overview],
    jobs: Fact[Sequence[JobView]],
    breakers: Fact[Sequence[BreakerStatus]],
    letters: Fact[LetterCounts],
    ledger: Fact[Ledger],
    level: Fact[LevelStatus],
    recovery: Fact[Sequence[ServiceStatus]],
    incidents: Fact[Sequence[Incident]],
    alerts: Fact[Sequence[Kept]],
) -> list[Notice]:
    """All notices; an empty list means that all is known and well."""
    found = [
        *_of_stores(
            {"Health checks": checks, "Circuit breakers": breakers, "The level": level},
            {
                "Jobs": jobs,
                "Dead letters": letters,
                "Ledger": ledger,
                "Recovery": recovery,
                "Incidents": incidents,
                "Alerts": alerts,
            },
        ),
        *(_of_checks(checks.value) if isinstance(checks, Known) else ()),
        *(_of_jobs(jobs.value) if isinstance(jobs, Known) else ()),
        *(_of_breakers(breakers.value) if isinstance(breakers, Known) else ()),
        *(_of_level(level.value) if isinstance(level, Known) else ()),
        *(_of_incidents(incidents.value) if isinstance(incidents, Known) else ()),
        *(_of_alerts(alerts.value) if isinstance(alerts, Known) else ()),
        *(_of_recovery(recovery.value) if isinstance(recovery, Known) else ()),
        *(_of_letters(letters.value) if isinstance(letters, Known) else ()),
        *(_of_ledger(ledger.value) if isinstance(ledger, Known) else ()),
    ]
    return sorted(found, key=lambda notice: _WORST_FIRST[notice.status])


def _of_stores(live: dict[str, Fact[Any]], kept: dict[str, Fact[Any]]) -> Iterator[Notice]:
    for store, told in (("Redis", live), ("the database", kept)):
        missing = {name: fact.why for name, fact in told.items() if isinstance(fact, Unknown)}
        if missing:
            names = listed(list(missing)).lower()
            why = next(iter(missing.values()))
            yield Notice("unknown", f"{names[0].upper()}{names[1:]} cannot be read from {store}", why, "")


def _of_checks(overview: Overview) -> Iterator[Notice]:
    silent = [check for check in overview.checks if check.confirmed == "unknown"]
    if silent and len(silent) == len(overview.checks):
        yield Notice(
            "unknown",
            "Nothing is known about any check",
            f"{overview.message}. {_WHO_RUNS}",
            "checks",
        )
        return
    yield from _of_beat(overview)
    behind = hanging(overview.checks)
    because = Counter(behind.values())
    for check in overview.checks:
        if check.word == "healthy" or check.name in behind:
            continue  # who is down because of another is counted there
        what = f"{check.name} is {check.word}"
        if check.maintenance is not None:
            what += ", in maintenance"
        if more := because[check.name]:
            what += f", and {counted(more, 'check')} because of it"
        yield Notice(check.counts_as, what, check.message, "checks")


def _of_beat(overview: Overview) -> Iterator[Notice]:
    """Beat has the checks run: when it stops, its own check stops too, and says on what it said last."""
    beat = overview.beat
    told = any(check.kind == "celery_beat" and check.word != "healthy" for check in overview.checks)
    if beat is not None and beat.status != "healthy" and not told:
        yield Notice(beat.status, _BEAT[beat.data["verdict"]], beat.message, "checks")


def _of_jobs(jobs: Iterable[JobView]) -> Iterator[Notice]:
    jobs = list(jobs)
    yield from _of_late_jobs([job for job in jobs if job.pace == "overdue"])
    for job in jobs:
        if job.pace == "on time" and job.run and job.run.outcome in {"failed", "partial"}:
            word = "failed" if job.run.outcome == "failed" else "succeeded only in part"
            yield Notice(job.status, f"{job.title}: the last run {word}", job.finding, "jobs")


def _of_late_jobs(late: Sequence[JobView]) -> Iterator[Notice]:
    """When several are late, it is not the jobs but who should run them: one notice."""
    if len(late) > _FEW:
        names = ", ".join(job.title for job in late)
        yield Notice("unknown", f"{len(late)} jobs are overdue", f"{names}. {_WHO_RUNS}", "jobs")
        return
    for job in late:
        why = f"it should run {every(job.interval)}. {_WHO_RUNS}"
        yield Notice("unknown", f"{job.title}: the job is overdue", why, "jobs")


def _of_breakers(breakers: Iterable[BreakerStatus]) -> Iterator[Notice]:
    for breaker in breakers:
        if breaker.override:
            why = f"by {breaker.override_actor}: {breaker.override_reason or 'no reason given'}"
            what = f"Circuit breaker {breaker.name} is {plain(breaker.override)}"
            yield Notice("degraded", what, why, "breakers")
        elif breaker.state != "closed":
            status: Status = "unhealthy" if breaker.state == "open" else "degraded"
            what = f"Circuit breaker {breaker.name} is {plain(breaker.state)}"
            yield Notice(status, what, _when_tried(breaker), "breakers")


def _when_tried(breaker: BreakerStatus) -> str:
    if breaker.state == "half_open":
        return "the next call is the probe that decides"
    return f"calls are refused; the first probe may go in {span(breaker.retry_after or 0)}"


def _of_level(level: LevelStatus) -> Iterator[Notice]:
    """A level that was never told is told by the checks and jobs that are missing."""
    if level.known and level.level == "normal" and level.ordered is None:
        return
    if not level.known:
        if level.since is not None:
            yield Notice("unknown", "The level of degradation is unknown", level.why, "degradation")
        return
    status: Status = "unhealthy" if level.level >= "severe" else "degraded"
    by = f" by hand, by {level.actor}" if level.ordered is not None else ""
    yield Notice(status, f"The level is {level.level}{by}", level.why, "degradation")


def _of_incidents(incidents: Sequence[Incident]) -> Iterator[Notice]:
    """What failed is told by itself; here is that somebody has to look after it."""
    left = [one for one in incidents if one.acknowledged_at is None]
    if left:
        why = listed([one.title for one in left[:_FEW]])
        more = f" and {len(left) - _FEW} more" if len(left) > _FEW else ""
        what = f"{counted(len(left), 'open incident')} that nobody looks after"
        blind = all(one.kind in {"unknown", "monitor"} for one in left)
        yield Notice("unknown" if blind else "unhealthy", what, f"{why}{more}", "incidents")


def _of_alerts(alerts: Sequence[Kept]) -> Iterator[Notice]:
    """Those of incidents are told with their incident."""
    left = [
        kept.alert for kept in alerts if kept.alert.incident is None and kept.alert.acknowledged_at is None
    ]
    told = [one for one in left if one.held_by is None]
    if told:
        why = listed([f"{plain(one.rule)} {one.subject}" for one in told[:_FEW]])
        more = f" and {len(told) - _FEW} more" if len(told) > _FEW else ""
        yield Notice("degraded", f"{counted(len(told), 'alert')} firing", f"{why}{more}", "incidents")


def _of_recovery(services: Iterable[ServiceStatus]) -> Iterator[Notice]:
    for service in services:
        if service.state == "locked":
            why = f"{service.why}. Mend it, then: regrow recovery unlock {service.name}"
            yield Notice("unhealthy", f"{service.name} could not be recovered", why, "recovery")


def _of_letters(letters: LetterCounts) -> Iterator[Notice]:
    if parked := letters.by_state.get("quarantined", 0):
        yield Notice(
            "degraded",
            f"{counted(parked, 'dead letter')} in quarantine",
            "parked until a person retries or discards them: regrow dead-letters list",
            "letters",
        )
    if letters.sources and (missing := letters.sources.missing):
        yield Notice(
            "unhealthy",
            f"{counted(missing, 'captured message')} missing",
            "accepted by an app's spool, and not arrived for 15 minutes: regrow dead-letters sources",
            "letters",
        )
    if letters.sources and (lost := letters.sources.lost):
        yield Notice(
            "degraded",
            f"{counted(lost, 'captured message')} lost",
            "damaged on the disk of an app: regrow dead-letters sources",
            "letters",
        )


def _of_ledger(ledger: Ledger) -> Iterator[Notice]:
    """Books that do not balance: a letter was lost, doubled, or moved past the books. Never to be ignored."""
    for account in ledger.unbalanced:
        off = ", ".join(
            f"{abs(by)} {name} {'missing' if by > 0 else 'too many'}"
            for name, by in account.differences.items()
        )
        yield Notice(
            "unhealthy",
            f"The ledger of {account.service} does not balance",
            f"{off}. See regrow dead-letters ledger, and docs/dead-letters.md for what may cause it",
            "letters",
        )
